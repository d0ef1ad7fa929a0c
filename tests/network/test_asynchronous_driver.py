"""Asynchronous algorithms over io: answers between local steps, early messages, reminders, stuck neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import mixer_peers
import networkx as nx
import pytest
import torch
from mixer_peers import Peers
from torch import Tensor, nn

from p2pser.base.errors import LocalProtocolError
from p2pser.config import Config
from p2pser.gossip.agreement.flood import agree_on_cuts
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import Asynchronous, Message, MessageKind, received
from p2pser.gossip.mixer import Outbox, Step
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.models.rows import Schema
from p2pser.network import events, states
from p2pser.network.asynchronous import MAX_EARLY, REMIND_AFTER, AsynchronousDriver
from p2pser.network.awaited import LONGEST
from p2pser.network.mixer import NetworkMixer
from p2pser.wire import messages
from p2pser.wire.messages import Header, Phase, Progress

SCHEMA = Schema.of(nn.Linear(2, 1, bias=False))
PAIR = Topology("pair", nx.path_graph(2), {}, "metropolis", {})
ROUND_TIMEOUT = 30.0


def lost(peer: int, cause: states.Cause, reason: str) -> events.Changed:
    return events.Changed(peer, states.State.PRESENT, states.State.LOST, cause, reason)


class Wire:
    """IOThread of peer 0 to peer 1 without a socket: what was sent, and what the test lets arrive."""

    def __init__(self) -> None:
        self.events: SimpleQueue[events.Event] = SimpleQueue()
        self.progress = Progress(0, 0, Phase.START, 0)
        self.sent: list[Message] = []
        self.left: list[int] = []

    def send(self, peers: list[int], step: tuple[int, int], payload: Any, *, codec: str = "", size: int = 0,
             schema: bytes = b"", unmixed: Any = None) -> None:
        self.sent += [received(0, j, Step(*step), bytes(payload), codec, size) for j in peers]

    def mark_heard(self, peer: int) -> None:
        """Nothing to count."""

    def mark_read(self, peer: int) -> None:
        """Nothing to count."""

    def drop(self, peer: int, reason: str, incarnation: int | None = None) -> None:
        self.left.append(peer)
        self.events.put(lost(peer, states.Cause.DROPPED, reason))

    def strike(self, peer: int, reason: str) -> None:
        self.events.put(events.Struck(peer, reason, 1))

    def arrive(self, message: Message) -> None:
        header = Header(messages.Kind.ROW, bytes(8), message.src, 0, Progress(0, 0, Phase.TRAIN, 0),
                        message.step.round, message.step.slot, codec=message.codec, size=message.size)
        self.events.put(events.Arrived(message.src, header, memoryview(bytes(message.payload))))


def ad_psgd(**parameters: float) -> Any:
    return create("ad-psgd", parameters, Config(), PAIR)


def stale_gossip(**parameters: float) -> Any:
    return create("stale-gossip", parameters, Config(), PAIR)


class Bench:
    """A driver of peer 0 over a wire, in a time that the test makes."""

    def __init__(self, algorithm: Asynchronous, rounds: int) -> None:
        self.wire, self.now, self.troubles = Wire(), 0.0, []
        self.mixer = NetworkMixer(self.wire, PAIR, 0, SCHEMA, clips=None, round_timeout=ROUND_TIMEOUT,
                                  observe=self._observe, clock=lambda: self.now)
        self.driver = AsynchronousDriver(self.mixer, algorithm, seed=0, rounds=rounds, clock=lambda: self.now)
        self.rounds: list[int] = []
        self.between: dict[tuple[int, int], Callable[[], None]] = {}
        """(round, local step) -> what happens before that step ends."""

    def _observe(self, event: events.Event) -> None:
        if isinstance(event, events.Struck):
            self.troubles.append(event.reason)

    steps = 3
    clips = (1,)

    def train(self, state: State, round: int, *, rows: Tensor, correction: Any = None, only: Any = None) -> Tensor:
        for step in range(self.steps):
            self.between.pop((round, step), lambda: None)()
            rows = rows + 1
            self.driver.local_step(0, step)
        return rows

    def run(self, start: int = 0) -> State:
        return self.driver.run(State({"x": torch.zeros(1, 2)}), self, start,
                               before_round=lambda round, state: None,
                               after_round=lambda round, state: self.rounds.append(round))

    def listen_with(self, happen: Callable[[float], None]) -> None:
        """Whenever the driver would wait, let time pass and this happen instead."""
        plain = self.mixer.listen

        def listen(timeout: float = 0.0) -> None:
            if timeout:
                self.now += timeout
                happen(timeout)
            plain(0.0)

        self.mixer.listen = listen


def request(number: int, value: float) -> Message:
    return Message(1, 0, MessageKind.REQUEST, number).with_row(torch.full((2,), value))


def refusal(sent: Message) -> Message:
    return Message(1, 0, MessageKind.REFUSAL, sent.number, sent.attempt)


def test_a_request_is_answered_before_the_local_step_after_it_with_the_row_as_it_is():
    bench = Bench(ad_psgd(), 1)
    bench.between[0, 1] = lambda: bench.wire.arrive(request(1, 8.0))
    bench.between[0, 2] = lambda: answered.extend(bench.wire.sent)
    answered: list[Message] = []
    bench.listen_with(lambda _: bench.wire.arrive(refusal(bench.wire.sent[-1])))
    state = bench.run()
    assert [one.kind for one in answered] == [MessageKind.REPLY]
    assert answered[0].row(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]
    assert state.rows["x"].tolist() == [[7.0, 7.0]]  # half of the difference, and three local steps


def test_what_comes_before_this_peer_trains_is_kept_and_the_oldest_goes_first():
    bench = Bench(ad_psgd(), 20)
    for number in range(1, MAX_EARLY + 3):
        bench.wire.arrive(request(number, 8.0))
    bench.mixer.listen()
    assert bench.wire.sent == []
    bench.run(start=20)
    assert [one.number for one in bench.wire.sent] == list(range(3, MAX_EARLY + 3))


def test_messages_of_other_rounds_are_the_mixers():
    bench = Bench(ad_psgd(), 2)
    bench.mixer.post(Step(2, 0), Outbox(edges={(0, 1): torch.zeros(2)}))
    bench.wire.arrive(Message(1, 0, MessageKind.PUSH, 3).with_row(torch.ones(2)))  # round 2: a row of the end
    inbox = bench.mixer.collect_messages(Step(2, 0), lambda edge, message: message.row(torch.float32, 2))
    assert inbox.values[0].tolist() == [1.0, 1.0]


def test_an_answer_that_does_not_come_is_asked_for_again_ever_more_rarely():
    bench = Bench(ad_psgd(bound=0), 1)
    asked: list[float] = []

    def happen(_: float) -> None:
        if len(bench.wire.sent) > len(asked):
            asked.append(bench.now)
        if len(asked) == 4:
            bench.wire.arrive(refusal(bench.wire.sent[-1]))

    bench.listen_with(happen)
    bench.run()
    gaps = [after - before for before, after in pairwise(asked[1:])]
    assert [one.kind for one in bench.wire.sent] == [MessageKind.REQUEST, *[MessageKind.WITHDRAW] * 3]
    assert gaps == [2 * REMIND_AFTER, 4 * REMIND_AFTER]
    assert len({one.step for one in bench.wire.sent}) == 4  # links drop copies of a step
    assert bench.driver.waited_s == pytest.approx(bench.now)


def test_a_neighbour_that_answers_nothing_and_gets_nowhere_is_left():
    bench = Bench(ad_psgd(bound=1), 4)
    bench.wire.events.put(events.Progressed(1, Progress(0, 0, Phase.TRAIN, 1)))
    bench.listen_with(lambda _: None)
    bench.run()
    assert bench.wire.left == [1]
    assert bench.now >= ROUND_TIMEOUT
    assert "reported no progress for 30 s" in bench.mixer.lost[1]
    assert bench.rounds == [0, 1, 2, 3]


def test_a_neighbour_that_gets_on_is_waited_for():
    bench = Bench(ad_psgd(bound=0), 1)
    bench.wire.events.put(events.Progressed(1, Progress(0, 0, Phase.TRAIN, 1)))

    def happen(_: float) -> None:
        bench.wire.events.put(events.Progressed(1, Progress(0, 0, Phase.TRAIN, int(bench.now) + 2)))
        if bench.now > 5 * ROUND_TIMEOUT:
            bench.wire.arrive(refusal(bench.wire.sent[-1]))

    bench.listen_with(happen)
    bench.run()
    assert bench.wire.left == []
    assert bench.now > 5 * ROUND_TIMEOUT


def test_a_neighbour_is_not_stuck_because_this_peer_has_run_for_long():
    bench = Bench(ad_psgd(bound=1), 4)
    bench.now = 1e6
    bench.wire.events.put(events.Progressed(1, Progress(0, 0, Phase.TRAIN, 1)))
    bench.listen_with(lambda _: bench.wire.arrive(refusal(bench.wire.sent[-1])))
    bench.run()
    assert bench.wire.left == []


def test_a_neighbour_that_goes_on_and_never_answers_is_left_in_the_end():
    bench = Bench(ad_psgd(bound=1), 4)
    bench.listen_with(lambda _: bench.wire.events.put(
        events.Progressed(1, Progress(0, 0, Phase.TRAIN, int(bench.now) + 2))))
    bench.run()
    assert set(bench.wire.left) == {1}
    assert LONGEST * ROUND_TIMEOUT <= bench.now <= (LONGEST + 1) * ROUND_TIMEOUT
    assert "gave no answer for 300 s" in bench.mixer.lost[1]


@pytest.mark.parametrize("row", [torch.zeros(5), torch.tensor([1.0, torch.nan]), torch.full((2,), 1e9)])
def test_an_answer_that_does_not_fit_ends_the_waiting_for_it(row: Tensor):
    bench = Bench(ad_psgd(bound=0), 2)
    bench.listen_with(lambda _: bench.wire.arrive(replace(bench.wire.sent[-1], src=1, dst=0, kind=MessageKind.REPLY)
                                                  .with_row(row)))
    state = bench.run()
    assert bench.rounds == [0, 1]
    assert len(bench.troubles) == 2
    assert bench.now < ROUND_TIMEOUT
    assert state.rows["x"].tolist() == [[6.0, 6.0]]
    assert bench.driver.report()["refused"] == 2


def test_the_sender_of_a_request_that_does_not_fit_need_not_wait():
    bench = Bench(ad_psgd(), 1)
    asked = Message(1, 0, MessageKind.REQUEST, 1).with_row(torch.zeros(5))
    bench.between[0, 0] = lambda: bench.wire.arrive(asked)
    bench.between[0, 1] = lambda: bench.wire.arrive(replace(request(1, 8.0), attempt=1))
    bench.listen_with(lambda _: bench.wire.arrive(refusal(bench.wire.sent[-1])))
    state = bench.run()
    assert [(one.kind, one.number, one.attempt) for one in bench.wire.sent[:2]] == [
        (MessageKind.REFUSAL, 1, 0), (MessageKind.REFUSAL, 1, 1)]  # for good
    assert state.rows["x"].tolist() == [[3.0, 3.0]]


def test_a_dead_neighbour_holds_nobody():
    bench = Bench(ad_psgd(bound=0), 3)
    bench.listen_with(lambda _: bench.wire.events.put(lost(1, states.Cause.DEATH, "silent for 8.0 s")))
    bench.run()
    assert bench.rounds == [0, 1, 2]
    assert len(bench.wire.sent) == 1


def test_what_does_not_fit_is_told_and_dropped():
    bench = Bench(ad_psgd(), 1)
    bench.between[0, 0] = lambda: bench.wire.arrive(Message(1, 0, MessageKind.REQUEST, 1).with_row(torch.zeros(5)))
    bench.listen_with(lambda _: bench.wire.arrive(refusal(bench.wire.sent[-1])))
    bench.run()
    (trouble,) = bench.troubles
    assert "row of 5 numbers where 2 are due" in trouble


def test_nothing_is_driven_before_it_has_begun():
    with pytest.raises(LocalProtocolError, match="before its run has begun"):
        Bench(ad_psgd(), 1).driver.close()


@pytest.mark.parametrize("algorithm", [ad_psgd(), stale_gossip()], ids=["ad-psgd", "stale-gossip"])
def test_over_real_links_the_mean_is_kept_and_all_come_closer(peers: Peers, algorithm: Asynchronous) -> None:
    topology = Topology("ring", nx.cycle_graph(4), {}, "metropolis", {})

    class Still:
        """Local work that takes its time, one peer five times as much, and changes nothing."""

        steps, clips = 5, (1,)

        def __init__(self, driver: AsynchronousDriver) -> None:
            self.driver = driver

        def train(self, state: State, round: int, *, rows: Tensor, correction: Any = None, only: Any = None) -> Tensor:
            for step in range(self.steps):
                for _ in range(50 if self.driver.mixer.me == 1 else 10):
                    torch.ones(80, 80) @ torch.ones(80, 80)
                self.driver.local_step(self.driver.mixer.me, step)
            return rows.clone()

    x = torch.randn(4, mixer_peers.SCHEMA.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def one(mixer: NetworkMixer) -> tuple[Tensor, dict[str, Any]]:
        driver = AsynchronousDriver(mixer, algorithm, seed=0, rounds=40)
        mixer_peers.connect(mixer)
        mixer.enter(Phase.TRAIN, 0)
        state = driver.run(State({"x": x[[mixer.me]].clone()}), Still(driver), 0,
                           before_round=lambda round, state: None, after_round=lambda round, state: None)
        mixer.enter(Phase.CONSENSUS, 40)
        agree_on_cuts(mixer, 40, topology.graph)
        driver.close()
        return state.rows.get("mass", torch.cat([state.rows["x"], torch.ones(1, 1)], 1)), driver.report()

    found = peers.together(*(lambda m=m: one(m) for m in peers.all(topology)))
    mass = torch.cat([rows for rows, _ in found])
    mean = mass[:, :-1].sum(0) / mass[:, -1].sum()
    assert float((mean - x.mean(0)).abs().max()) <= 1e-12
    assert float(mass[:, -1].sum()) == pytest.approx(4.0)
    assert float((mass[:, :-1] / mass[:, -1:] - mean).norm()) < 0.2 * float((x - x.mean(0)).norm())
    assert all(report["open"] == report["drift"] == 0 for _, report in found)


def test_one_that_waits_for_an_answer_reports_progress_meanwhile():
    """Else its own neighbours would give it up before it gives up the one that does not answer."""
    bench, told = Bench(ad_psgd(bound=0), 1), []

    def happen(_: float) -> None:
        told.append(bench.wire.progress.local_step)
        if bench.now > 20:
            bench.wire.arrive(refusal(bench.wire.sent[-1]))

    bench.listen_with(happen)
    bench.mixer.enter(Phase.TRAIN, 0)
    bench.run()
    assert len(set(told)) == 3
