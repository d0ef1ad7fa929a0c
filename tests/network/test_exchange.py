"""The exchange machine, several of them joined by a network that loses, delays, doubles and reorders."""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import BLOCK, Late, Step, distance
from p2pser.graph.mixing import metropolis, weight
from p2pser.network import events
from p2pser.network.exchange import AHEAD, LONGEST, NEVER, DeliveryStatus, Exchange, Outcome
from p2pser.network.past import PAST_BYTES
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.wire.messages import SETTLE_WINDOW, Phase, Progress

TIMEOUT = 10.0
GRAPHS: dict[str, Callable[[], nx.Graph]] = {
    "pair": lambda: nx.path_graph(2), "chain": lambda: nx.path_graph(4), "ring": lambda: nx.cycle_graph(5),
    "complete": lambda: nx.complete_graph(4), "star": lambda: nx.star_graph(4),
}


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def train(round: int, peer: int, x: Tensor) -> Tensor:
    """Some local work that depends on nothing but its arguments."""
    return x * 0.9 + torch.from_numpy(np.random.Generator(np.random.Philox([round, peer])).normal(size=len(x)))


def lose(exchange: Exchange, j: int) -> None:
    exchange._roster.changed(events.Changed(j, State.PRESENT, State.LOST, Cause.DEATH), 0.0)


def at(round: int) -> Progress:
    return Progress(round, 0, Phase.EXCHANGE, 0)


def mixed(own: Tensor, outcome: Outcome, weights: dict[int, float]) -> Tensor:
    """As gossip.mixer.add_flows: the flows in ascending order, then the late ones."""
    new = own.clone()
    for j, value in outcome.values:
        new.add_(value - own, alpha=weights[j])
    for late in outcome.late:
        new.add_(late.value - late.own, alpha=late.weight)
    return new


@dataclass
class One:
    """A peer of the fake network."""

    me: int
    graph: nx.Graph
    timeout: float = TIMEOUT
    x: Tensor = field(default_factory=lambda: row(0, 0, 0))

    def __post_init__(self) -> None:
        degree = self.graph.degree
        self.weights = {j: weight(degree[self.me], degree[j]) for j in self.graph[self.me]}
        self.exchange = Exchange(self.me, Roster(self.graph[self.me]), self.timeout)
        for j in self.graph[self.me]:
            self.exchange.progress(j, Progress(0, 0, Phase.TRAIN, 0), 0.0)

    def post(self, round: int) -> list[tuple[int, tuple[int, Step, Tensor, tuple[Step, ...]]]]:
        """Train and post: (destination, message) for every neighbour."""
        self.own = train(round, self.me, self.x)
        self.exchange.post(Step(round, 0), self.own, self.weights)
        return [(j, (self.me, Step(round, 0), self.own, self.exchange.unmixed(j))) for j in sorted(self.weights)]

    def finish(self, now: float) -> bool:
        outcome = self.exchange.finish(now)
        if outcome is not None:
            self.x = mixed(self.own, outcome, self.weights)
        return outcome is not None


def reference(graph: nx.Graph, rounds: int) -> list[Tensor]:
    """What everybody has where every message arrives."""
    xs = [row(0, 0, 0) for _ in graph]
    W = metropolis(graph)
    for round in range(rounds):
        zs = [train(round, i, x) for i, x in enumerate(xs)]
        xs = []
        for i, z in enumerate(zs):
            new = z.clone()
            for j in sorted(graph[i]):
                new.add_(zs[j] - z, alpha=float(W[i, j]))
            xs.append(new)
    return xs


