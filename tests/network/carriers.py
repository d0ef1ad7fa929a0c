"""A stand-in for the network's mixer, which carries nothing and keeps what it is asked to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from p2pser.gossip.mixer import Step
from p2pser.network.roster import Roster
from p2pser.wire.messages import Header


class Carrier:
    """Peer 0's mixer, for the messages of one round; ``take`` hands over a message of a neighbour."""

    def __init__(self, round: int, neighbours: Sequence[int], now: float) -> None:
        self.me, self.neighbours = 0, tuple(neighbours)
        self.roster = Roster(self.neighbours)
        self.now = now
        self.sent: list[tuple[int, int, bytes]] = []
        self.struck: list[int] = []
        self.take: Callable[[int, Header, memoryview], None] = lambda peer, header, payload: None
        self._round = round

    @property
    def hellos(self) -> Any:
        return self.roster.hellos

    @property
    def lost(self) -> dict[int, str]:
        return self.roster.lost()

    def on(self, round: int, handler: Any) -> None:
        assert round == self._round
        self.take = handler

    def send(self, peer: int, at: Step, payload: Any, form: str, size: int) -> None:
        assert at.round == self._round
        self.sent.append((peer, at.slot, bytes(payload)))

    def strike(self, peer: int, reason: str) -> None:
        self.struck.append(peer)
