"""One peer's tree sets by place, what it tells of them, and how the living end with all that anybody holds."""

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
    """A grow-only set of tree sets. All arrays are views of a gossip state's rows: adding to it changes them.

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
        """Return a message that names all held places and brings the tree sets of ``places`` (S,)."""
        chosen = np.flatnonzero(places)
        return tree_sets.encode(self.held.astype(bool), chosen, self.sets[chosen], self.depth)

    def take(self, message: object, sender: int, until: int | None = None) -> NDArray[np.bool_]:
        """Add what a message brings to places that are empty; return what its sender has told that it holds, (S,).

        until: the first place that nobody can have filled yet. Whichever tree set came first to a place stays.
        Raises RemoteProtocolError for a message of another form, or of places that are not due.
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
    """Give every hosted peer's forest all tree sets that anybody reachable holds: floods in ``round`` and the next.

    The first tells who holds which places; in the second each tree set that somebody lacks comes from the first peer
    that holds it. Returns how many exchanges it took, and whether what all held before was equal to the last bit (it is
    not where somebody sent different trees under one name). Raises RemoteProtocolError for messages of another form.
    """
    exchanges: list[object] = []
    nothing = {i: np.zeros(len(forest.held), dtype=bool) for i, forest in forests.items()}

    def flood(round: int, values: Mapping[int, bytes]) -> dict[int, dict[int, bytes]]:
        nodes = flood_knowledge(mixer, round, values, graph, lambda: set(dead), exchanges.append)
        return {i: node.heard() for i, node in nodes.items()}

    heard = flood(round, {i: forest.message(nothing[i]) for i, forest in forests.items()})
    values = {}
    for i, forest in forests.items():
        holds = {j: forest.take(message, j) for j, message in heard[i].items()}
        table = np.stack(list(holds.values()))
        common = np.logical_and.reduce(table, axis=0)
        first = np.array(list(holds))[table.argmax(axis=0)]
        mine = table.any(axis=0) & ~common & (first == i)
        values[i] = forest.digest(common) + forest.message(mine)
    equal = True
    for i, told in flood(round + 1, values).items():
        for j, value in told.items():
            equal &= value[:DIGEST] == told[i][:DIGEST]
            forests[i].take(value[DIGEST:], j)
    return len(exchanges), equal
