"""The mixer, with a clock of the test's own and events instead of an I/O thread: which part each event calls."""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, cast

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Outbox, Step, add_flows
from p2pser.graph.spec import Topology
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.io import IOThread
from p2pser.network.mixer import NetworkMixer
from p2pser.network.own_progress import HOPS
from p2pser.network.states import Cause, State
from p2pser.wire.codec import DENSE
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Kind, Phase, Progress

SCHEMA = Schema.of(nn.Linear(3, 2))
STAR = Topology("star", nx.star_graph(2), {}, "metropolis", {})
TIMEOUT = 30.0


@dataclass(frozen=True)
class Sent:
    """A payload that the mixer sent."""

    peers: tuple[int, ...]
    step: tuple[int, int]
    payload: bytes
    unmixed: dict[int, tuple[Step, ...]]


class FakeIO:
    """What the mixer uses of an IOThread."""

    def __init__(self) -> None:
        self.events: SimpleQueue[events.Event] = SimpleQueue()
        self.progress = Progress(0, 0, Phase.START, 0)
        self.sent: list[Sent] = []
        self.read: list[int] = []
        self.dropped: list[tuple[int, int | None]] = []
        self.strikes: list[tuple[int, str]] = []

    def send(self, peers: Any, step: tuple[int, int], payload: Any, *, unmixed: Any, **_: Any) -> None:
        peers = tuple(peers)
        self.sent.append(Sent(peers, tuple(step), bytes(payload), {j: unmixed(j) for j in peers}))

    def mark_heard(self, peer: int) -> None:
        """Nothing to count."""

    def mark_read(self, peer: int) -> None:
        self.read.append(peer)

    def drop(self, peer: int, reason: str, incarnation: int | None = None) -> None:
        self.dropped.append((peer, incarnation))

    def strike(self, peer: int, reason: str) -> None:
        self.strikes.append((peer, reason))


class Hub:
    """The mixer of peer 0, whose neighbours 1 and 2 train; nothing arrives but what the test lets arrive."""

    def __init__(self) -> None:
        self.now = 0.0
        self.io = FakeIO()
        self.looks: list[int] = []
        """How many events had been seen at each call of ``check``."""
        self.seen: list[events.Event] = []
        self.mixer = NetworkMixer(cast(IOThread, self.io), STAR, 0, SCHEMA, clips=None, round_timeout=TIMEOUT,
                                  observe=self.seen.append, clock=lambda: self.now,
                                  check=lambda: self.looks.append(len(self.seen)))
        for j in (1, 2):
            hello = Hello("run", j, 4 + j, {}, "t", SCHEMA.digest(), (1.0,), ("a", "b"), 7)
            self.io.events.put(events.Up(j, hello, Progress(-3, 0, Phase.SETUP, 0)))
            self.changes(j, State.ABSENT, State.PRESENT, Cause.HELLO)
            self.io.events.put(events.Progressed(j, Progress(0, 0, Phase.TRAIN, 0)))
        self.mixer.listen()
        self.mixer.enter(Phase.TRAIN, 0)

    def changes(self, peer: int, before: State, after: State, cause: Cause, reason: str = "") -> None:
        self.io.events.put(events.Changed(peer, before, after, cause, reason))

    def arrive(self, sender: int, step: tuple[int, int], row: Tensor,
               unmixed: tuple[tuple[int, int], ...] = ()) -> None:
        header = Header(Kind.ROW, b"run-0001", sender, 0, Progress(*step, Phase.EXCHANGE, 0), *step, unmixed=unmixed,
                        codec=DENSE.wire_name(row), size=row.numel())
        self.io.events.put(events.Arrived(sender, header, memoryview(bytes(DENSE.encode(row)))))


def row(value: float) -> Tensor:
    return torch.full((SCHEMA.size,), value, dtype=torch.float64)


def test_after_a_pause_of_this_process_every_neighbour_has_its_whole_time_again() -> None:
    hub = Hub()
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    hub.mixer.exchange.begin(Step(0, 0))
    assert hub.mixer.exchange.deadline(0.0) == TIMEOUT
    hub.now = 100.0
    hub.io.events.put(events.Paused(100.0))
    hub.mixer.listen()
    assert hub.mixer.exchange.deadline(100.0) == 100.0 + TIMEOUT
    assert hub.mixer.exchange.stuck(100.0) == ()
    assert events.Paused(100.0) in hub.seen


