"""One neighbour with times and messages of the test's own, for the tests of its state machine."""

from __future__ import annotations

from p2pser.network.neighbour import DIALLED, Contact, Neighbour, Ours, Patience
from p2pser.network.states import State
from p2pser.network.stream import Stream
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

PATIENCE = Patience(1.0, 2.0, 8.0)
STRIKES = 3


def hello(incarnation: int = 5, process: str = "") -> Hello:
    return Hello("run", 4, incarnation, {}, "t", "s", (1.0,), ("a", "b"), 7, process=process)


class One:
    """Neighbour 4 of a peer that trains in round 6, unless it has not begun."""

    def __init__(self, *, begun: bool = True, admits: bool = True, phase: Phase = Phase.TRAIN) -> None:
        self.ours = Ours(begun, admits, progress=Progress(6, 0, phase, 0))
        self.machine = Neighbour(Contact(4, None, "k" * 40), self.ours, PATIENCE, Stream(4096, 1 << 20), STRIKES)

    def greets(self, incarnation: int = 5, difference: str | None = None, at: float = 0.0, process: str = "",
               over: bytes = DIALLED) -> str | None:
        return self.machine.greeted(hello(incarnation, process), 0, difference, at, over)[0]

    def present(self) -> Neighbour:
        self.ours.begun = False
        assert self.greets() is None
        self.ours.begun = True
        assert self.machine.state is State.PRESENT
        return self.machine


def silent(machine: Neighbour, until: float, start: float = 0.0, step: float = 0.125) -> list[tuple[float, object]]:
    """Tick regularly; return (time, change or "ping")."""
    told: list[tuple[float, object]] = []
    for tick in range(round((until - start) / step) + 1):
        changes, ping = machine.tick(start + tick * step)
        told += [(start + tick * step, one) for one in [*changes, *(["ping"] if ping else [])]]
    return told
