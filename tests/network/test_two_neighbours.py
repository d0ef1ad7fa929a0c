"""Two peers' protocols, joined by a cable that is cut, blocked one way and reset, while they stop and start again.

Whatever happened: once the cable is whole and both run, they wait for each other again, and they hold little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.config import NetworkSettings
from p2pser.network import events, keys
from p2pser.network.neighbour import DIALLED, Contact, Neighbour
from p2pser.network.protocol import PeerProtocol
from p2pser.network.states import State
from p2pser.network.stream import Outgoing
from p2pser.wire import messages
from p2pser.wire.hello import Hello
from p2pser.wire.messages import SETTLE_WINDOW, Kind, Phase, Progress

STEP = 0.25
IN_FLIGHT = 64
KEYS = [keys.derive(b"s" * 32, "run", peer) for peer in (0, 1)]


class Cable:
    """One connection between the two, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.blocked: set[int] = set()
        """Directions (by sender) in which frames wait."""
        self.loses: tuple[int, Kind] | None = None
        """The direction in which messages of this kind do not arrive, as if an end had counted them wrongly."""
        self.frames: list[deque[bytes]] = [deque(), deque()]
        self.up = False
        self.stopped: set[int] = set()
        self.ends: dict[int, End] = {}

    def send(self, sender: int, frame: bytes) -> bool:
        if not self.up or len(self.frames[sender]) >= IN_FLIGHT:
            return False
        self.frames[sender].append(bytes(frame))
        return True

    def reset(self) -> None:
        was, self.up = self.up, False
        for waiting in self.frames:
            waiting.clear()
        if was:
            for end in list(self.ends.values()):
                end.link.connection_lost(True)

    def connect(self) -> None:
        if not self.up and not self.blocked and not self.stopped and len(self.ends) == 2:
            self.up = True
            for end in self.ends.values():
                if end.handler.send_hello(end.link, end.route(end.link)):
                    end.handler.hello_sent(end.link)

    def deliver(self) -> None:
        for sender in (0, 1):
            waiting, there = self.frames[sender], self.ends.get(1 - sender)
            while waiting and sender not in self.blocked and 1 - sender not in self.stopped and there is not None:
                frame = SimpleNamespace(buffer=memoryview(waiting.popleft()))
                if (sender, messages.decode(frame.buffer)[0].kind) == self.loses:
                    continue
                there.handler.received(there.link, frame, there.route(there.link), DIALLED)


class End:
    """What one protocol sees of the cable, in the place of its connections."""

    def __init__(self, cable: Cable, me: int, _: Any, links: dict[int, Neighbour], *rest: Any) -> None:
        self.cable, self.me, self.link, self.handler = cable, me, links[1 - me], rest[2]
        cable.ends[me] = self

    def maintain(self) -> None: ...

    def route(self, link: Neighbour) -> Callable[[bytes], bool]:
        return lambda frame: self.cable.send(self.me, frame)

    def dial(self, link: Neighbour) -> None:
        self.cable.reset()

    def accept(self, link: Neighbour, connection: bytes) -> None: ...

    def still_accepted(self, link: Neighbour, connection: bytes) -> None: ...

    def connected(self, peer: int) -> bool:
        return self.cable.up

    def bar(self, peer: int) -> None:
        pytest.fail("an honest neighbour was banned")


class Peer:
    """A process of one of the two, which trains: its round grows with time."""

    def __init__(self, cable: Cable, me: int, incarnation: int, *, joining: bool) -> None:
        self.cable, self.me, self.incarnation = cable, me, incarnation
        self.queue: SimpleQueue[events.Event] = SimpleQueue()
        hello = Hello("run", me, incarnation, {}, "t", "s", (1.0,), ("a", "b"), 7)
        cable.ends.pop(me, None)
        self.protocol = PeerProtocol(
            hello, KEYS[me], [Contact(1 - me, None, KEYS[1 - me].public)], NetworkSettings(), 1 << 20, self.queue,
            lambda: cable.now, lambda *given: End(cable, *given))  # type: ignore[arg-type]
        self.there = self.protocol.neighbours[1 - me]
        self.protocol.admit(True, True, ())
        self.joining, self.began = joining, False
        self.met = -1
        """The incarnation of the other one that this peer's training thread has been told of last."""
        self.row_bytes, self.newest_row = 8, -1

    def turn(self, round: int) -> None:
        if not self.began and (self.there.hello is not None or self.joining):
            self.began = True
            self.protocol.begin(self.joining)
        phase = Phase.TRAIN if self.began else Phase.START
        self.protocol.ours.progress = Progress(round if self.began else -9, 0, phase, 0)
        self.protocol.tick()
        if self.began:
            header = self.protocol.control.header(Kind.ROW)._replace(round=round)
            self.protocol.queue_rows([(1 - self.me, Outgoing(header, bytes(self.row_bytes)))])
        self.protocol.pump(self.there)
        while not self.queue.empty():
            event = self.queue.get()
            assert not isinstance(event, events.Struck), event
            if isinstance(event, events.Up):
                self.met = event.hello.incarnation
            if isinstance(event, events.Arrived):
                self.there.stream.read += 1
                self.newest_row = event.header.round