def test_a_neighbour_that_sends_without_a_pause_keeps_no_exchange_from_its_end() -> None:
    hub = Hub()
    header = Header(Kind.ROW, b"run-0001", 1, 0, Progress(0, 0, Phase.TRAIN, 0), round=-9)
    again = events.Arrived(1, header, memoryview(b""))
    hub.mixer.on(-9, lambda *_: hub.io.events.put(again))
    hub.io.events.put(again)
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    for j in (1, 2):
        hub.arrive(j, (0, 0), row(3))
    assert len(hub.mixer.collect(Step(0, 0)).values) == 2


def test_a_neighbours_progress_restarts_its_time_and_is_progress_of_ours() -> None:
    hub = Hub()
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    hub.mixer.enter(Phase.EXCHANGE, 0)
    hub.now = 20.0
    hub.io.events.put(events.Progressed(1, Progress(0, 0, Phase.TRAIN, HOPS)))
    hub.mixer.listen()
    assert hub.io.progress == Progress(0, 0, Phase.EXCHANGE, HOPS + 1)  # a step that came over one peer
    assert hub.mixer.exchange.stuck(TIMEOUT) == (2,)
    assert hub.mixer.exchange.stuck(20.0 + TIMEOUT) == (1, 2)


def collect_without_2(hub: Hub) -> Tensor:
    """Exchange (0, 0): peer 1 delivers 3, peer 2 is given up; our row is 1."""
    own = row(1)[None]
    hub.mixer.post(Step(0, 0), Outbox(rows=own))
    hub.arrive(1, (0, 0), row(3))
    hub.mixer.listen()
    hub.now += TIMEOUT
    hub.io.events.put(events.Progressed(1, Progress(0, 0, Phase.EXCHANGE, 1)))
    mixed = add_flows(own, hub.mixer.collect(Step(0, 0)), (0,))
    assert hub.mixer.left_out == [(Step(0, 0), 2, DeliveryStatus.GIVEN_UP)]
    return mixed


def test_the_next_row_says_to_each_neighbour_what_was_not_mixed_with_it() -> None:
    hub = Hub()
    mixed = collect_without_2(hub)
    hub.mixer.post(Step(1, 0), Outbox(rows=mixed))
    first, second = hub.io.sent
    assert first.unmixed == {1: (), 2: ()}
    assert second.unmixed == {1: (), 2: (Step(0, 0),)}


def test_a_late_row_is_settled_with_the_weight_and_the_row_of_its_own_exchange() -> None:
    hub = Hub()
    mixed = collect_without_2(hub)
    assert mixed[0, 0].item() == pytest.approx(1 + (3 - 1) / 3)
    hub.io.events.put(events.Progressed(2, Progress(1, 0, Phase.TRAIN, 0)))
    hub.mixer.post(Step(1, 0), Outbox(rows=mixed))
    hub.arrive(2, (0, 0), row(7))
    for j in (1, 2):
        hub.arrive(j, (1, 0), mixed[0])
    again = add_flows(mixed, hub.mixer.collect(Step(1, 0)), (0,))
    assert again[0, 0].item() == pytest.approx(mixed[0, 0].item() + (7 - 1) / 3)
    assert hub.mixer.exchange.messages_late == 1


def test_a_row_that_a_neighbour_has_not_mixed_is_sent_to_it_again_once() -> None:
    hub = Hub()
    collect_without_2(hub)
    hub.arrive(1, (1, 0), row(3), unmixed=((0, 0),))
    hub.arrive(1, (2, 0), row(3), unmixed=((0, 0),))
    hub.mixer.listen()
    assert [(sent.peers, sent.step, sent.payload) for sent in hub.io.sent] == [
        ((1, 2), (0, 0), bytes(DENSE.encode(row(1)))), ((1,), (0, 0), bytes(DENSE.encode(row(1))))]


def test_every_message_is_marked_as_read_also_one_that_breaks_the_protocol() -> None:
    hub = Hub()
    hub.arrive(1, (0, 0), row(3))
    header = Header(Kind.ROW, b"run-0001", 2, 0, Progress(0, 0, Phase.TRAIN, 0), schema=b"another!", size=1)
    hub.io.events.put(events.Arrived(2, header, memoryview(b"1234")))
    hub.mixer.listen()
    assert hub.io.read == [1, 2]
    assert [peer for peer, _ in hub.io.strikes] == [2]


