"""The tree sets of one peer by place, their messages, and the exchange of all tree sets at the end of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer
from p2pser.models.networks.trees import numbers
from p2pser.wire import tree_sets

DIGEST = 8
"""Bytes of the digest of an ensemble."""


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

    def take(self, message: object, sender: int, until: int | None = None) -> NDArray[np.bool_]:
        """Add a message's tree sets to places that are empty; return the places that its sender holds, (S,).

        until: the first place that no peer can have filled yet. A place keeps its first tree set. Raises
        RemoteProtocolError for a message of another form, or with places that are not due.
        """
        known, places, sets = tree_sets.decode(message, len(self.held), self.sets.shape[1], self.depth, sender)
        known[places] = True
        if until is not None and known[until:].any():
            raise RemoteProtocolError(f"peer {sender} sent trees of rounds that have not begun", sender)
        new = self.held[places] == 0
        self.sets[places[new]] = sets[new]
        self.held[places] = 1
        return known

    def digest(self, places: NDArray[np.bool_]) -> bytes:
        """Return DIGEST bytes over the tree sets of ``places`` (S,)."""
        return hashlib.blake2b(self.sets[places].tobytes(), digest_size=DIGEST).digest()


def reconcile(mixer: Mixer, round: int, forests: Mapping[int, Forest], graph: nx.Graph, dead: Collection[int],
              ) -> tuple[int, bool]:
    """Give every hosted peer's forest all tree sets of the reachable peers, by floods in ``round`` and the next round.

    The first flood carries which peer holds which places; in the second the first peer that holds a tree set sends it,
    if another peer lacks it. Returns the number of exchanges, and whether the tree sets that all held before were equal
    to the last bit (they are not where a peer sent different trees for one place). Raises RemoteProtocolError for
    messages of another form. dead: the unreachable peers.
    """
    exchanges: list[object] = []
    nothing = {i: np.zeros(len(forest.held), dtype=bool) for i, forest in forests.items()}

    def flood(round: int, values: Mapping[int, bytes]) -> dict[int, dict[int, bytes]]:
        nodes = flood_knowledge(mixer, round, values, graph, lambda: set(dead), exchanges.append)
        return {i: node.reachable_values() for i, node in nodes.items()}

    messages = flood(round, {i: forest.message(nothing[i]) for i, forest in forests.items()})
    values = {}
    for i, forest in forests.items():
        holds = {j: forest.take(message, j) for j, message in messages[i].items()}
        held = np.stack(list(holds.values()))
        common = np.logical_and.reduce(held, axis=0)
        first = np.array(list(holds))[held.argmax(axis=0)]
        mine = held.any(axis=0) & ~common & (first == i)
        values[i] = forest.digest(common) + forest.message(mine)
    equal = True
    for i, answers in flood(round + 1, values).items():
        for j, value in answers.items():
            equal &= value[:DIGEST] == answers[i][:DIGEST]
            forests[i].take(value[DIGEST:], j)
    return len(exchanges), equal