ACTIONS = ["wait", "wait", "wait long", "block 0", "block 1", "cut", "heal", "reset", "stop 0", "stop 1", "go on",
           "restart 0", "restart 1"]


class Pair:
    """The two, and what happens to them."""

    def __init__(self) -> None:
        self.cable = Cable()
        self.peers = [Peer(self.cable, me, 0, joining=False) for me in (0, 1)]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.cable.now += STEP
            self.cable.connect()
            self.cable.deliver()
            for peer in self.peers:
                if peer.me not in self.cable.stopped:
                    peer.turn(int(self.cable.now))
                    assert len(peer.there.stream._rows) <= SETTLE_WINDOW + 2
                    assert len(peer.there.stream._assembler) <= 4

    def act(self, action: str) -> None:
        what, _, who = action.partition(" ")
        if action == "wait long":
            self.run(11.0)
        elif what == "wait":
            self.run(1.5)
        elif what == "block":
            self.cable.blocked.add(int(who))
        elif what == "cut":
            self.cable.blocked = {0, 1}
        elif what == "heal":
            self.cable.blocked = set()
        elif what == "reset":
            self.cable.reset()
        elif what == "stop":
            self.cable.stopped.add(int(who))
        elif what == "go":
            self.cable.stopped = set()
        else:
            self.cable.reset()
            self.cable.stopped.discard(int(who))
            before = self.peers[int(who)]
            self.peers[int(who)] = Peer(self.cable, int(who), before.incarnation + 1, joining=before.began)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), max_size=14))
def test_once_the_cable_is_whole_they_wait_for_each_other_again(actions: list[str]) -> None:
    pair = Pair()
    pair.run(2.0)
    for action in actions:
        pair.act(action)
        pair.run(0.5)
    pair.act("heal")
    pair.act("go on")
    pair.run(20.0)
    assert [peer.there.state for peer in pair.peers] == [State.PRESENT, State.PRESENT], actions
    assert [peer.met for peer in pair.peers] == [peer.incarnation for peer in reversed(pair.peers)], actions


@pytest.mark.parametrize("down", ["wait", "wait long"])
def test_the_training_thread_hears_of_a_restart_also_of_a_neighbour_that_was_lost_meanwhile(down: str) -> None:
    pair = Pair()
    pair.run(2.0)
    for action in ("stop 1", down, "restart 1"):
        pair.act(action)
    pair.run(2.0)
    assert [peer.met for peer in pair.peers] == [1, 0]


@pytest.mark.parametrize("direction", [0, 1])
def test_a_neighbour_that_is_heard_but_hears_nothing_is_not_waited_for(direction: int) -> None:
    """Rows and PINGs of one end do not arrive: it is lost there; it learns so, though its own neighbour looks alive."""
    pair = Pair()
    pair.run(2.0)
    pair.act(f"block {direction}")
    pair.run(12.0)
    heard, deaf = pair.peers[direction], pair.peers[1 - direction]
    assert deaf.there.state is State.LOST
    assert heard.there.state in (State.RETURNING, State.LOST)
    pair.act("heal")
    pair.run(10.0)
    assert {heard.there.state, deaf.there.state} == {State.PRESENT}


@pytest.mark.parametrize("loses", [(0, Kind.ROW), (1, Kind.ROW), (0, Kind.CREDIT), (1, Kind.CREDIT)])
def test_rows_that_wait_for_the_credit_of_what_never_came_are_sent_while_pings_pass(loses: tuple[int, Kind]) -> None:
    pair = Pair()
    for peer in pair.peers:
        peer.row_bytes = 12_000
    pair.run(2.0)
    pair.cable.loses = loses
    pair.run(6.0)
    pair.cable.loses = None
    pair.run(4.0)
    assert all(peer.newest_row >= 9 for peer in pair.peers), "rows still wait, three rounds after the cable is whole"
    if loses[1] is Kind.CREDIT:
        assert [peer.there.stream.restarts for peer in pair.peers] == [0, 0], "all rows had come"
    assert [peer.there.state for peer in pair.peers] == [State.PRESENT, State.PRESENT]
