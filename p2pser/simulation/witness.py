"""What hears a simulated run: the audit, for example."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.gossip.reading import Edge
from p2pser.wire.codec import Received


class Witness(Protocol):
    """Hears what a run's peers receive, and what they hold themselves."""

    def received(self, at: Step, edge: Edge, message: Received) -> None:
        """A message came over ``edge`` (dst, src)."""

    def held(self, round: int, rows: Tensor) -> None:
        """The peers begin ``round`` with the parameters ``rows`` (N, D); after the last round it is R."""

    def trained(self, round: int, rows: Tensor) -> None:
        """The local work of ``round`` has made ``rows`` (N, D)."""
