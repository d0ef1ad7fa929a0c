"""What an algorithm is, what it remembers, and what it asks of the local work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from p2pser.gossip.mixer import Edge, Mixer


@dataclass
class State:
    """All that an algorithm remembers: checkpointed, resumed and handed over by the same code.

    ``rows["x"]`` are the parameters (B, D); the other rows (B, ·) are the algorithm's and the optimiser's own.
    ``edges`` is what it keeps for each edge (hosted peer, neighbour).
    """

    rows: dict[str, Tensor]
    edges: dict[Edge, dict[str, Tensor]] = field(default_factory=dict)


class Local(Protocol):
    """The local work of the hosted peers."""

    def train(self, state: State, round: int) -> Tensor:
        """Take the round's local steps from ``state.rows["x"]`` and return the new (B, D).

        The optimiser's rows in ``state`` are updated in place.
        """


class Algorithm(Protocol):
    """One communication round at a time."""

    slots: int
    """Exchanges per round."""

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Run round ``round``: local work and exchanges at Step(round, 0 .. slots-1)."""

    def on_edge_reset(self, state: State, edge: Edge) -> None:
        """An edge missed exchanges: restore what the algorithm keeps for it."""
