"""The tree sets of one peer by place, their messages, and the exchange of all tree sets at the end of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import flood_values, most_slots
from p2pser.gossip.mixer import Mixer
from p2pser.models.networks.trees import numbers
from p2pser.wire import tree_sets
from p2pser.wire.messages import Buffer

DIGEST = 8
"""Bytes of the digest of an ensemble."""


class Sets(NamedTuple):
    """The content of a message: the places that its sender holds, (S,), and tree sets by place."""

    known: NDArray[np.bool_]
    places: NDArray[np.int64]
    sets: NDArray[np.float32]


@dataclass
class Forest:
    """A grow-only set of tree sets. All arrays are views of a gossip state's rows, which change with the set.

    held: (S,) uint8, 1 where a place is filled. sets: (S, C, W) float32, zeros where it is not.
    """

    held: NDArray[np.uint8]
    sets: NDArray[np.float32]
    depth: int

    @classmethod
    def of(cls, held: Tensor, row: Tensor, depth: int) -> Forest:
        """Return the forest in held (S,) and row (D,)."""
        return cls(held.numpy(), row.numpy().reshape(len(held), -1, numbers(depth)), depth)

    def message(self, places: NDArray[np.bool_]) -> bytes:
        """Return a message with the names of all held places and the tree sets of ``places`` (S,)."""
        chosen = np.flatnonzero(places)
        return tree_sets.encode(self.held.astype(bool), chosen, self.sets[chosen], self.depth)

    def read(self, message: Buffer, sender: int, until: int | None = None) -> Sets:
        """Return the places that a message's sender holds, and the tree sets in it.

        until: the first place that no peer can have filled yet. Raises RemoteProtocolError for a message of another
        form, or with places that are not due.
        """
        known, places, sets = tree_sets.decode(message, len(self.held), self.sets.shape[1], self.depth, sender)
        known[places] = True
        if until is not None and known[until:].any():
            raise RemoteProtocolError(f"peer {sender} sent trees of rounds that have not begun", sender)
        return Sets(known, places, sets)

    def take(self, came: Sets) -> None:
        """Add the tree sets of a message to places that are empty: a place keeps its first tree set."""
        new = self.held[came.places] == 0
        self.sets[came.places[new]] = came.sets[new]
        self.held[came.places] = 1

    @property
    def most(self) -> int:
        """Bytes of the largest message."""
        return tree_sets.largest(len(self.held), self.sets.shape[1], self.depth)

    def digest(self, places: NDArray[np.bool_]) -> bytes:
        """Return DIGEST bytes over the tree sets of ``places`` (S,)."""
        return hashlib.blake2b(self.sets[places].tobytes(), digest_size=DIGEST).digest()


def reconcile(mixer: Mixer, round: int, forests: Mapping[int, Forest], graph: nx.Graph, dead: Collection[int],
              ) -> tuple[int, bool]:
    """Give every hosted peer's forest all tree sets of the reachable peers, by two floods in ``round``.

    The first flood carries which peer holds which places; in the second the first peer that holds a tree set sends it,
    if another peer lacks it. Returns the number of exchanges, and whether the tree sets that all held before were equal
    to the last bit (they are not where a peer sent different trees for one place). dead: the unreachable peers.
    """
    nothing = {i: np.zeros(len(forest.held), dtype=bool) for i, forest in forests.items()}
    any_forest = next(iter(forests.values()))

    def read(sender: int, value: bytes) -> Sets:
        return any_forest.read(value, sender)

    def read_after_digest(sender: int, value: bytes) -> Sets:
        if len(value) < DIGEST:
            raise RemoteProtocolError(f"the digest of peer {sender}'s trees is missing", sender)
        return any_forest.read(memoryview(value)[DIGEST:], sender)

    messages, exchanges = flood_values(mixer, round, {i: forest.message(nothing[i]) for i, forest in forests.items()},
                                       graph, dead, most=any_forest.most, check=read)
    values = {}
    for i, forest in forests.items():
        came = {j: read(j, message) for j, message in messages[i].items()}
        for content in came.values():
            forest.take(content)
        holds = {j: content.known for j, content in came.items()}
        held = np.stack(list(holds.values()))
        common = np.logical_and.reduce(held, axis=0)
        first = np.array(list(holds))[held.argmax(axis=0)]
        mine = held.any(axis=0) & ~common & (first == i)
        values[i] = forest.digest(common) + forest.message(mine)
    answers_of, more = flood_values(mixer, round, values, graph, dead, most=any_forest.most + DIGEST,
                                    check=read_after_digest, first=most_slots(graph))
    equal = True
    for i, answers in answers_of.items():
        for j, value in answers.items():
            equal &= value[:DIGEST] == answers[i][:DIGEST]
            forests[i].take(read_after_digest(j, value))
    return exchanges + more, equal