def run_freely(graph: nx.Graph, rounds: int, seed: int) -> list[Tensor]:
    """Every peer at its own pace; each message takes its own time, some come twice; a link keeps its order."""
    draw = np.random.default_rng(seed)
    peers = [One(i, graph, timeout=1e9) for i in graph]
    round_of, waiting = dict.fromkeys(graph, 0), dict.fromkeys(graph, False)
    events: list[tuple[float, int, int, tuple[int, Step, Tensor, tuple[Step, ...]] | None]] = []
    link_free: dict[tuple[int, int], float] = {}
    count = 0

    def schedule(when: float, peer: int, message: tuple[int, Step, Tensor, tuple[Step, ...]] | None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (when, count, peer, message))

    for i in graph:
        schedule(draw.exponential(), i, None)
    while events:
        now, _, i, message = heapq.heappop(events)
        one = peers[i]
        if message is None:  # its local work is done
            for j, out in one.post(round_of[i]):
                when = max(link_free.get((i, j), 0.0), now + draw.exponential(3.0)) + 1e-6
                link_free[i, j] = when
                schedule(when, j, out)
                if draw.random() < 0.2:
                    schedule(when + draw.exponential(3.0), j, out)
            one.exchange.begin(Step(round_of[i], 0))
            waiting[i] = True
        else:
            sender, step, value, unmixed = message
            one.exchange.progress(sender, at(step.round), now)
            one.exchange.deliver(sender, step, value, unmixed, now)
        if waiting[i] and one.finish(now):
            waiting[i] = False
            round_of[i] += 1
            if round_of[i] < rounds:
                schedule(now + draw.exponential(), i, None)
    assert set(round_of.values()) == {rounds}, f"somebody waits for ever: {round_of}"
    return [one.x for one in peers]


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(GRAPHS)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_arrivals_changes_no_bit(kind: str, seed: int) -> None:
    graph = GRAPHS[kind]()
    for x, expected in zip(run_freely(graph, 6, seed), reference(graph, 6)):
        assert torch.equal(x, expected)


class LockStep:
    """All peers exchange round by round; what is held back beyond a round is given up there and comes late."""

    def __init__(self, graph: nx.Graph) -> None:
        self.graph = graph
        self.peers = [One(i, graph) for i in graph]
        self.links: dict[tuple[int, int], list[tuple[int, tuple[int, Step, Tensor, tuple[Step, ...]]]]] = {}
        self.now = 0.0
        self.round = 0
        self.resent = 0
        self.trained = row(0, 0, 0)

    def step(self, hold: Callable[[int, int], int | None]) -> None:
        """One round: ``hold(i, j)`` says for how many rounds i's message to j is held back, None: it is lost."""
        for one in self.peers:
            before = one.x
            for j, message in one.post(self.round):
                self._send(one.me, j, message, hold(one.me, j))
            self.trained += one.own - before
            one.exchange.begin(Step(self.round, 0))
        for one in self.peers:
            self._deliver(one)
        self.now += TIMEOUT + 1
        for one in self.peers:
            assert one.finish(self.now), f"peer {one.me} still waits for {one.exchange.waiting(self.now)}"
        self.round += 1

    def _send(self, i: int, j: int, message: tuple[int, Step, Tensor, tuple[Step, ...]], held: int | None) -> None:
        if held is not None:
            waiting = self.links.setdefault((i, j), [])
            due = self.round + held
            waiting.append((max(due, waiting[-1][0]) if waiting else due, message))

    def _deliver(self, one: One) -> None:
        for j in self.graph[one.me]:
            waiting = self.links.get((j, one.me), [])
            while waiting and waiting[0][0] <= self.round:
                sender, step, value, unmixed = waiting.pop(0)[1]
                one.exchange.progress(sender, at(step.round), self.now)
                one.exchange.deliver(sender, step, value, unmixed, self.now)
                for other, past, own in one.exchange.resend():
                    self.resent += 1
                    self._send(one.me, other, (one.me, past, own, one.exchange.unmixed(other)), 0)

    def imbalance(self) -> float:
        """How far the sum of all rows is from what training put in."""
        return self.imbalance_norm() / max(1.0, float(self.trained.norm()))

    def imbalance_norm(self) -> float:
        return float((torch.stack([one.x for one in self.peers]).sum(0) - self.trained).norm())

    def drift(self) -> float:
        return sum(one.exchange.drift for one in self.peers)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(GRAPHS)), data=st.data())
