"""The attacked peers, and what the attacker holds beforehand: other recordings of their speakers, or of others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation, federate, halves

GROUPINGS = ("sex", "language", "age")
"""What is known of speakers where their corpus labels it."""


@dataclass(frozen=True)
class Subjects:
    """The peers of an audited run.

    federation : what they train on: half of their clips. others : the other half, by peer: for the attacker recordings
    of the same speakers, and recordings that no peer trained on. groups : for each of ``GROUPINGS``, {speaker: group}.
    """

    federation: Federation
    others: Mapping[int, Examples]
    groups: Mapping[str, Mapping[str, str]]

    @property
    def peers(self) -> tuple[int, ...]:
        """The peers with clips."""
        return tuple(peer for peer, examples in sorted(self.federation.train.items()) if len(examples))

    def speakers(self, peer: int) -> frozenset[str]:
        """Return the speakers of a peer."""
        return frozenset(self.federation.train[peer].speakers)

    def group(self, about: str, peer: int) -> str:
        """Return the group of all speakers of a peer; empty where it is unknown or they differ."""
        groups = {self.groups[about].get(speaker, "") for speaker in self.speakers(peer)}
        return groups.pop() if len(groups) == 1 else ""

    @cached_property
    def candidates(self) -> dict[str, Examples]:
        """The recordings that the attacker has of the peers' speakers, by speaker."""
        return by_speaker(self.others.values())


def subjects(federation: Federation, seed: int, *, moved: bool = True) -> Subjects:
    """Return the peers of a federation with half of their clips each (``halves``), in places drawn anew.

    A corpus often lists its women first: then a peer's neighbours would give away its sex. A speaker of one clip has no
    other recording.

    moved : False: each peer keeps its place, as in a run that has taken place.
    """
    holders = [peer for peer, examples in sorted(federation.train.items()) if len(examples)]
    places = seeding.generator(seed, "audit.places").permutation(holders).tolist() if moved else holders
    train, others = dict(federation.train), {}
    for peer, place in zip(holders, places):
        train[place], others[place] = halves(federation.train[peer], seed, peer)
    return Subjects(replace(federation, train=train, test=None), others, groups_of(federation.corpus))


def groups_of(corpus: Corpus) -> dict[str, dict[str, str]]:
    """Return, for each of ``GROUPINGS``, the group of each speaker of whom the corpus knows it."""
    groups: dict[str, dict[str, str]] = {about: {} for about in GROUPINGS}
    for clip in corpus.clips:
        age = clip.extra.get("age", "")
        known = {"sex": clip.gender, "language": clip.language,
                 "age": f"{int(age) // 20 * 20} to {int(age) // 20 * 20 + 19}" if age.isdecimal() else age}
        for about, group in known.items():
            if group:
                groups[about][clip.speaker] = group
    return groups


def by_speaker(several: Iterable[Examples]) -> dict[str, Examples]:
    """Return the clips of each speaker."""
    by_name = {}
    for examples in several:
        for speaker in sorted(set(examples.speakers)):
            by_name[speaker] = examples.take(np.flatnonzero(np.array(examples.speakers) == speaker))
    return by_name


@dataclass(frozen=True)
class Shadow:
    """A corpus of the attacker's: clips by speaker, with the run's labels, and the groups of its speakers."""

    name: str
    speakers: Mapping[str, Examples]
    groups: Mapping[str, Mapping[str, str]]


def shadow(config: Config, labels: tuple[str, ...], name: str | None, data: object) -> Shadow:
    """Return a corpus as the attacker holds it: its clips that have one of the run's labels.

    config : of the run, for features. labels : the run's. name, data : ``corpus.name`` and ``corpus.data``.

    Raises ConfigError where there are none, CorpusError where it cannot be read.
    """
    own = config.with_settings([f"corpus.name={name}", f"corpus.data={json.dumps(data, default=str)}",
                                "corpus.split=none", "corpus.labels=null", "corpus.map={}", "corpus.partition=iid"])
    federation = federate(own, 1)
    places = np.array([labels.index(label) if label in labels else -1 for label in federation.labels])
    examples = federation.train[0]
    renamed = np.where(examples.labels < 0, -1, places[examples.labels])
    fitting = replace(examples, labels=renamed, soft=None).take(np.flatnonzero(renamed >= 0))
    if not len(fitting):
        raise ConfigError(f"the shadow corpus {federation.corpus.name} has no clip with one of the run's labels "
                          f"({', '.join(labels)})")
    return Shadow(federation.corpus.name, by_speaker([fitting]), groups_of(federation.corpus))
