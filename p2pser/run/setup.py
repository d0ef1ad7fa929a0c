"""What the peers find out together before they train, by the same verbs: where all resume, and how features look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgpack
import numpy as np

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer
from p2pser.topology.spec import Topology
from p2pser.topology.summary import diameter

ROLL_CALL = -3
"""The set-up round in which peers tell what they bring."""
STATISTICS = -2
"""The set-up round in which the features' statistics are found."""
SAMPLED = 16
"""Exchanges of a random schedule from which its peers' lead is taken."""


@dataclass(frozen=True)
class RollCall:
    """What every reachable peer brought."""

    resume: int
    """The newest round of which all have a checkpoint; 0: none, all begin at the beginning."""
    clips: Mapping[int, int]
    """How many training clips each peer has."""
    cut: frozenset[tuple[int, int]]
    """Edges to peers that never came or do not fit."""
    widths: Mapping[int, float] = field(default_factory=dict)
    """The width of each peer's model."""


def roll_call(mixer: Mixer, topology: Topology, me: int, checkpoints: Iterable[int], clips: int,
              width: float = 1.0) -> RollCall:
    """Tell all reachable peers of our checkpoints, clip count and width, and hear theirs.

    Raises RemoteProtocolError where a peer's answer has another form.
    """
    ours = msgpack.packb([sorted({0, *checkpoints}), clips, *([] if width == 1 else [width])])
    knowledge = flood_knowledge(mixer, ROLL_CALL, {me: ours}, topology.graph)[me]
    heard = sorted(knowledge.reachable() & knowledge.values.keys())
    answers = {peer: _parse(knowledge.values[peer], peer) for peer in heard}
    common = set.intersection(*(rounds for rounds, _, _ in answers.values()))
    return RollCall(max(common), {peer: count for peer, (_, count, _) in answers.items()}, frozenset(knowledge.cut),
                    {peer: its for peer, (_, _, its) in answers.items()})


def _parse(value: bytes, peer: int) -> tuple[set[int], int, float]:
    try:
        rounds, clips, *more = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.UnpackException):
        rounds, clips, more = None, None, []
    fits = isinstance(rounds, list) and all(type(r) is int and r >= 0 for r in rounds) and 0 in rounds
    width = more[0] if more else 1.0
    fits = fits and len(more) <= 1 and type(width) is float and 0 < width <= 1
    if not fits or type(clips) is not int or clips < 0:
        raise RemoteProtocolError(f"peer {peer} answered the roll call in another form", peer)
    return set(rounds), clips, width


def counts_for(weighting: str, topology: Topology, clips: Mapping[int, int]) -> dict[int, int] | None:
    """Return the clip counts by which W is weighted, or None for uniform weights.

    None too where a hub averages: it weighs by clips itself.
    A peer that never came counts as one with a single clip: its edges are cut, so its count only fills its place.
    """
    if weighting != "clips" or topology.hub is not None:
        return None
    return {i: max(1, clips.get(i, 1)) for i in range(topology.size)}


def lead(topology: Topology) -> int:
    """Return how many exchanges a peer may be ahead of another while nobody is DEAD.

    Who has ended exchange e knows that its sources of e and its receivers of e - 1 have ended e - 1 (network.exchange),
    and so on back: on a static undirected graph the diameter. Of a random schedule, twice the most of ``SAMPLED``.
    """
    if topology.schedule is None:
        return diameter(topology.graph)
    period, most = topology.schedule.period or SAMPLED, 0
    for end in range(period):
        known = np.eye(topology.size, dtype=np.float32)
        back = 0
        while not known.all() and back < 2 * period + 2 * topology.size:
            # A multiple of the period before: exchanges count from 0.
            t = end + (2 * topology.size + 3) * period - back
            heard, read = topology.matrix(t) != 0, topology.matrix(t - 1).T != 0
            known = (known @ (np.eye(topology.size) + heard + read) > 0).astype(np.float32)
            back += 1
        most = max(most, back)
    return most if topology.schedule.period is not None else 2 * most


def kept_checkpoints(lead: int, every: int) -> int:
    """Return how many checkpoints must be kept so that peers killed at different instants have one in common.

    lead: the most rounds that a peer may be ahead of the one that stopped first.
    """
    return -(-(lead + 1) // every) + 1
