"""The mixing weights of one peer, from its own clip count and those in its neighbours' HELLOs."""

from __future__ import annotations

from collections.abc import Mapping

from p2pser.gossip.mixer import Step
from p2pser.gossip.timetable import Timetable
from p2pser.graph.mixing import weight
from p2pser.graph.spec import Topology
from p2pser.wire.hello import Hello


class Weights:
    """Row ``me`` of W at each step. ``clips``: this peer's clip count where W weighs by clips, else None."""

    def __init__(self, topology: Topology, me: int, timetable: Timetable, clips: int | None,
                 hellos: Mapping[int, Hello]) -> None:
        self._topology, self._me, self._timetable = topology, me, timetable
        self._clips, self._hellos = clips, hellos

    def scheduled(self, at: Step) -> bool:
        """Whether an exchange follows a schedule, where only some neighbours send to us or receive from us."""
        return self._topology.schedule is not None and self._timetable.exchange(at) is not None

    def of(self, at: Step) -> dict[int, float]:
        """Return W_ij of a step, by source j, ascending."""
        t = self._timetable.exchange(at)
        if t is None:
            return {j: self._static(j) for j in self._topology.neighbours(self._me)}
        W = self._topology.matrix(t)
        return {j: float(W[self._me, j]) for j in self._topology.sources(self._me, t)}

    def _static(self, j: int) -> float:
        degree = self._topology.graph.degree
        if self._clips is None:
            return weight(degree[self._me], degree[j])
        hello = self._hellos.get(j)
        return weight(degree[self._me], degree[j], self._clips, hello.clips) if hello is not None else 0.0