def test_what_comes_before_the_eighth_exchange_is_settled_and_the_mean_kept(kind: str, data: st.DataObject) -> None:
    network, longest = LockStep(GRAPHS[kind]()), 0
    for _ in range(6):
        held = {(i, j): data.draw(st.sampled_from([0, 0, 0, 1, 2, 5, SETTLE_WINDOW - 1]))
                for i, j in network.graph.to_directed().edges}
        longest = max(longest, *held.values())
        network.step(lambda i, j, held=held: held[i, j])  # type: ignore[misc]
    for _ in range(SETTLE_WINDOW + 2):
        network.step(lambda i, j: 0)
    assert network.imbalance() < 1e-12
    # Where the word that a flow was settled is itself held back for so long, the other end assumes that it was not.
    assert network.drift() == 0.0 or longest >= SETTLE_WINDOW // 2
    assert all(not one.exchange.unmixed(j) for one in network.peers for j in one.weights)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(GRAPHS)), data=st.data())
def test_a_row_that_was_lost_is_sent_again_when_the_other_end_says_so(kind: str, data: st.DataObject) -> None:
    network = LockStep(GRAPHS[kind]())
    for _ in range(4):
        network.step(lambda i, j: data.draw(st.sampled_from([0, 0, None])))
    for _ in range(SETTLE_WINDOW + 2):
        network.step(lambda i, j: 0)
    assert network.imbalance() < 1e-12
    assert network.drift() == 0.0


def test_one_sided_loss_is_mended_by_one_resend() -> None:
    network = LockStep(GRAPHS["pair"]())
    network.step(lambda i, j: None if i == 0 else 0)
    assert network.imbalance() > 1e-3
    for _ in range(2):
        network.step(lambda i, j: 0)
    assert network.resent == 1
    assert network.imbalance() < 1e-12
    assert network.peers[1].exchange.messages_late == 1
    assert network.peers[0].exchange.messages_late == 0


def test_a_flow_that_stays_open_for_good_is_reported_as_drift_of_its_size() -> None:
    network = LockStep(GRAPHS["pair"]())
    network._send = lambda i, j, message, held: (  # type: ignore[method-assign]
        None if message[1].round == 0 and i == 0 else LockStep._send(network, i, j, message, held))
    network.step(lambda i, j: 0)
    for _ in range(SETTLE_WINDOW + 2):
        network.step(lambda i, j: 0)
    total = torch.stack([one.x for one in network.peers]).sum(0)
    lost = float((total - network.trained).norm())
    assert lost > 1e-3
    assert network.drift() == pytest.approx(lost, rel=1e-9)
    assert network.peers[0].exchange.drift > 0
    assert network.peers[1].exchange.drift == 0


def test_a_row_that_comes_after_the_last_word_on_it_is_not_settled_and_both_ends_know() -> None:
    network = LockStep(GRAPHS["pair"]())
    network.step(lambda i, j: SETTLE_WINDOW if i == 0 else 0)
    peer = network.peers[1].exchange
    peer.resend = list  # type: ignore[method-assign]
    network.peers[0].exchange.resend = list  # type: ignore[method-assign]
    for _ in range(SETTLE_WINDOW + 2):
        network.step(lambda i, j: 0)
    assert peer.messages_late == SETTLE_WINDOW - 1  # the rows behind the first one, which kept their order
    assert network.drift() == pytest.approx(network.imbalance_norm(), rel=1e-9)
    assert network.drift() > 1e-3


def test_what_is_open_at_the_end_counts_as_drift_and_is_settled_no_more() -> None:
    network = LockStep(GRAPHS["pair"]())
    network.step(lambda i, j: 3 if i == 0 else 0)
    lost = network.imbalance_norm()
    one, other = network.peers
    one.exchange.deliver(1, Step(1, 0), b"of the flood", other.exchange.unmixed(0), network.now)
    for one in network.peers:
        one.exchange.close()
        named = () if one.me == 0 else (Step(0, 0),)
        assert one.exchange.unmixed(1 - one.me) == named  # it says so to the end
        one.exchange.deliver(1 - one.me, Step(0, 0), row(1, 1, 1), (), network.now)
        assert one.exchange.messages_late == 0
    assert network.drift() == pytest.approx(lost, rel=1e-9)
    assert lost > 1e-3


