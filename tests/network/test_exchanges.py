"""Several exchange machines, joined by a network that loses, delays, doubles and reorders."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
import torch
from exchanges import TIMEOUT, One, at, row, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.graph.mixing import metropolis
from p2pser.wire.messages import SETTLE_WINDOW

GRAPHS: dict[str, Callable[[], nx.Graph]] = {
    "pair": lambda: nx.path_graph(2), "chain": lambda: nx.path_graph(4), "ring": lambda: nx.cycle_graph(5),
    "complete": lambda: nx.complete_graph(4), "star": lambda: nx.star_graph(4),
}


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
            one.exchange.awaited.progress(sender, at(step.round), now)
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
                one.exchange.awaited.progress(sender, at(step.round), self.now)
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
