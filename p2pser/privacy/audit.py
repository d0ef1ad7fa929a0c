"""The audit: a recorded run, the attacks on what each peer's neighbours received in it, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.features import clip_features
from p2pser.features.federation import Examples, Federation, normalised
from p2pser.features.normalisation import Statistics, statistics, steadied
from p2pser.gossip.mode import by_mode
from p2pser.graph.spec import Topology
from p2pser.models.rows import digest
from p2pser.privacy.algebra import solved
from p2pser.privacy.attacks import inversion, membership, shares, templates
from p2pser.privacy.attacks import statistics as sums_attacks
from p2pser.privacy.attacks.layers import first_layer, first_matrix
from p2pser.privacy.findings import Attack, Finding, auc, found_at
from p2pser.privacy.runs import RecordedRun, simulated
from p2pser.privacy.subjects import GROUPINGS, Shadow
from p2pser.privacy.tally import Tally, note
from p2pser.privacy.wire import View
from p2pser.run.setup import weighs
from p2pser.training.learner import Learner
from p2pser.training.local_work import learner

Scores = dict[tuple[str | int | None, ...], dict[str, float]]
"""The scores of names, such as those of speakers, by attack, corpus and peer."""

Source = Callable[[Config, Topology, Federation, tuple[int, ...], bool], RecordedRun]
"""Makes a run of (config, topology, federation, rounds to attack, whether observers rejoin)."""

ATTACKER = -1
"""The peer that keys the attacker's own draws: other peers' are their secret."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    findings : of all attacks. notes : sentences that its reader needs.
    """

    config: Config
    topology: Topology
    corpus: str
    colluding: int
    rejoins: bool
    seeds: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def exceeded(self) -> tuple[Finding, ...]:
        """The findings beyond their limits."""
        return tuple(finding for finding in self.findings if finding.exceeded)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"algorithm": self.config.gossip.algorithm, "topology": self.topology.name, "peers": self.topology.size,
                "corpus": self.corpus, "colluding": self.colluding, "rejoins": self.rejoins, "seeds": self.seeds,
                "limits": self.config.privacy.limits.model_dump(), "passed": not self.exceeded,
                "findings": [finding.to_dict() for finding in self.findings], "notes": list(self.notes)}


def audit(config: Config, topology: Topology, federation: Federation, *, rounds: Sequence[int] = (1, 3, 10),
          colluding: int = 1, rejoins: bool = False, seeds: int = 1, shadows: Sequence[Shadow] = (),
          progress: Callable[[int], None] = lambda done: None, source: Source = simulated) -> Audit:
    """Attack every peer of a run with what its neighbours received.

    The algorithm is the one that peers would run: ``privacy.mode`` may choose another.

    Parameters
    ----------
    config, topology, federation : of the run; half of each speaker's clips are trained on, see ``Subjects``.
    rounds : the numbers of rounds seen, after each of which the attacks are made.
    colluding : the number of neighbours that put together what they received.
    rejoins : whether these have lost their state and ask the attacked peer for the run's, before each attacked round.
    seeds : the number of runs, counted from the run's seed on: other halves, places, initial parameters and draws.
    shadows : the attacker's corpora.
    progress : called with the number of runs done.
    source : makes the runs: by simulation, or from the folders of peers (``runs.recorded``, for one seed).

    Raises ConfigError where a setting cannot be audited.
    """
    config, _ = by_mode(config, topology)
    _validate(config, topology)
    seen = tuple(sorted({round for round in rounds if 1 <= round <= config.training.rounds}))
    if not seen:
        raise ConfigError(f"the run has {config.training.rounds} rounds, and none of those to attack is one of them: "
                          "name others (--after-rounds)")
    tally = Tally()
    for run in range(seeds):
        made = source(config.with_settings([f"seed={config.seed + run}"]), topology, federation, seen, rejoins)
        if made.wire.unreadable:
            raise ConfigError(f"the audit has no attacks yet on the messages of {config.gossip.algorithm}, which are "
                              "no rows; audit the run with another gossip.algorithm")
        _Attacks(made, topology, colluding, shadows, tally, first=run == 0).make()
        progress(run + 1)
    return Audit(config, topology, federation.corpus.name, colluding, rejoins, seeds,
                 tuple(tally.findings(config.privacy.limits)), tuple(_notes(federation, shadows)))


def _validate(config: Config, topology: Topology) -> None:
    algorithm = ALGORITHMS[config.gossip.algorithm]
    wrong = {
        "an asynchronous algorithm": algorithm.asynchronous, "trees": algorithm.boosts,
        "training.task=dimensions": config.training.task == "dimensions",
        "peers of different widths": any(width != 1 for width in config.model.width),
    }
    for what, given in wrong.items():
        if given:
            raise ConfigError(f"the audit has no attacks yet on {what}; audit the run without it")
    if topology.size < 3:
        raise ConfigError(f"an audit needs at least 3 peers, and the topology {topology.name!r} has {topology.size}")


def _notes(federation: Federation, shadows: Sequence[Shadow]) -> list[str]:
    corpora = ", ".join(["other recordings of the same speakers", *(shadow.name for shadow in shadows)])
    notes = [f"Attackers hold {corpora}. Each speaker's clips are halved: peers train on one half, the other is the "
             "attacker's.", *federation.notes]
    if federation.corpus.synthetic:
        notes.append("The recordings are synthetic: figures on real speech differ.")
    return notes


class _Attacks:
    """The attacks on one recorded run, whose outcomes go into ``tally``."""

    def __init__(self, run: RecordedRun, topology: Topology, colluding: int, shadows: Sequence[Shadow], tally: Tally, *,
                 first: bool) -> None:
        self.topology, self.shadows, self.tally, self.first = topology, shadows, tally, first
        self.config, self.rounds, self.wire, self.subjects = run.config, run.rounds, run.wire, run.subjects
        self.schema, self.asked, self.statistics, self.module = run.schema, run.asked, run.statistics, run.module
        self.labels, self.how = run.subjects.federation.labels, run.subjects.federation.normalise
        self.observers = {peer: self.wire.observers(peer, colluding) for peer in self.subjects.peers}

    def make(self) -> None:
        """Make all attacks."""
        plain = self._statistics()
        if self.first:
            self.tally.exact += solved(self.wire, self.topology, self.config.training.rounds, self.observers,
                                       self.config.privacy.limits.solvable, sums=plain)
            if weighs(self.config.gossip, self.topology):
                self.tally.exact.append(Attack("clip counts", "reading", "roll call").finding(
                    "other peers", self.topology.size - 1, np.nan, np.nan, 0, self.topology.size - 1))
        for what, look in (("rows", self.wire.view), ("masked sums", self.wire.masked)):
            scores: Scores = {}
            for seen in self.rounds:
                views = {peer: view for peer in self.subjects.peers
                         if (view := look(peer, self.observers[peer], seen - 1)) is not None}
                self._templates(what, seen, views, scores)
                self._membership(what, seen, views)
                self._features(what, seen, views)
                self._shares(what, seen, views)

    def _first_seen(self, view: View) -> Tensor | None:
        """Return which entries of the layer that reads the features a view shows, (E,) bool; None: none of them."""
        seen = view.seen[:first_layer(self.schema)]
        return seen if bool(seen.any()) else None

    def _target(self, peer: int) -> str:
        return " ".join(sorted(self.subjects.speakers(peer)))

    # On the statistics --------------------------------------------------------------------------------------

    def _statistics(self) -> bool:
        """Attack the sums that a peer sends first, and return whether they came as they are."""
        plain = False
        shape = self.asked.features
        size = 1 + 2 * (0 if shape is None else shape[0]) + 2 * self.asked.targets
        for peer in self.subjects.peers if self.asked else ():
            row = self.wire.sums_of(peer, self.observers[peer], size)
            if row is None:
                continue
            plain = plain or np.allclose(row, self.asked.sums(self.subjects.federation.train[peer]), rtol=1e-6)
            features = 0 if shape is None else shape[0]
            if shape is not None and len(shape) == 1:
                with np.errstate(all="ignore"):  # what is masked may give any number
                    self._means(peer, np.nan_to_num(row[1 : 1 + features] / row[0]))
            if self.asked.classes:
                counts = np.nan_to_num(row[1 + features : 1 + features + self.asked.classes])
                attack = Attack("labels", "reading the counts", "statistics")
                true = shares.true_shares(self.subjects.federation.train[peer].labels, len(self.labels))
                note(self.tally.shares, attack, self._target(peer), (counts / max(1.0, counts.sum()), true))
        return plain

    def _means(self, peer: int, mean: NDArray[np.float64]) -> None:
        """Attack the mean features (D,) of a peer."""
        own = self.subjects.speakers(peer)
        sex = self.subjects.group("sex", peer)
        names = clip_features.names(self.config.features)
        strangers = {name: examples for name, examples in self.subjects.candidates.items() if name not in own}
        for corpus, speakers, sexes in ((None, strangers, self.subjects.groups["sex"]),
                                        *((each.name, each.speakers, each.groups["sex"]) for each in self.shadows)):
            limit = sums_attacks.threshold(names, speakers, sexes)
            if sex and limit is not None:
                attack = Attack("sex", _by("threshold on the mean pitch", corpus), "statistics")
                note(self.tally.groups, attack, self._target(peer), (sex, limit.sex(mean) == sex))
        candidates = self.subjects.candidates
        named = sums_attacks.nearest(mean, candidates)
        note(self.tally.speakers, Attack("speaker", "nearest mean", "statistics"), self._target(peer),
             (named in own, len(own & candidates.keys()) / len(candidates)))

    # On the rows --------------------------------------------------------------------------------------------

    def _learners(self, speakers: Mapping[str, Examples]) -> dict[str, Learner]:
        """Return the local work that the attacker repeats with each speaker's clips, with draws of its own."""
        return {speaker: learner(self.module, self.schema, self.config, examples,
                                 normalised(examples, self.how, self.statistics), self.labels, peer=ATTACKER - number,
                                 draws=self.config.seed)
                for number, (speaker, examples) in enumerate(sorted(templates.usable(speakers).items()))}

    def _templates(self, what: str, seen: int, views: Mapping[int, View], so_far: Scores) -> None:
        """Compare each update with the updates that other recordings make; ``so_far`` adds up over the rounds."""
        corpora: list[tuple[str | None, dict[str, Learner], Mapping[str, Mapping[str, str]]]] = [
            (None, self._learners(self.subjects.candidates), self.subjects.groups),
            *((each.name, self._learners(each.speakers), each.groups) for each in self.shadows)]
        for corpus, learners, groups in corpora:
            made: dict[str, NDArray[np.float32]] = {}
            for peer, view in views.items():
                first = self._first_seen(view)
                read = np.flatnonzero(view.seen if first is None else first)
                start = digest(view.start)
                if start not in made:
                    made = {start: templates.updates(list(learners.values()), view.start, seen - 1)}
                update, updates = view.update.numpy()[read], dict(zip(learners, made[start][:, read]))
                alike = templates.likeness(update, np.stack([*updates.values()]))
                scores = _add(so_far, ("templates", corpus, peer), dict(zip(updates, alike.tolist())))
                self._named(what, seen, peer, scores, corpus, groups)
                self._by_shadow_models(what, seen, peer, update, updates, corpus, groups, so_far)

    def _named(self, what: str, seen: int, peer: int, scores: Mapping[str, float], corpus: str | None,
               groups: Mapping[str, Mapping[str, str]]) -> None:
        own = self.subjects.speakers(peer)
        for about in GROUPINGS:
            truth = self.subjects.group(about, peer)
            guess = templates.nearest_group(scores, groups[about], own if corpus is None else ())
            if truth and guess:
                attack = Attack(about, _by("templates", corpus), what, seen)
                note(self.tally.groups, attack, self._target(peer), (truth, guess == truth))
        if corpus is None:
            named = max(scores, key=lambda speaker: scores[speaker])
            note(self.tally.speakers, Attack("speaker", "templates", what, seen), self._target(peer),
                 (named in own, len(own & scores.keys()) / len(scores)))

    def _by_shadow_models(self, what: str, seen: int, peer: int, update: NDArray[np.float32],
                          updates: Mapping[str, NDArray[np.float32]], corpus: str | None,
                          groups: Mapping[str, Mapping[str, str]], so_far: Scores) -> None:
        """Let a model that is trained on the updates of other speakers name the groups of a peer's."""
        centre = np.mean([*updates.values()], axis=0)
        strange = [speaker for speaker in updates if corpus is not None or speaker not in self.subjects.speakers(peer)]
        for about in GROUPINGS:
            truth, names = self.subjects.group(about, peer), groups[about]
            known = [speaker for speaker in strange if speaker in names]
            if truth and len({names[speaker] for speaker in known}) > 1:
                scores = _add(so_far, ("shadow model", corpus, about, peer), templates.shadow_model(
                    update, np.stack([updates[speaker] for speaker in known]), [names[speaker] for speaker in known],
                    centre))
                attack = Attack(about, _by("shadow model", corpus), what, seen)
                guess = max(scores, key=lambda name: scores[name])
                note(self.tally.groups, attack, self._target(peer), (truth, guess == truth))

    @cached_property
    def _inside(self) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """The features and labels on which each peer trained."""
        train = self.subjects.federation.train
        return {peer: (normalised(train[peer], self.how, self.statistics), train[peer].labels)
                for peer in self.subjects.peers}

    @cached_property
    def _outside(self) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """The features and labels of the same speakers on which no peer trained; without peers that have none."""
        others = self.subjects.others
        return {peer: (self._as_trained(peer), others[peer].labels) for peer in self.subjects.peers
                if len(others[peer])}

    def _membership(self, what: str, seen: int, views: Mapping[int, View]) -> None:
        """Ask of each peer's clips, and of others, whether that peer trained on them."""
        inside, outside = self._inside, self._outside
        for peer, view in views.items():
            clips = [inside[peer], *(outside[peer],) * (peer in outside),
                     *(inside[other] for other in inside if other != peer and other not in self.observers[peer])]
            features, labels = (np.concatenate(parts) for parts in zip(*clips))
            mine = len(inside[peer][1])
            unused = mine + (len(outside[peer][1]) if peer in outside else 0)
            for how, scores in self._scores(seen, view, mine, features, labels).items():
                # Where the observers are all the others, a recording can only be this peer's or no peer's.
                rivals = scores[unused:] if len(scores) > unused else scores[mine:unused]
                for where, about, theirs in ((self.tally.members, "membership", rivals),
                                             (self.tally.run_members, "membership in the run", scores[mine:unused])):
                    if len(theirs):
                        note(where, Attack(about, how, what, seen), self._target(peer),
                             (auc(scores[:mine], theirs), found_at(scores[:mine], theirs)))

    def _scores(self, seen: int, view: View, clips: int, features: NDArray[np.float32], labels: NDArray[np.int64]
                ) -> dict[str, NDArray[np.float64]]:
        """Return the scores of clips by attack."""
        known = labels >= 0
        scores = {"loss": np.where(known, membership.loss_scores(
            self.module, self.schema, view.start, view.update, features, np.where(known, labels, 0)), 0.0)}
        first = self._first_matrix(seen, view)
        if first is None:
            return scores
        return {**scores, "row space": membership.row_space_scores(*first, clips if view.own else 1 << 30, features)}

    def _features(self, what: str, seen: int, views: Mapping[int, View]) -> None:
        """Read the features of single clips off each update."""
        for peer, view in views.items():
            first = self._first_matrix(seen, view)
            if first is not None and peer in self._outside:
                inputs, known = inversion.candidates(*first)
                trained, unused = (float(inversion.likeness(inputs, known, features).mean())
                                   for features, _ in (self._inside[peer], self._outside[peer]))
                note(self.tally.inputs, Attack("features", "inversion", what, seen), self._target(peer),
                     (trained, unused))

    def _first_matrix(self, seen: int, view: View) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Return what gradients added to [W b] of the first layer, 0 where a view does not show it, and where it does;
        None where an observer cannot tell.
        """
        first = self._first_seen(view)
        if first is None or self._inside[self.subjects.peers[0]][0].ndim != 2:
            return None
        decay = membership.decayed(self._any_learner, view.start, seen - 1) - view.start
        added = first_matrix(self.schema, torch.where(first, (view.update - decay)[: len(first)], 0.0))
        known = first_matrix(self.schema, first)
        return None if added is None or known is None else (added, known > 0)

    @cached_property
    def _any_learner(self) -> Learner:
        """A learner with the settings of all peers."""
        return next(iter(self._learners(dict(list(self.subjects.candidates.items())[:1])).values()))

    def _as_trained(self, peer: int) -> NDArray[np.float32]:
        """Return the features of the clips that a peer did not train on, scaled as if it had."""
        examples, train = self.subjects.others[peer], self.subjects.federation.train[peer]
        if self.how != "speaker":
            return normalised(examples, self.how, self.statistics)
        whole = statistics(train.features)
        own: dict[str, Statistics] = {speaker: steadied(train.features[np.array(train.speakers) == speaker], whole)
                                      for speaker in set(train.speakers)}
        return np.stack([own[speaker].apply(features[None])[0]
                         for speaker, features in zip(examples.speakers, examples.features)])

    def _shares(self, what: str, seen: int, views: Mapping[int, View]) -> None:
        """Estimate the shares of emotions of each peer's clips."""
        classes = len(self.labels)
        for peer, view in views.items():
            estimate = shares.shares(self.schema, view.update, classes)
            if estimate is not None:
                true = shares.true_shares(self.subjects.federation.train[peer].labels, classes)
                note(self.tally.shares, Attack("labels", "last layer's bias", what, seen), self._target(peer),
                     (estimate, true))


def _by(attack: str, corpus: str | None) -> str:
    return attack if corpus is None else f"{attack} from {corpus}"


def _add(so_far: Scores, key: tuple[str | int | None, ...], scores: Mapping[str, float]) -> dict[str, float]:
    """Add scores to those of earlier rounds, and return the sums."""
    sums = so_far.setdefault(key, dict.fromkeys(scores, 0.0))
    for name, score in scores.items():
        sums[name] += score
    return sums