def test_drift_is_reported_also_when_the_other_end_has_forgotten_first() -> None:
    """It goes on to name the exchange in its headers."""
    a = One(1, nx.path_graph(3))
    weights = a.weights
    a.exchange.post(Step(0, 0), row(1, 0, 0), weights)
    a.exchange.begin(Step(0, 0))
    for j in (0, 2):
        a.exchange.deliver(j, Step(0, 0), row(0, 0, 0), (), 0.0)
    assert a.exchange.finish(0.0) is not None
    for k in range(1, SETTLE_WINDOW + 1):
        step = Step(k, 0)
        a.exchange.post(step, row(1, 0, 0), weights)
        a.exchange.begin(step)
        a.exchange.deliver(0, step, row(1, 0, 0), (Step(0, 0),), 0.0)  # peer 0 never got our row of step 0
        if k == SETTLE_WINDOW:
            # Peer 0 is an exchange ahead: it has all of ours, and step 0 is out of its memory.
            a.exchange.deliver(0, Step(k + 1, 0), row(1, 0, 0), (Step(0, 0),), 0.0)
        a.exchange.deliver(2, step, row(1, 0, 0), (), 0.0)
        assert a.exchange.finish(0.0) is not None
    assert a.exchange.drift == pytest.approx(weights[0] * 1.0)


# One machine ------------------------------------------------------------------------------------------------


def waiting_exchange(neighbours: tuple[int, ...] = (1, 2), phase: Phase = Phase.TRAIN, round: int = 0) -> Exchange:
    exchange = Exchange(0, Roster(neighbours), TIMEOUT)
    for j in neighbours:
        exchange.progress(j, Progress(round, 0, phase, 0), 0.0)
    exchange.post(Step(round, 0), row(1), dict.fromkeys(neighbours, 0.25))
    exchange.begin(Step(round, 0))
    return exchange


def test_nobody_is_given_up_while_it_reports_progress() -> None:
    exchange = waiting_exchange((1,))
    for beat in range(1, 9):
        exchange.progress(1, Progress(0, 0, Phase.TRAIN, beat), beat * 0.9 * TIMEOUT)
        assert exchange.finish(beat * 0.9 * TIMEOUT + 0.89 * TIMEOUT) is None
    assert exchange.deadline(0.0) == pytest.approx(8 * 0.9 * TIMEOUT + TIMEOUT)
    outcome = exchange.finish(9 * TIMEOUT)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)


@given(began=st.floats(0.0, 1e7))
@example(began=1019.6586960889541)  # began + timeout is rounded down: the difference is below the timeout
def test_at_its_deadline_a_wait_ends_whatever_the_last_bit_of_a_sum_is(began: float) -> None:
    exchange = Exchange(0, Roster((1,)), 6.0)
    exchange.progress(1, at(0), began)
    exchange.post(Step(0, 0), row(1), {1: 0.25})
    exchange.begin(Step(0, 0))
    assert exchange.finish(began) is None
    due = exchange.deadline(began)
    assert due is not None
    assert exchange.finish(due) is not None


