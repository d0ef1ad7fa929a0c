"""The protocol's own clockwork, without a connection: what it reports to the training thread, and when."""

from __future__ import annotations

from dataclasses import replace
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from p2pser.config import NetworkSettings
from p2pser.network import events, keys
from p2pser.network.control import APART
from p2pser.network.neighbour import Contact
from p2pser.network.protocol import REDIAL_LOST, PeerProtocol
from p2pser.network.rates import INTERVAL
from p2pser.network.states import Cause, State
from p2pser.wire import hello, messages
from p2pser.wire.hello import Hello, run_id
from p2pser.wire.messages import Header, Kind, Phase, Progress

THEIRS = Hello("run", 1, 0, {}, "t", "s", (1.0,), ("a", "b"), 7)


def refusal(incarnation: int) -> Any:
    """A frame of neighbour 1."""
    header = Header(Kind.REFUSED, run_id("run"), 1, incarnation, Progress(0, 0, Phase.START, 0))
    return framed(header, messages.encode_reason("another setting"))


def framed(header: Header, payload: bytes = b"") -> Any:
    """A message as it comes."""
    return SimpleNamespace(buffer=memoryview(messages.encode(header, payload)))


class NoConnections:
    """Connections that carry nothing."""

    def __init__(self, *_: object) -> None:
        self.dialled: list[int] = []

    def maintain(self) -> None:
        """Nothing is due."""

    def route(self, link):
        return lambda frame: False

    def dial(self, link) -> None:
        self.dialled.append(link.peer)

    def bar(self, peer: int) -> None:
        self.dialled.append(-peer)

    def still_accepted(self, link, connection: bytes) -> None:
        """Answers go nowhere."""


