"""Observers of the messages and rows of a simulated run, such as the audit."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.gossip.reading import Edge
from p2pser.wire.codec import Received


class Witness(Protocol):
    """An observer of what a run's peers receive, and of their own rows."""

    def received(self, at: Step, edge: Edge, message: Received) -> None:
        """Take a message that arrived over ``edge`` (dst, src)."""

    def held(self, round: int, rows: Tensor) -> None:
        """Take the peers' parameters (N, D) at the start of ``round``; R: after the last round."""

    def trained(self, round: int, rows: Tensor) -> None:
        """Take the rows (N, D) after the local work of ``round``."""