def test_one_that_makes_progress_and_sends_nothing_is_given_up_too_until_it_sends() -> None:
    exchange = waiting_exchange((1, 2))
    exchange.deliver(2, Step(0, 0), row(3), (), 0.0)
    for beat in range(1, 20 * LONGEST):
        exchange.progress(1, Progress(0, 0, Phase.TRAIN, beat), beat * TIMEOUT / 2)
        if exchange.finish(beat * TIMEOUT / 2) is not None:
            break
        assert exchange.deadline(beat * TIMEOUT / 2) is not None
    assert beat == 2 * LONGEST + 1
    for round, status in ((1, DeliveryStatus.GIVEN_UP), (2, DeliveryStatus.WAITING)):
        exchange.post(Step(round, 0), row(1), {1: 0.25, 2: 0.25})
        exchange.begin(Step(round, 0))
        assert exchange.statuses(beat * TIMEOUT / 2)[1] is status
        exchange.deliver(2, Step(round, 0), row(3), (), beat * TIMEOUT / 2)
        assert (exchange.finish(beat * TIMEOUT / 2) is None) == (round == 2)
        exchange.deliver(1, Step(0, 0), row(3), (), beat * TIMEOUT / 2)


def test_the_same_progress_again_is_no_progress() -> None:
    exchange = waiting_exchange((1,))
    assert not exchange.progress(1, Progress(0, 0, Phase.TRAIN, 0), 9.0)
    assert not exchange.progress(1, Progress(-1, 0, Phase.TRAIN, 5), 9.5)
    assert exchange.finish(TIMEOUT) is not None


def test_who_has_not_begun_is_never_given_up() -> None:
    exchange = waiting_exchange((1,), Phase.START, round=-3)
    assert exchange.patient(1e9)
    assert exchange.finish(1e9) is None
    assert exchange.deadline(1e9) is None
    lose(exchange, 1)
    outcome = exchange.finish(1e9)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.LOST),)


def test_who_never_said_anything_is_waited_for_until_it_is_dead() -> None:
    exchange = Exchange(0, Roster((1,)), TIMEOUT)
    exchange.post(Step(0, 0), row(1), {1: 0.5})
    exchange.begin(Step(0, 0))
    assert exchange.finish(1e9) is None
    assert exchange.waiting(1e9) == (1,)


def test_a_pause_of_this_process_is_nobodys_fault() -> None:
    exchange = waiting_exchange((1,))
    exchange.resume_waiting(100.0)
    assert exchange.finish(100.0 + TIMEOUT - 0.1) is None
    assert exchange.finish(100.0 + TIMEOUT) is not None


def test_what_a_dead_peer_delivered_before_counts() -> None:
    exchange = waiting_exchange((1, 2))
    exchange.deliver(1, Step(0, 0), row(3), (), 0.0)
    lose(exchange, 1)
    lose(exchange, 2)
    outcome = exchange.finish(0.0)
    assert outcome is not None
    assert [j for j, _ in outcome.values] == [1]
    assert outcome.missing == ((2, DeliveryStatus.LOST),)


def test_a_later_step_means_that_this_one_was_skipped() -> None:
    exchange = waiting_exchange((1, 2))
    exchange.deliver(1, Step(7, 0), row(3), (), 0.0)
    exchange.deliver(2, Step(0, 0), row(3), (), 0.0)
    outcome = exchange.finish(0.0)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.SKIPPED),)
    exchange.post(Step(7, 0), row(1), {1: 0.25, 2: 0.25})
    exchange.begin(Step(7, 0))
    assert exchange.statuses(0.0) == {1: DeliveryStatus.DELIVERED, 2: DeliveryStatus.WAITING}


def test_who_fell_behind_still_mixes_the_row_it_waits_for() -> None:
    """Others went on without us; their row of our step is here, and newer ones must not push it out."""
    exchange = waiting_exchange((1,))
    for k in range(AHEAD + 4):
        exchange.deliver(1, Step(k, 0), row(k), (), 0.0)
    outcome = exchange.finish(0.0)
    assert outcome is not None
    assert [(j, float(value)) for j, value in outcome.values] == [(1, 0.0)]
    exchange.post(Step(AHEAD + 3, 0), row(1), {1: 0.25})
    exchange.begin(Step(AHEAD + 3, 0))
    assert exchange.statuses(0.0) == {1: DeliveryStatus.DELIVERED}


def test_a_message_without_room_is_named_so_that_it_may_come_again() -> None:
    exchange = waiting_exchange((1,))
    dropped = [exchange.deliver(1, Step(k, 0), row(k), (), 0.0) for k in range(AHEAD + 3)]
    assert dropped == [None, None, None, Step(1, 0), Step(2, 0)]