class Clockwork:
    """A protocol whose neighbour 1 has said HELLO, with a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue: SimpleQueue[events.Event] = SimpleQueue()
        ours, theirs = replace(THEIRS, peer=0), THEIRS
        contact = Contact(1, None, keys.derive(b"s" * 32, "run", 1).public)
        self.protocol = PeerProtocol(ours, keys.derive(b"s" * 32, "run", 0), [contact], NetworkSettings(), 1 << 20,
                                     self.queue, lambda: self.now, NoConnections)
        self.link = self.protocol.neighbours[1]
        assert self.link.greeted(theirs, 0, None, 0.0)[0] is None
        self.protocol.tick()

    def until(self, end: float, step: float = 0.25) -> list[events.Event]:
        """Tick regularly; return what was reported."""
        while self.now < end:
            self.now = min(end, self.now + step)
            self.protocol.tick()
        return self.reported()

    def reported(self) -> list[events.Event]:
        return [self.queue.get() for _ in range(self.queue.qsize())]

    def receive(self, kind: Kind, payload: bytes = b"", incarnation: int = 0, over: bytes = b"", *,
                phase: Phase = Phase.START, total: int = 0) -> None:
        """Take a message of neighbour 1."""
        header = Header(kind, run_id("run"), 1, incarnation, Progress(-9, 0, phase, 0), total=total)
        self.protocol.received(self.link, framed(header, payload), lambda frame: False, over)


SUSPECTED = events.Changed(1, State.PRESENT, State.SUSPECT, Cause.SILENCE, "silent for 2.0 s", 2.0)


def died(after: State) -> events.Changed:
    return events.Changed(1, State.SUSPECT, after, Cause.DEATH, "silent for 8.0 s", 8.0)


@pytest.fixture
def clockwork() -> Clockwork:
    return Clockwork()


def test_a_pause_of_this_process_is_reported_and_no_silence_of_a_neighbour(clockwork: Clockwork) -> None:
    assert clockwork.until(1.0) == []
    clockwork.now = 61.0
    clockwork.protocol.tick()
    assert clockwork.reported() == [events.Paused(60.0)]
    assert clockwork.until(62.25) == [SUSPECTED]  # 1 s before the pause, .5 s of it, and more since


@pytest.mark.parametrize(("ours", "its", "after"), [
    (Phase.EXCHANGE, Phase.TRAIN, State.RETURNING), (Phase.CONSENSUS, Phase.EXCHANGE, State.PRESENT),
    (Phase.CONSENSUS, Phase.CONSENSUS, State.RETURNING)])
def test_what_a_neighbour_said_before_our_last_row_came_sets_nobody_apart_at_the_end(
        clockwork: Clockwork, ours: Phase, its: Phase, after: State) -> None:
    clockwork.protocol.begin(joining=False)
    clockwork.protocol.ours.progress = Progress(9, 0, ours, 0)
    clockwork.receive(Kind.PING, phase=its, total=APART)
    assert clockwork.link.state is after


def test_in_the_run_a_silent_neighbour_is_suspected_then_lost_and_dialled_on(clockwork: Clockwork) -> None:
    clockwork.protocol.begin(joining=False)
    assert clockwork.until(9.0) == [events.Begun(), SUSPECTED, died(State.LOST)]
    assert clockwork.protocol.connections.dialled == []
    clockwork.until(9.0 + 3 * REDIAL_LOST)
    assert clockwork.protocol.connections.dialled == [1, 1, 1]


def test_a_neighbour_that_is_refused_is_dialled_on(clockwork: Clockwork) -> None:
    clockwork.until(9.0)  # it has gone before the run
    clockwork.protocol.refused(clockwork.link, "it has another setting", True)
    assert clockwork.link.state is State.REFUSED
    clockwork.until(9.5 + 3 * REDIAL_LOST)
    assert clockwork.protocol.connections.dialled == [1, 1, 1]


def test_the_late_refusal_of_a_former_process_changes_nothing(clockwork: Clockwork) -> None:
    """It was corrected and started again; the refusal took a longer way than the HELLO."""
    assert clockwork.link.greeted(replace(THEIRS, incarnation=3), 0, None, 0.0)[0] is None
    clockwork.protocol.received(clockwork.link, refusal(0), lambda frame: True, b"")
    assert clockwork.link.state is State.PRESENT
    assert clockwork.reported() == []
    clockwork.protocol.received(clockwork.link, refusal(3), lambda frame: True, b"")
    assert clockwork.link.state is State.REFUSED


@pytest.mark.parametrize(("kind", "total"), [(Kind.PONG, 0), (Kind.CREDIT, 0), (Kind.ROW, 1)])
def test_a_flood_of_cheap_messages_fills_no_memory_and_is_an_offence(clockwork: Clockwork, kind: Kind, total: int,
                                                                     ) -> None:
    """Each tells of new progress."""
    for number in range(20_000):
        clockwork.now = number / 20_000
        header = Header(kind, run_id("run"), 1, 0, Progress(number, 0, Phase.TRAIN, 0), round=1, slot=number,
                        total=total)
        clockwork.protocol.received(clockwork.link, framed(header, bytes(total)), lambda frame: True, b"")
        if clockwork.link.state is State.BANNED:
            break
    assert clockwork.link.state is State.BANNED
    reported = clockwork.reported()
    assert len(reported) < 400
    assert any("a flood of messages" in event.reason for event in reported if isinstance(event, events.Struck))


def test_large_bodies_count_as_many_messages(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 KiB takes a tenth of a second to read."""
    read: list[int] = []
    parse = hello.parse
    monkeypatch.setattr(hello, "parse", lambda body, sender: read.append(sender) or parse(body, sender))
    header = Header(Kind.HELLO, run_id("run"), 1, 0, Progress(0, 0, Phase.START, 0))
    body = {**THEIRS.body(), "settings": {"training.lr": [0] * 60_000}}
    frame = framed(header, messages.encode_body(body))
    for _ in range(6000):
        clockwork.protocol.received(clockwork.link, frame, lambda _: True, b"")
    assert len(read) == 2
    assert clockwork.link.state is State.BANNED


