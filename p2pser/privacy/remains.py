"""What remains of a speaker in a peer's parameters, by the loss of the speaker's clips.

A model has a smaller loss on clips that it was trained on (S. Yeom et al., CSF 2018). So the speaker's training clips
are compared with clips of strangers: speakers on whom no peer has trained. The figure is the probability that a clip
of the speaker has a smaller loss than a stranger's clip of the same emotion (AUC); .5: no more is known of the speaker
than of a stranger. It is one test on one model: other attacks may find more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pser.base import seeding
from p2pser.base.atomic import read_json
from p2pser.base.errors import CheckpointError, ConfigError, CorpusError, ModelError
from p2pser.base.wording import counted
from p2pser.config import Config
from p2pser.corpora.labels import agreed_by_peers
from p2pser.corpora.manifest import UNKNOWN
from p2pser.evaluation.metrics import interval
from p2pser.features.federation import Examples, Federation, federate, normalised
from p2pser.features.normalisation import Statistics, from_sums
from p2pser.features.normalisation import sums as sums_of
from p2pser.features.public import public_statistics
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.models import directory, for_run
from p2pser.models.start import begun
from p2pser.peer import outcome
from p2pser.peer.folder import PeerFolder
from p2pser.peer.outcome import SUMS
from p2pser.privacy.attacks.membership import losses
from p2pser.privacy.findings import Attack
from p2pser.run import checkpoint
from p2pser.run.participant import Cohort

DRAWS = 1000
"""Resamples of speakers and clips for an interval."""
NO_STRANGERS = ("there are no recordings of speakers on whom no peer has trained, to compare with: add some to the "
                "data, recorded in the same way, and hold their speakers out (--set corpus.split=speakers:NAME+NAME), "
                "in this call and in those of p2pser peer")


@dataclass(frozen=True)
class Losses:
    """The losses (n,) of clips, their emotions (n,) and their speakers."""

    values: NDArray[np.float64]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]

    def take(self, chosen: NDArray[Any]) -> Losses:
        """Return the clips with these indices, or where this mask is true."""
        return Losses(self.values[chosen], self.labels[chosen], self.speakers[chosen])

    def drawn(self, draw: np.random.Generator) -> NDArray[np.float64]:
        """Return how often each clip is drawn, (DRAWS, n): speakers with replacement, then each one's clips."""
        names, who = np.unique(self.speakers, return_inverse=True)
        times, counts = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS), []
        order = [np.flatnonzero(who == k) for k in range(len(names))]
        for k, places in enumerate(order):
            counts.append(draw.multinomial(times[:, k] * len(places), np.full(len(places), 1 / len(places))))
        return np.concatenate(counts, axis=1)[:, np.argsort(np.concatenate(order))].astype(np.float64)


@dataclass(frozen=True)
class Figure:
    """How well losses tell clips from those of strangers: AUC, its 95 % interval, the clips and their speakers."""

    auc: float
    low: float
    high: float
    clips: int
    speakers: int

    def __str__(self) -> str:
        """``0.83 [0.75, 0.90]``."""
        return f"{self.auc:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Remains:
    """What one set of parameters tells of a speaker.

    of : which parameters. speaker, others : of the speaker's training clips, and of those of the peer's other training
    speakers, who stay; None where there are none. strangers, stranger_clips : their number. each : for each stranger
    the AUC against the other strangers; () for one. limit : ``privacy.limits.membership``. verdict : as of a
    ``findings.Finding``, where guessing may reach what the likeliest stranger has; with one stranger, whom all others
    may differ from, never ``EXCEEDED``.
    """

    of: str
    speaker: Figure
    others: Figure | None
    strangers: int
    stranger_clips: int
    each: tuple[float, ...]
    limit: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def read(cls, document: dict[str, Any]) -> Remains:
        """Return what ``to_dict`` has written. Raises TypeError or KeyError for other data."""
        others = document["others"]
        return cls(**{**document, "speaker": Figure(**document["speaker"]), "each": tuple(document["each"]),
                      "others": None if others is None else Figure(**others)})

    def in_short(self) -> str:
        """Return the figures of the speaker and the others."""
        return f"{self.speaker}" + ("" if self.others is None else f", the others {self.others}") + f" ({self.of})"

    def __str__(self) -> str:
        """The figures as a sentence."""
        others = "" if self.others is None else \
            f"; {counted(self.others.speakers, 'other speaker')} of this peer, who stay: {self.others}"
        each = f"; each stranger against the others: {min(self.each):.2f} to {max(self.each):.2f}" if self.each else ""
        return (f"{self.of}: its loss distinguishes {counted(self.speaker.clips, 'clip')} of the speaker from "
                f"{counted(self.stranger_clips, 'clip')} of {counted(self.strangers, 'stranger')} with AUC "
                f"{self.speaker} (0.50: no more is known than of a stranger; limit {self.limit:.2f}: {self.verdict})"
                f"{others}{each}")


