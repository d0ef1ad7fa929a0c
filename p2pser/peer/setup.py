"""What the peers find out together before they train, by the same verbs: where all resume, and how features look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgpack

from p2pser.errors import RemoteProtocolError
from p2pser.gossip.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer
from p2pser.topology.spec import Topology

ROLL_CALL = -3
"""The set-up round in which peers tell what they bring."""
STATISTICS = -2
"""The set-up round in which the features' statistics are found."""


@dataclass(frozen=True)
class RollCall:
    """What every reachable peer brought."""

    resume: int
    """The newest round of which all have a checkpoint; 0: none, all begin at the beginning."""
    clips: Mapping[int, int]
    """How many training clips each peer has."""
    cut: frozenset[tuple[int, int]]
    """Edges to peers that never came or do not fit."""


def roll_call(mixer: Mixer, topology: Topology, me: int, checkpoints: Iterable[int], clips: int) -> RollCall:
    """Tell all reachable peers of our checkpoints and clip count, and hear theirs.

    Raises RemoteProtocolError where a peer's answer has another form.
    """
    ours = msgpack.packb([sorted({0, *checkpoints}), clips])
    knowledge = flood_knowledge(mixer, ROLL_CALL, {me: ours}, topology.graph)[me]
    heard = sorted(knowledge.reachable() & knowledge.values.keys())
    answers = {peer: _parse(knowledge.values[peer], peer) for peer in heard}
    common = set.intersection(*(rounds for rounds, _ in answers.values()))
    return RollCall(max(common), {peer: count for peer, (_, count) in answers.items()}, frozenset(knowledge.cut))


def _parse(value: bytes, peer: int) -> tuple[set[int], int]:
    try:
        rounds, clips = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.UnpackException):
        rounds, clips = None, None
    fits = isinstance(rounds, list) and all(type(r) is int and r >= 0 for r in rounds) and 0 in rounds
    if not fits or type(clips) is not int or clips < 0:
        raise RemoteProtocolError(f"peer {peer} answered the roll call in another form", peer)
    return set(rounds), clips


def counts_for(weighting: str, topology: Topology, clips: Mapping[int, int]) -> dict[int, int] | None:
    """Return the clip counts by which W is weighted, or None for uniform weights.

    None too where a hub averages: it weighs by clips itself.
    A peer that never came counts as one with a single clip: its edges are cut, so its count only fills its place.
    """
    if weighting != "clips" or topology.hub is not None:
        return None
    return {i: max(1, clips.get(i, 1)) for i in range(topology.size)}


def kept_checkpoints(diameter: int, every: int) -> int:
    """Return how many checkpoints must be kept so that peers killed at different instants have one in common.

    While a neighbour is not yet DEAD nobody is more than an exchange ahead of a neighbour, so no peer is more than
    ``diameter`` rounds ahead of the one that stopped first.
    """
    return -(-(diameter + 1) // every) + 1