def test_a_thousand_cheap_messages_a_second_are_no_flood(clockwork: Clockwork) -> None:
    for number in range(6000):
        clockwork.now = number / 1000
        header = Header(Kind.PONG, run_id("run"), 1, 0, Progress(number, 0, Phase.TRAIN, 0))
        clockwork.protocol.received(clockwork.link, framed(header), lambda frame: True, b"")
        while clockwork.queue.qsize():
            assert isinstance(clockwork.queue.get(), events.Progressed)
            clockwork.link.told.heard += 1
    assert clockwork.link.strikes == 0


def test_before_the_run_a_dead_neighbour_is_absent(clockwork: Clockwork) -> None:
    assert clockwork.until(9.0) == [SUSPECTED, died(State.ABSENT)]


def test_the_pings_of_a_second_process_do_not_keep_the_first_alive(clockwork: Clockwork) -> None:
    clockwork.receive(Kind.HELLO, messages.encode_body(replace(THEIRS, process="second").body()), over=b"second")
    (refused,) = clockwork.reported()
    assert "runs twice" in refused.reason
    for now in range(1, 9):
        clockwork.receive(Kind.PING, over=b"second")
        clockwork.until(float(now))
    assert clockwork.link.state is State.ABSENT


def test_a_refusal_that_arrives_after_the_bye_over_the_other_connection_changes_nothing(clockwork: Clockwork) -> None:
    clockwork.receive(Kind.BYE, messages.encode_reason("interrupted"))
    assert [event.after for event in clockwork.reported() if isinstance(event, events.Changed)] == [State.ABSENT]
    clockwork.receive(Kind.REFUSED, messages.encode_reason("labels differ"), over=b"other")
    assert clockwork.reported() == []
    assert clockwork.link.state is State.ABSENT
    clockwork.receive(Kind.REFUSED, messages.encode_reason("labels differ"), incarnation=1, over=b"next")
    assert clockwork.link.state is State.REFUSED


def test_the_run_begins_without_those_that_have_not_come(clockwork: Clockwork) -> None:
    clockwork.until(9.0)
    clockwork.protocol.begin(joining=False)
    changed, begun = clockwork.reported()
    assert (changed.after, changed.reason) == (State.LOST, "silent for 8.0 s")
    assert begun == events.Begun()


def test_one_that_joins_a_run_does_not_wait_for_a_neighbour_that_does_not_train(clockwork: Clockwork) -> None:
    clockwork.protocol.begin(joining=True)
    assert [event.after for event in clockwork.reported()[:1]] == [State.RETURNING]


def test_the_same_trouble_is_reported_once_a_minute(clockwork: Clockwork) -> None:
    for now in (0.0, 1.0, INTERVAL - 1, INTERVAL, INTERVAL + 1):
        clockwork.now = now
        clockwork.protocol.trouble(1, "broken")
    clockwork.protocol.trouble(None, "broken")
    assert clockwork.reported() == [events.Trouble(1, "broken"), events.Trouble(1, "broken"),
                                    events.Trouble(None, "broken")]


def test_a_neighbour_is_dropped_in_the_incarnation_that_was_meant_only(clockwork: Clockwork) -> None:
    clockwork.protocol.begin(joining=False)
    clockwork.protocol.drop(1, "it answers nothing", incarnation=3)
    assert clockwork.link.state is State.PRESENT
    clockwork.protocol.drop(1, "it answers nothing", incarnation=0)
    assert (clockwork.link.state, clockwork.link.reason) == (State.LOST, "it answers nothing")
    clockwork.protocol.ours.progress = Progress(3, 0, Phase.TRAIN, 0)
    assert clockwork.link.heard(0.0) == []  # it lives, which was known
    assert [change.after for change in clockwork.link.row(3)] == [State.RETURNING]
    assert [change.after for change in clockwork.link.row(3)] == [State.PRESENT]


def test_after_some_strikes_a_neighbour_is_banned(clockwork: Clockwork) -> None:
    for number in range(7):
        clockwork.protocol.strike(1, f"lie {number}")
    reported = clockwork.reported()
    assert [event.strikes for event in reported if isinstance(event, events.Struck)] == [1, 2, 3, 4, 5]
    assert [event.after for event in reported if isinstance(event, events.Changed)] == [State.BANNED]
    assert clockwork.protocol.connections.dialled == [-1]
