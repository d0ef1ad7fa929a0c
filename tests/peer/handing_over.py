"""A peer that may be handed a model, and the end of a run that its neighbours have; the mixer is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgpack
import torch
from carriers import Carrier

from p2pser.gossip.agreement.consensus import Consensus
from p2pser.graph.spec import load
from p2pser.network import events
from p2pser.network.states import Cause, State
from p2pser.peer.handover import Handover
from p2pser.peer.outcome import Outcome
from p2pser.peer.parcels import ASK, FACTS, KINDS, ROW, SUMS
from p2pser.run.setup import MODEL, RollCall
from p2pser.wire.codec import codec
from p2pser.wire.messages import Header, Kind, Phase, Progress

COMPLETE = load("complete", peers=4)
ROUNDS, SIZE = 5, 3
HAS_A_MODEL = Progress(ROUNDS + 2, 0, Phase.END, 0)
TRAINS = Progress(3, 0, Phase.TRAIN, 0)
CALL = RollCall(0, {0: 7, 1: 8, 2: 9, 3: 10}, frozenset(), {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0})


def hello(incarnation: int = 0) -> Any:
    return SimpleNamespace(incarnation=incarnation, process=incarnation)


class Mixer(Carrier):
    """Carries nothing: what is sent is kept."""

    def __init__(self) -> None:
        super().__init__(MODEL, (1, 2, 3), 50.0)
        self.io = SimpleNamespace(progress=Progress(0, 0, Phase.START, 0), clock=lambda: self.now)
        self.alarm: float | None = None
        self.look_up: Callable[[], None] = lambda: None

    def listen(self, timeout: float = 0.0) -> None:
        """Nothing comes for so long."""
        until = self.now + timeout
        self.now = until if self.alarm is None else max(self.now, min(until, self.alarm))
        self.look_up()

    def wake_at(self, time: float | None) -> None:
        self.alarm = time


class Peer:
    """Peer 0 of four that all know each other, and what its neighbours do."""

    def __init__(self, tolerance: float = 1e-7) -> None:
        self.mixer, self.said = Mixer(), []
        self.hand = Handover(self.mixer, COMPLETE, ROUNDS, size=SIZE, sums=(2,),  # type: ignore[arg-type]
                             tolerance=tolerance, say=self.said.append)
        self.mixer.look_up = self.look

    def comes(self, peer: int, progress: Progress = HAS_A_MODEL, incarnation: int = 0) -> None:
        up = events.Up(peer, hello(incarnation), progress)
        changed = events.Changed(peer, State.ABSENT, State.PRESENT, Cause.HELLO)
        self.mixer.roster.up(up)
        self.mixer.roster.changed(changed, self.mixer.now)
        self.hand.observe(up)
        self.hand.observe(changed)

    def goes(self, peer: int, cause: Cause) -> None:
        changed = events.Changed(peer, State.PRESENT, State.ABSENT, cause)
        self.mixer.roster.changed(changed, self.mixer.now)
        self.hand.observe(changed)

    def look(self) -> None:
        self.hand.look_up(lambda end, sender: end.row)

    def asked(self) -> list[int]:
        return [peer for peer, slot, _ in self.mixer.sent if slot % KINDS == ASK]

    def hear(self, peer: int, slot: int, payload: bytes, form: str = "", size: int = 0) -> None:
        header = Header(Kind.ROW, bytes(8), peer, 0, HAS_A_MODEL, round=MODEL, slot=slot, codec=form, size=size)
        self.mixer.take(peer, header, memoryview(payload))

    def answers(self, peer: int, end: Outcome) -> None:
        self.hear(peer, FACTS, msgpack.packb(end.fields()))
        for slot, row in ((SUMS, end.sums), (ROW, end.row)):
            self.hear(peer, slot, bytes(codec("f8").encode(row)), "f8", row.numel())


def end(*values: float, dead: tuple[int, ...] = (0,)) -> Outcome:
    row = torch.tensor([values], dtype=torch.float64)
    return Outcome(Consensus(row, 1e-9, 12, dead, True), CALL, torch.tensor([4.0, 2.0], dtype=torch.float64))