def within_emotions(members: Losses, others: Losses, of_members: NDArray[np.float64] | None = None,
                    of_others: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the probability (R,) that a member's loss is below that of another's clip of the same emotion, ties count
    half; NaN where they have no emotion in common.

    of_members, of_others : how often each clip counts, (R, n); default: once, R = 1.
    """
    u = np.ones((1, len(members.values))) if of_members is None else of_members
    v = np.ones((1, len(others.values))) if of_others is None else of_others
    below, clips = np.zeros(len(u)), np.zeros(len(u))
    for label in np.intersect1d(members.labels, others.labels):
        mine, theirs = members.labels == label, others.labels == label
        a, b = members.values[mine, None], others.values[theirs]
        beside = v[:, theirs].sum(axis=1)
        mean = np.divide(v[:, theirs] @ ((a < b) + 0.5 * (a == b)).T, beside[:, None],
                         out=np.zeros((len(u), len(a))), where=beside[:, None] > 0)
        below += (u[:, mine] * mean).sum(axis=1)
        clips += np.where(beside > 0, u[:, mine].sum(axis=1), 0.0)
    result: NDArray[np.float64] = np.divide(below, clips, out=np.full(len(u), np.nan), where=clips > 0)
    return result


def figure(members: Losses, strangers: Losses) -> Figure:
    """Return the AUC of members against strangers, with its interval: speakers and their clips are drawn anew.

    Raises CorpusError where they have no emotion in common.
    """
    value, draw = float(within_emotions(members, strangers)[0]), seeding.generator(0, "remains")
    if math.isnan(value):
        raise CorpusError(f"no emotion of these speakers is among those of the strangers; {NO_STRANGERS}")
    draws = within_emotions(members, strangers, members.drawn(draw), strangers.drawn(draw))
    low, high = interval(draws[~np.isnan(draws)])
    return Figure(value, low, high, len(members.values), len(np.unique(members.speakers)))


def compare(of: str, speaker: Losses, others: Losses, strangers: Losses, limit: float) -> Remains:
    """Return what parameters tell of a speaker; parameters and errors as in ``Remains`` and ``figure``."""
    names = np.unique(strangers.speakers)
    against = [float(within_emotions(strangers.take(strangers.speakers == name),
                                     strangers.take(strangers.speakers != name))[0]) for name in names]
    each = tuple(value for value in against if not math.isnan(value)) if len(names) > 1 else ()
    found = figure(speaker, strangers)
    verdict = Attack("membership", "loss", of).finding(
        "AUC", found.auc, found.low, found.high, max((0.5, *each)) if each else 1.0, 1, limit).verdict
    return Remains(of, found, figure(others, strangers) if len(others.values) else None, len(names),
                   len(strangers.values), each, limit, verdict)


def measure(config: Config, topology: Topology, me: int, folder: PeerFolder, speaker: str, *, learned: bool
            ) -> list[Remains]:
    """Return what the present parameters of peer ``me`` tell of a speaker: its model's or those of its newest
    checkpoint, and those of its personal model if it has one.

    Parameters
    ----------
    config, topology : the run's.
    folder : the peer's.
    speaker : one of the peer's; may be forgotten already.
    learned : whether the peer has trained on the speaker's clips in this run.

    Raises P2PSERError where there is nothing to measure, or to compare with.
    """
    if config.training.task != "classes":
        raise ConfigError(f"only runs that learn emotions alone are measured, and training.task is "
                          f"{config.training.task}")
    config = for_run(config, topology.size)
    config = config.model_copy(update={"augment": config.augment.model_copy(update={"copies": 0})})
    of, row, sums = _parameters(config, topology, folder)
    federation = federate(begun(config), topology.size, only=me, hub=topology.hub,
                          forgotten={*folder.forgotten()} - {speaker})
    cohort = _cohort(config, federation, folder, me)
    if row.numel() != cohort.schema.size:
        raise ModelError(f"{of} has {row.numel()} parameters, and these settings make a network of "
                         f"{cohort.schema.size}")
    statistics = _statistics(cohort, me, sums * topology.size, speaker, learned)
    mine, others, strangers = _groups(cohort, me, folder, speaker, statistics)

    def found(of: str, module: nn.Module) -> Remains:
        return compare(of, mine.under(module), others.under(module), strangers.under(module),
                       config.privacy.limits.membership)

    results = [found(of, cohort.bound(row, me))]
    if config.training.fine_tune and folder.personal.exists():
        results.append(found("the personal model", directory.load(folder.personal)[0]))
    return results


def _parameters(config: Config, topology: Topology, folder: PeerFolder) -> tuple[str, Tensor, Tensor]:
    """Return which the present parameters are, themselves (D,), and the mean over peers of the statistics' sums (S,).

    Raises CheckpointError where there are none.
    """
    if (end := outcome.kept(folder.outcome, config.training.rounds, topology)) is not None:
        return f"the model after {config.training.rounds} rounds", end[0].row, end[0].sums
    rounds = checkpoint.available(folder.checkpoints)
    if not rounds:
        raise CheckpointError("this peer has no parameters of training here")
    rows, edges, _ = checkpoint.load(folder.checkpoints, rounds[-1])
    sums = rows.pop(SUMS, torch.zeros(0, dtype=torch.float64)).reshape(-1)
    algorithm = create(config.gossip.algorithm, config.gossip.parameters, config, topology)
    return f"the checkpoint of round {rounds[-1]}", algorithm.model(State(rows, edges))[0], sums


def _cohort(config: Config, federation: Federation, folder: PeerFolder, me: int) -> Cohort:
    """Return the peer's cohort with the emotions and the scaling of the run."""
    agree = agreed_by_peers(config)
    cohort = Cohort(config, federation, {me: federation.train[me]}, compact=True, agreed=not agree)
    if agree and (labels := folder.labels()) is not None:
        cohort.learn(labels)
    if cohort.agrees_on_scaling and (how := folder.scaling()) is not None:
        cohort.scale(how)
    return cohort


def _statistics(cohort: Cohort, me: int, sums: Tensor, speaker: str, learned: bool) -> Statistics | None:
    """Return the statistics by which the peer has scaled its clips; sums (S,) over all peers."""
    how, own = cohort.federation.normalise, cohort.federation.train[me]
    if how == "public":
        return public_statistics(cohort.config.features)
    if how == "speaker":
        kept = own.features[[learned or name != speaker for name in own.speakers]]
        return from_sums(sums_of(kept)) if len(kept) and cohort.config.privacy.epsilon is None else None
    features, _ = cohort.asked.read(sums.numpy())
    return None if features is None else from_sums(features)


@dataclass(frozen=True)
class _Clips:
    """Clips with an emotion: scaled features (n, …), labels (n,) and speakers (n,)."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]

    @classmethod
    def of(cls, parts: Sequence[Examples], cohort: Cohort, statistics: Statistics | None, chosen: list[bool]) -> _Clips:
        """Return the chosen clips of all parts together."""
        how, places = cohort.federation.normalise, np.array(chosen, dtype=bool)
        labels = np.concatenate([part.labels for part in parts])
        places &= labels >= 0
        return cls(np.concatenate([normalised(part, how, statistics) for part in parts])[places], labels[places],
                   np.array([name for part in parts for name in part.speakers], dtype=str)[places])

    def under(self, module: nn.Module) -> Losses:
        """Return their losses."""
        values = losses(module, self.features, self.labels) if len(self.labels) else np.zeros(0)
        return Losses(values, self.labels, self.speakers)


def _groups(cohort: Cohort, me: int, folder: PeerFolder, speaker: str, statistics: Statistics | None
            ) -> tuple[_Clips, _Clips, _Clips]:
    """Return the speaker's training clips, those of the peer's other training speakers, and those of strangers.

    Clips that are new since the last start are none of the others', and a speaker of that start's clips is no stranger.
    Raises CorpusError where there are none of the speaker, or of strangers.
    """
    federation, own = cohort.federation, cohort.federation.train[me]
    known: dict[str, Any] = read_json(folder.clips, dict) or {}
    parts = [part for part in (federation.test, federation.held_out.get(me)) if part is not None]
    trained = {federation.corpus.clips[index].speaker for share in federation.held for index in share} | {
        name for part in parts for name, path in zip(part.speakers, part.paths) if path in known}
    mine = [name == speaker for name in own.speakers]
    stay = [name != speaker and (not known or path in known) for name, path in zip(own.speakers, own.paths)]
    strange = [name not in {*trained, speaker, "", UNKNOWN} for part in parts for name in part.speakers]
    if not any(mine):
        raise CorpusError("none of the speaker's clips is among those on which this peer may train now")
    if not any(strange):
        raise CorpusError(NO_STRANGERS)
    return (_Clips.of([own], cohort, statistics, mine), _Clips.of([own], cohort, statistics, stay),
            _Clips.of(parts, cohort, statistics, strange))
