"""Which exchange of a topology's schedule a step is: the same for every mixer."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Step
from p2pser.topology.spec import Topology


@dataclass(frozen=True)
class Timetable:
    """Numbers the exchanges of training: t = round * slots + slot.

    slots: exchanges per round of the algorithm. rounds: R, how many rounds of training there are; None: all from 0 on.
    Set-up (rounds below 0) and the end (from R on: floods, the final consensus) run on the topology's undirected
    graph, both ways, with Metropolis weights; so does all of a static topology with these weights.
    """

    topology: Topology
    slots: int = 1
    rounds: int | None = None

    def exchange(self, at: Step) -> int | None:
        """Return t where ``topology.matrix(t)`` mixes (0 where it is always the same); None: Metropolis on the graph.

        >>> from p2pser.topology.spec import load
        >>> Timetable(load("ring"), slots=2).exchange(Step(3, 1)) is None
        True
        """
        topology = self.topology
        if at.round < 0 or (self.rounds is not None and at.round >= self.rounds):
            return None
        if getattr(topology, "schedule", None) is None:
            return None if topology.weights == "metropolis" else 0
        return at.round * self.slots + at.slot

    def require_average(self, at: Step) -> None:
        """Raise LocalProtocolError where the rows of W do not sum to 1: mixed rows would grow or shrink."""
        if self.topology.stochastic == "column" and self.exchange(at) is not None:
            raise LocalProtocolError(f"the rows of W do not sum to 1 at {at}: parameters mixed so would grow or shrink")
