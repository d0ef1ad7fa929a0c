"""The exchange of a topology's schedule that belongs to a step, the same for every mixer."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import Topology


@dataclass(frozen=True)
class Timetable:
    """Numbers the exchanges of training: t = round * slots + slot.

    slots: the algorithm's exchanges per round. rounds: R, the rounds of training; None: all rounds from 0 on. Set-up
    (rounds below 0) and the end (from R on: floods, the final consensus) use the topology's undirected graph with
    Metropolis weights; a static topology with these weights uses them throughout.
    """

    topology: Topology
    slots: int = 1
    rounds: int | None = None

    def exchange(self, at: Step) -> int | None:
        """Return t where ``topology.matrix(t)`` mixes (0 where it is always the same); None: Metropolis on the graph.

        >>> from p2pser.graph.spec import load
        >>> Timetable(load("ring"), slots=2).exchange(Step(3, 1)) is None
        True
        """
        topology = self.topology
        if at.round < 0 or (self.rounds is not None and at.round >= self.rounds):
            return None
        if topology.schedule is None:
            return None if topology.weights == "metropolis" else 0
        return at.round * self.slots + at.slot

    def require_average(self, at: Step) -> None:
        """Raise LocalProtocolError where the rows of W do not sum to 1: mixed rows would grow or shrink."""
        if self.topology.stochastic == "column" and self.exchange(at) is not None:
            raise LocalProtocolError(f"the rows of W do not sum to 1 at {at}: parameters mixed so would grow or shrink")