def test_peers_that_wait_for_each_other_make_no_progress_by_each_others_progress() -> None:
    """The star has three peers: what came over three is an echo of our own."""
    hub = Hub()
    hub.mixer.enter(Phase.EXCHANGE, 0)
    told = []
    for _ in range(9):
        hub.io.events.put(events.Progressed(1, Progress(0, 0, Phase.EXCHANGE, hub.io.progress.local_step + HOPS)))
        hub.mixer.listen()
        told.append(hub.io.progress.local_step)
    assert told == [HOPS + 1, 2 * HOPS + 2, *[3 * HOPS + 3] * 7]
    hub.io.events.put(events.Progressed(1, Progress(0, 1, Phase.TRAIN, 0)))
    hub.mixer.listen()
    assert hub.io.progress.local_step == 4 * HOPS + 1
    hub.mixer.local_step(0, 0)
    assert hub.io.progress.local_step == 5 * HOPS


def test_a_lost_neighbour_is_not_sent_to_and_one_that_returns_is_but_is_not_waited_for() -> None:
    hub = Hub()
    hub.changes(1, State.SUSPECT, State.LOST, Cause.DEATH, "silent for 8.0 s")
    hub.mixer.listen()
    assert hub.mixer.lost == {1: "silent for 8.0 s"}
    assert hub.mixer.receivers(0, Step(0, 0)) == (2,)
    hello = Hello("run", 1, 6, {}, "t", SCHEMA.digest(), (1.0,), ("a", "b"), 7)
    hub.io.events.put(events.Up(1, hello, Progress(-3, 0, Phase.SETUP, 0)))
    hub.changes(1, State.LOST, State.RETURNING, Cause.HELLO)
    hub.mixer.listen()
    assert hub.mixer.lost == {}
    assert hub.mixer.receivers(0, Step(0, 0)) == (1, 2)
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    hub.arrive(2, (0, 0), row(3))
    hub.mixer.collect(Step(0, 0))
    assert hub.mixer.left_out == [(Step(0, 0), 1, DeliveryStatus.GIVEN_UP)]
    hub.mixer.enter(Phase.CONSENSUS, 1)
    assert hub.mixer.receivers(0, Step(1, 0)) == (2,)
    assert hub.mixer.unreachable() == {1}


def test_a_neighbour_is_dropped_in_the_incarnation_that_is_known() -> None:
    hub = Hub()
    hub.mixer.drop(1, "it answers nothing")
    assert hub.io.dropped == [(1, 5)]


@pytest.mark.parametrize(("wrong", "status"), [({"codec": "no-such"}, DeliveryStatus.REFUSED),
                                               ({"schema": b"another!"}, DeliveryStatus.GIVEN_UP)])
def test_a_row_that_does_not_fit_is_missing_and_not_waited_for(wrong: dict[str, Any], status: DeliveryStatus) -> None:
    hub = Hub()
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    hub.arrive(1, (0, 0), row(3))
    header = Header(Kind.ROW, b"run-0001", 2, 0, Progress(0, 0, Phase.TRAIN, 0), size=1, **wrong)
    hub.io.events.put(events.Arrived(2, header, memoryview(b"1234")))
    assert len(hub.mixer.collect(Step(0, 0)).values) == 1
    assert hub.mixer.left_out == [(Step(0, 0), 2, status)]
    assert [peer for peer, _ in hub.io.strikes] == [2]


def test_a_neighbour_that_goes_on_without_us_is_not_waited_for() -> None:
    hub = Hub()
    hub.mixer.post(Step(0, 0), Outbox(rows=row(1)[None]))
    hub.arrive(2, (0, 0), row(3))
    hub.io.events.put(events.Progressed(1, Progress(2, 0, Phase.TRAIN, 0)))
    hub.mixer.collect(Step(0, 0))
    assert hub.mixer.left_out == [(Step(0, 0), 1, DeliveryStatus.SKIPPED)]


def test_a_message_that_comes_while_others_are_awaited_reaches_its_handler() -> None:
    """Neighbour 1 trains and sends the join state at once; neighbour 2 is still awaited."""
    io, taken = FakeIO(), []
    mixer = NetworkMixer(cast(IOThread, io), STAR, 0, SCHEMA, clips=None, round_timeout=TIMEOUT, clock=lambda: 0.0)
    mixer.on(-1, lambda peer, header, payload: taken.append((peer, header.slot, bytes(payload))))
    for j, round in ((1, 4), (2, 4)):
        if j == 2:
            header = Header(Kind.ROW, b"run-0001", 1, 5, Progress(4, 0, Phase.TRAIN, 0), -1, 2)
            io.events.put(events.Arrived(1, header, memoryview(b"state")))
        hello = Hello("run", j, 5, {}, "t", SCHEMA.digest(), (1.0,), ("a", "b"), 7)
        io.events.put(events.Up(j, hello, Progress(round, 0, Phase.TRAIN, 0)))
        io.events.put(events.Changed(j, State.ABSENT, State.PRESENT, Cause.HELLO))
    mixer.connect(None, 0.0, lambda sentence: None)
    assert taken == [(1, 2, b"state")]