def test_what_a_neighbour_sends_ahead_is_bounded() -> None:
    exchange = waiting_exchange((1, 2))
    for k in range(100):
        exchange.deliver(1, Step(k, 0), row(k), (), 0.0)
    assert len(exchange._arrived[1]) <= AHEAD + 2


def test_nothing_is_kept_once_no_exchange_follows() -> None:
    exchange = waiting_exchange((1,))
    ahead, late = row(2), row(3)
    held = [weakref.ref(ahead), weakref.ref(late)]
    exchange.deliver(1, Step(1, 0), ahead, (), 0.0)
    exchange.begin(NEVER, ())
    exchange.deliver(1, Step(2, 0), late, (), 0.0)
    del ahead, late
    assert [one() for one in held] == [None, None]


def test_a_second_copy_changes_nothing() -> None:
    exchange = waiting_exchange((1,))
    exchange.deliver(1, Step(0, 0), row(3), (), 0.0)
    exchange.deliver(1, Step(0, 0), row(4), (), 0.0)
    outcome = exchange.finish(0.0)
    assert outcome is not None
    assert [float(value) for _, value in outcome.values] == [3.0]
    exchange.deliver(1, Step(0, 0), row(5), (), 0.0)
    exchange.post(Step(1, 0), row(1), {1: 0.25})
    exchange.begin(Step(1, 0))
    exchange.deliver(1, Step(1, 0), row(6), (), 0.0)
    outcome = exchange.finish(0.0)
    assert outcome is not None
    assert outcome.late == ()
    assert exchange.messages_late == 0


def test_a_late_row_brings_its_own_flow_once() -> None:
    exchange = waiting_exchange((1,))
    assert exchange.finish(TIMEOUT) is not None
    assert exchange.unmixed(1) == (Step(0, 0),)
    exchange.post(Step(1, 0), row(5), {1: 0.5})
    exchange.begin(Step(1, 0))
    for _ in range(2):
        exchange.deliver(1, Step(0, 0), row(3), (), TIMEOUT)
    exchange.deliver(1, Step(1, 0), row(5), (), TIMEOUT)
    outcome = exchange.finish(TIMEOUT)
    assert outcome is not None
    assert outcome.late == (Late((0, 1), Step(0, 0), 0.25, outcome.late[0].own, outcome.late[0].value),)
    assert (float(outcome.late[0].own), float(outcome.late[0].value)) == (1.0, 3.0)
    assert exchange.unmixed(1) == ()
    assert exchange.messages_late == 1


def test_messages_of_bytes_are_never_settled_late() -> None:
    exchange = Exchange(0, Roster((1,)), TIMEOUT)
    exchange.progress(1, at(0), 0.0)
    exchange.post(Step(0, 0), None, {})
    exchange.begin(Step(0, 0))
    assert exchange.finish(TIMEOUT) is not None
    exchange.deliver(1, Step(0, 0), b"late", (), TIMEOUT)
    assert exchange.unmixed(1) == ()
    assert exchange.messages_late == 0


def test_strangers_and_steps_out_of_order_are_refused() -> None:
    exchange = waiting_exchange((1,))
    exchange.deliver(9, Step(0, 0), row(3), (), 0.0)
    assert exchange.waiting(0.0) == (1,)
    with pytest.raises(LocalProtocolError, match="posted after"):
        exchange.post(Step(0, 0), row(1), {1: 0.5})
    exchange.begin(Step(3, 0))
    with pytest.raises(LocalProtocolError, match="was posted last"):
        exchange.finish(0.0)


def test_the_spread_is_the_largest_relative_difference_to_a_neighbour() -> None:
    exchange = Exchange(0, Roster((1, 2)), TIMEOUT)
    exchange.post(Step(0, 0), row(3, 4), {1: 0.25, 2: 0.25})
    exchange.begin(Step(0, 0))
    exchange.deliver(1, Step(0, 0), row(3, 5), (), 0.0)
    exchange.deliver(2, Step(0, 0), row(3, 1), (), 0.0)
    assert exchange.finish(0.0) is not None
    assert exchange.spread == pytest.approx(3 / 5)


