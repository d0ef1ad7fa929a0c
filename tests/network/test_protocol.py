"""The protocol's own clockwork, without a connection: what it reports to the training thread, and when."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from p2pser.config import NetworkSettings
from p2pser.network import events, keys
from p2pser.network.link import Link, Neighbour
from p2pser.network.protocol import PeerProtocol
from p2pser.network.rates import INTERVAL
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress


class Clockwork:
    """A protocol whose neighbour 1 has said HELLO, with a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue: SimpleQueue[events.Event] = SimpleQueue()
        self.link = Link(Neighbour(1, None, keys.derive(b"s" * 32, "run", 1).public), 65536, 1 << 20)
        ours, theirs = (Hello("run", peer, 0, {}, "t", "s", "i", ("a", "b"), 7) for peer in (0, 1))
        self.protocol = PeerProtocol(ours, keys.derive(b"s" * 32, "run", 0), {1: self.link}, NetworkSettings(),
                                     self.queue, lambda: self.now)
        self.link.admit(theirs, 0)
        self.protocol.liveness.watch(1, 0.0)
        self.protocol.tick()

    def until(self, end: float, step: float = 0.25) -> list[events.Event]:
        """Tick regularly; return what was reported."""
        while self.now < end:
            self.now = min(end, self.now + step)
            self.protocol.tick()
        return self.reported()

    def reported(self) -> list[events.Event]:
        return [self.queue.get() for _ in range(self.queue.qsize())]


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    clockwork = Clockwork()
    yield clockwork
    clockwork.protocol.connections.close(0)


def test_a_pause_of_this_process_is_reported_and_no_silence_of_a_neighbour(clockwork: Clockwork) -> None:
    assert clockwork.until(1.0) == []
    clockwork.now = 61.0
    clockwork.protocol.tick()
    assert clockwork.reported() == [events.Paused(60.0)]
    assert clockwork.until(62.25) == [events.Suspected(1, 2.0)]  # 1 s before the pause, .5 s of it, and more since


def test_in_the_run_a_silent_neighbour_is_suspected_then_dead_for_good(clockwork: Clockwork) -> None:
    clockwork.protocol.progress = Progress(0, 0, Phase.TRAIN, 0)
    assert clockwork.until(9.0) == [events.Suspected(1, 2.0), events.Died(1, 8.0)]
    assert clockwork.link.closed == "peer 1 was silent for 8.0 s and declared DEAD"


def test_before_the_run_a_dead_neighbour_may_come_back(clockwork: Clockwork) -> None:
    assert clockwork.until(9.0) == [events.Suspected(1, 2.0), events.Died(1, 8.0)]
    assert clockwork.link.closed == ""
    assert clockwork.link.hello is None


def test_the_same_trouble_is_reported_once_a_minute(clockwork: Clockwork) -> None:
    for now in (0.0, 1.0, INTERVAL - 1, INTERVAL, INTERVAL + 1):
        clockwork.now = now
        clockwork.protocol.trouble(1, "broken")
    clockwork.protocol.trouble(None, "broken")
    assert clockwork.reported() == [events.Trouble(1, "broken"), events.Trouble(1, "broken"),
                                    events.Trouble(None, "broken")]


def test_a_link_is_closed_for_the_incarnation_that_was_meant_only(clockwork: Clockwork) -> None:
    clockwork.protocol.close_link(1, "it left", incarnation=3)
    assert clockwork.link.closed == ""
    clockwork.protocol.close_link(1, "it left", incarnation=0)
    assert clockwork.link.closed == "it left"