def test_a_message_that_its_handler_refuses_is_a_strike_and_the_others_count() -> None:
    hub, taken = Hub(), []

    def take(peer: int, header: Header, payload: memoryview) -> None:
        if header.slot:
            raise RemoteProtocolError("there is no such part")
        taken.append(header.round)

    hub.mixer.on(range(5, 7), take)
    for step in ((5, 0), (6, 1), (6, 0), (6, 2), (7, 1)):
        hub.arrive(2, step, row(3))
    hub.mixer.listen()
    assert taken == [5, 6]
    assert hub.io.strikes == [(2, "there is no such part")] * 2


def test_a_row_of_a_round_that_never_comes_is_a_strike() -> None:
    """Rounds 0 .. 4 are trained; 5 and 6 are the flood of cut edges and the consensus."""
    io = FakeIO()
    mixer = NetworkMixer(cast(IOThread, io), STAR, 0, SCHEMA, clips=None, round_timeout=TIMEOUT, rounds=5,
                         clock=lambda: 0.0)
    for round in (6, 7, 2**31 - 1):
        header = Header(Kind.ROW, b"run-0001", 2, 0, Progress(4, 0, Phase.TRAIN, 0), round)
        io.events.put(events.Arrived(2, header, memoryview(b"")))
    mixer.listen()
    assert io.strikes == [(2, f"peer 2 sent a row of round {round}, which is no round of this run")
                          for round in (7, 2**31 - 1)]
    assert mixer.exchange.newest(2) == Step(6, 0)


def test_a_wait_ends_with_the_alarm_at_the_latest() -> None:
    hub, waits = Hub(), []

    class Nothing:
        def get(self, timeout: float | None) -> events.Event:
            waits.append(timeout)
            raise Empty

        def get_nowait(self) -> events.Event:
            raise Empty

        def qsize(self) -> int:
            return 0

    hub.io.events = cast("SimpleQueue[events.Event]", Nothing())
    hub.mixer.wake_at(4.5)
    for timeout in (None, 30.0, 1.5):
        hub.mixer.listen(timeout)
    hub.now = 6.0
    hub.mixer.listen(30.0)
    hub.mixer.wake_at(None)
    hub.mixer.listen(30.0)
    assert waits == [4.5, 4.5, 1.5, 0.0, 30.0]


def test_what_waits_is_looked_at_after_the_last_of_several_events() -> None:
    """Else a model that comes with other events is taken only at the next event, and there may be none."""
    hub = Hub()
    before = len(hub.seen)
    hub.looks.clear()
    for local_step in (1, 2, 3):
        hub.io.events.put(events.Progressed(2, Progress(0, 0, Phase.TRAIN, local_step)))
    hub.mixer.listen()
    assert hub.looks == [before + 1, before + 3]


def test_one_that_waits_for_a_peer_that_has_not_begun_makes_progress_meanwhile() -> None:
    """Neighbour 1 waits for an operator; those that wait for us must not give us up, and 2 is given up by us."""
    hub, beats = Hub(), []
    hub.mixer.enter(Phase.SETUP, -3)
    hub.mixer.exchange.awaited._progress[1] = (Progress(-9, 0, Phase.START, 0), 0.0)
    hub.mixer.exchange.awaited._progress[2] = (Progress(-3, 0, Phase.SETUP, 0), 0.0)
    hub.mixer.post(Step(-3, 0), Outbox(edges={(0, 1): b"", (0, 2): b""}))

    def wait(timeout: float | None) -> None:
        assert timeout is not None
        hub.now += timeout
        beats.append((hub.now, hub.io.progress.local_step // HOPS, hub.mixer.exchange.waiting(hub.now)))
        if hub.now > 2 * TIMEOUT:
            hub.changes(1, State.PRESENT, State.LOST, Cause.DEATH)

    hub.mixer._receiving.next = wait  # type: ignore[method-assign]
    hub.mixer.collect(Step(-3, 0))
    assert beats[:3] == [(TIMEOUT * k / 4, k, (1, 2)) for k in (1, 2, 3)]
    assert beats[4][2] == (1,)
    assert len(beats) == 9