def kept_rows(exchange: Exchange) -> list[int]:
    return [step.round for step, past in exchange._past.items() if past.own is not None]


def test_an_own_row_is_kept_until_all_receivers_have_mixed_it() -> None:
    exchange = waiting_exchange()
    for round in range(4):
        if round:
            exchange.post(Step(round, 0), row(round), {1: 0.25, 2: 0.5})
            exchange.begin(Step(round, 0))
        for j in (1, 2):  # peer 2 has not mixed round 1 before its message of round 3
            unmixed = (Step(1, 0),) if j == 2 and round == 2 else ()
            exchange.deliver(j, Step(round, 0), row(7), unmixed, 0.0)
        assert exchange.finish(0.0) is not None
        assert kept_rows(exchange) == [[0], [1], [1, 2], [3]][round]


def test_an_own_row_is_kept_while_a_source_may_still_send_its_own() -> None:
    exchange = waiting_exchange()
    exchange.deliver(1, Step(0, 0), row(7), (), 0.0)
    exchange.progress(2, at(0), 0.0)
    assert exchange.finish(TIMEOUT + 1) is not None
    exchange.deliver(1, Step(1, 0), row(7), (), 0.0)
    exchange.deliver(2, Step(1, 0), row(7), (), 0.0)
    assert kept_rows(exchange) == [0]
    exchange.deliver(2, Step(0, 0), row(3), (), 0.0)
    assert exchange.messages_late == 1
    assert kept_rows(exchange) == []


def test_large_own_rows_take_bounded_memory_and_what_stays_open_is_told() -> None:
    exchange = Exchange(0, Roster((1,)), TIMEOUT)
    exchange.progress(1, at(0), 0.0)
    own = torch.zeros(PAST_BYTES // 4)
    for round in range(4):
        exchange.post(Step(round, 0), own, {1: 0.5})
        exchange.begin(Step(round, 0))
        assert exchange.finish(TIMEOUT + 1) is not None
    assert kept_rows(exchange) == [2, 3]
    exchange.deliver(1, Step(0, 0), own, (), 0.0)
    assert exchange.messages_late == 0
    assert exchange.unmixed(1) == (Step(0, 0), Step(1, 0), Step(2, 0), Step(3, 0))


@pytest.mark.parametrize("size", [0, 1, BLOCK, 2 * BLOCK + 3])
def test_a_distance_is_that_of_whole_rows(size: int) -> None:
    a = torch.arange(size, dtype=torch.float64)
    assert distance(a, 2 * a) == pytest.approx(float(a.norm()))


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_what_a_neighbour_has_not_confirmed_at_the_end_is_drift_for_it_may_have_ended_before_our_row_came(
        gone: bool, last: bool) -> None:
    exchange = waiting_exchange((1, 2))
    for j in (1, 2):
        exchange.deliver(j, Step(0, 0), row(3), (), 0.0)
    assert exchange.finish(0.0) is not None
    for j in (1, 2) if last else (2,):
        exchange.deliver(j, Step(1, 0), b"of the flood: it has mixed our row", (), 0.0)
    if gone:
        lose(exchange, 1)
    exchange.close()
    assert exchange.drift == pytest.approx(0.0 if last else 0.25 * 2)


def test_a_late_row_that_comes_after_the_last_exchange_is_still_mixed_since_our_last_message_says_so() -> None:
    exchange = waiting_exchange((1,))
    assert exchange.finish(TIMEOUT + 1) is not None
    exchange.deliver(1, Step(0, 0), row(3), (), 0.0)
    assert exchange.unmixed(1) == ()
    assert [(late.edge, late.step) for late in exchange.close()] == [((0, 1), Step(0, 0))]
    assert exchange.close() == ()
