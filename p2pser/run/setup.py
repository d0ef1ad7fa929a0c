"""What the peers find out together before they train: what each of them brings, and where all of them resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgpack
import numpy as np

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer
from p2pser.graph.spec import Topology
from p2pser.graph.summary import diameter

ROLL_CALL, STATISTICS, JOIN = -3, -2, -1
"""The set-up rounds: what each peer brings, the statistics of features and targets, the state for a peer that joins.

Training has the rounds 0 .. R-1; the cut edges are flooded in round R, the final consensus is in round R + 1.
"""
SAMPLED_EXCHANGES = 16
"""Exchanges of a random schedule from which the lead of its peers is estimated."""


@dataclass(frozen=True)
class RollCall:
    """What every reachable peer brings.

    resume : the newest round of which all peers have a checkpoint; 0 where they start from the initial parameters.
    clips : the number of training clips by peer.
    cut : the edges to peers that did not come or do not fit.
    widths : the width of each peer's model.
    """

    resume: int
    clips: Mapping[int, int]
    cut: frozenset[tuple[int, int]]
    widths: Mapping[int, float] = field(default_factory=dict)


def roll_call(mixer: Mixer, topology: Topology, peer: int, checkpoints: Iterable[int], clips: int,
              width: float = 1.0) -> RollCall:
    """Send this peer's checkpoints, clip count and width to all reachable peers, and return what all of them bring.

    Parameters
    ----------
    mixer : carries the flood, in round ``ROLL_CALL``.
    topology : the run's topology.
    peer : the hosted peer.
    checkpoints : the rounds of which it has a checkpoint.
    clips : the number of its training clips.
    width : the width of its model.

    Raises RemoteProtocolError for an answer of another form.
    """
    answer = msgpack.packb([sorted({0, *checkpoints}), clips, *([] if width == 1 else [width])])
    knowledge = flood_knowledge(mixer, ROLL_CALL, {peer: answer}, topology.graph)[peer]
    known = sorted(knowledge.reachable() & knowledge.values.keys())
    answers = {other: _parse(knowledge.values[other], other) for other in known}
    common = set.intersection(*(rounds for rounds, _, _ in answers.values()))
    return RollCall(max(common), {other: count for other, (_, count, _) in answers.items()}, frozenset(knowledge.cut),
                    {other: its_width for other, (_, _, its_width) in answers.items()})


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
    """Return the clip counts by which W is weighted; None for uniform weights, and where a hub weighs by clips itself.

    A peer that did not come counts as one clip: its edges are cut, so its count only fills its place.
    """
    if weighting != "clips" or topology.hub is not None:
        return None
    return {i: max(1, clips.get(i, 1)) for i in range(topology.size)}


def lead(topology: Topology) -> int:
    """Return how many exchanges a peer can be ahead of another while no peer is DEAD.

    A peer that has ended exchange e knows that its sources of e and its receivers of e - 1 have ended e - 1
    (network.exchange), and so on back: on a static undirected graph the lead is the diameter. For a random schedule,
    twice the largest lead of ``SAMPLED_EXCHANGES``.
    """
    if topology.schedule is None:
        return diameter(topology.graph)
    period, most = topology.schedule.period or SAMPLED_EXCHANGES, 0
    for end in range(period):
        known = np.eye(topology.size, dtype=np.float32)
        back = 0
        while not known.all() and back < 2 * period + 2 * topology.size:
            # Shifted by a multiple of the period, since exchanges count from 0.
            t = end + (2 * topology.size + 3) * period - back
            sources, receivers = topology.matrix(t) != 0, topology.matrix(t - 1).T != 0
            known = (known @ (np.eye(topology.size) + sources + receivers) > 0).astype(np.float32)
            back += 1
        most = max(most, back)
    return most if topology.schedule.period is not None else 2 * most


def kept_checkpoints(lead: int, every: int) -> int:
    """Return how many checkpoints to keep so that peers killed at different instants have one in common.

    lead : the most rounds that a peer can be ahead of another. every : rounds between two checkpoints.
    """
    return -(-(lead + 1) // every) + 1
