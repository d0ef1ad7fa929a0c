"""Exchanges on schedules and directed graphs: nobody runs far ahead, nobody waits for ever, and no bit changes."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.graph.spec import Topology, parse
from p2pser.network import events
from p2pser.network.awaited import Awaited
from p2pser.network.exchange import DeliveryStatus, Exchange
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.run.setup import lead
from p2pser.wire.messages import SETTLE_WINDOW, Phase, Progress

DOCUMENTS: dict[str, dict[str, Any]] = {
    "one-peer": {"kind": "one-peer-exponential", "peers": 6},
    "directed-ring": {"kind": "directed-ring", "peers": 5},
    "digraph": {"kind": "random-digraph", "peers": 6, "seed": 3},
    "matching": {"kind": "random-matching", "peers": 5},
    "local": {"kind": "epidemic", "peers": 6, "form": "local", "s": 1},
    "base": {"kind": "base", "peers": 7, "k": 1},
}


def topology(name: str) -> Topology:
    return parse({"graph": DOCUMENTS[name]}, "test")


def past(e: int) -> Progress:
    """Where a peer says it is when it has ended exchange e."""
    return Progress(e, 1, Phase.EXCHANGE, 0)


class One:
    """A peer of the fake network, as network.mixer drives its Exchange: a round is an exchange."""

    def __init__(self, me: int, where: Topology, timeout: float = 1e9) -> None:
        self.me, self.where = me, where
        self.exchange = Exchange(me, Roster(where.neighbours(me)), Awaited(timeout))
        self.x = torch.full((3,), float(me), dtype=torch.float64)
        self.round = 0
        self.statuses: list[DeliveryStatus] = []
        for j in where.neighbours(me):
            self.exchange.awaited.progress(j, Progress(0, 0, Phase.TRAIN, 0), 0.0)

    def post(self) -> tuple[int, ...]:
        e = self.round
        self.weights = {j: float(self.where.matrix(e)[self.me, j]) for j in self.where.sources(self.me, e)}
        receivers = self.where.receivers(self.me, e)
        self.exchange.post(Step(e, 0), self.x, self.weights, receivers)
        if e:
            self.exchange.begin(Step(e, 0), self.weights, self.where.receivers(self.me, e - 1), Step(e - 1, 0))
        else:
            self.exchange.begin(Step(e, 0), self.weights)
        return receivers

    def finish(self, now: float) -> bool:
        outcome = self.exchange.finish(now)
        if outcome is None:
            return False
        own, new = self.x, self.x.clone()
        for j, value in outcome.values:
            new.add_(value - own, alpha=self.weights[j])
        for late in outcome.late:
            new.add_(late.value - late.own, alpha=late.weight)
        self.x = new
        self.statuses += [status for _, status in outcome.missing]
        self.round += 1
        return True


def together(where: Topology, rounds: int) -> list[Tensor]:
    xs = [torch.full((3,), float(i), dtype=torch.float64) for i in range(where.size)]
    for e in range(rounds):
        W, old = where.matrix(e), xs
        xs = []
        for i in range(where.size):
            new = old[i].clone()
            for j in where.sources(i, e):
                new.add_(old[j] - old[i], alpha=float(W[i, j]))
            xs.append(new)
    return xs


def freely(where: Topology, rounds: int, seed: int, slow: int | None = None) -> tuple[list[One], int]:
    """Each at its own pace, one perhaps a hundred times slower: the peers at the end, and the longest lead."""
    draw = np.random.default_rng(seed)
    peers = [One(i, where) for i in range(where.size)]
    queue: list[tuple[float, int, int, Any]] = []
    free: dict[tuple[int, int], float] = {}
    waiting = dict.fromkeys(range(where.size), False)
    longest, count = 0, itertools.count()

    def at(when: float, peer: int, what: Any) -> None:
        heapq.heappush(queue, (when, next(count), peer, what))

    def send(now: float, i: int, j: int, message: Any) -> None:
        when = free[i, j] = max(free.get((i, j), 0.0), now + draw.exponential(1.0)) + 1e-3
        at(when, j, (i, message))

    def work(now: float, i: int) -> None:
        at(now + draw.exponential(100.0 if i == slow else 1.0), i, None)

    for i in range(where.size):
        work(0.0, i)
    while queue:
        now, _, i, what = heapq.heappop(queue)
        one = peers[i]
        if what is None:
            for j in one.post():
                send(now, i, j, (Step(one.round, 0), one.x, Progress(one.round, 0, Phase.TRAIN, 0)))
            waiting[i] = True
        else:
            sender, (step, value, progress) = what
            one.exchange.awaited.progress(sender, progress, now)
            if value is not None:
                one.exchange.deliver(sender, step, value, (), now)
        if waiting[i] and one.finish(now):
            waiting[i] = False
            longest = max(longest, one.round - min(other.round for other in peers))
            for j in one.weights:
                send(now, i, j, (None, None, past(one.round - 1)))
            if one.round < rounds:
                work(now, i)
    return peers, longest


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(DOCUMENTS)), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_no_bit_depends_on_the_pace_and_nobody_gets_further_ahead_than_a_checkpoint_is_kept(
        name: str, seed: int, data: st.DataObject) -> None:
    where = topology(name)
    slow = data.draw(st.sampled_from([None, *range(where.size)]))
    peers, longest = freely(where, 9, seed, slow)
    assert [one.round for one in peers] == [9] * where.size, "somebody waits for ever"
    assert not any(one.statuses for one in peers)
    assert all(torch.equal(one.x, x) for one, x in zip(peers, together(where, 9)))
    assert longest <= lead(where)


def test_the_one_before_a_stopped_peer_in_a_directed_ring_waits_for_it_after_two_exchanges() -> None:
    where = topology("directed-ring")
    one, before, after = One(1, where), *where.sources(1, 0), *where.receivers(1, 0)
    assert {before, after} == {0, 2}
    for e in range(3):
        one.post()
        one.exchange.awaited.progress(before, past(e + 5), 1.0)
        one.exchange.deliver(before, Step(e, 0), torch.zeros(3).double(), (), 1.0)
        assert one.finish(1.0) == (e == 0)  # the receiver has read nothing yet
        if e == 1:
            assert one.exchange.waiting(1.0) == (after,)
            one.exchange.awaited.progress(after, past(0), 2.0)
            assert one.finish(2.0)
    one.exchange._roster.changed(events.Changed(after, State.PRESENT, State.LOST, Cause.DEATH), 3.0)
    assert one.finish(3.0)


def test_a_reader_that_makes_no_progress_is_given_up_as_a_source_is() -> None:
    one = One(1, topology("directed-ring"), timeout=10.0)
    for e in range(2):
        one.post()
        one.exchange.deliver(0, Step(e, 0), torch.zeros(3).double(), (), float(e))
        if e == 0:
            assert one.finish(0.0)
    assert not one.finish(9.0)
    assert one.exchange.deadline(9.0) == pytest.approx(10.0)
    assert one.finish(10.0)
    assert one.statuses == []


def test_a_row_that_the_receiver_has_not_mixed_is_sent_again_though_it_sends_us_none_in_that_exchange() -> None:
    """W_t is one-way at each step of the one-peer exponential graph; the word goes with another step's row."""
    where = topology("one-peer")
    one, receiver = One(1, where), where.receivers(1, 0)[0]
    own = one.x
    one.post()
    one.exchange.deliver(where.sources(1, 0)[0], Step(0, 0), torch.zeros(3).double(), (), 0.0)
    assert receiver not in where.sources(1, 0)
    assert one.finish(0.0)
    one.exchange.deliver(receiver, Step(2, 0), torch.zeros(3).double(), (Step(0, 0),), 1.0)
    assert [(j, step) for j, step, _ in one.exchange.resend()] == [(receiver, Step(0, 0))]
    assert one.exchange.resend() == []
    assert not torch.equal(own, one.x)


@pytest.mark.parametrize("name", ["matching", "one-peer"])
def test_late_rows_of_a_schedule_are_settled_with_the_weight_of_their_own_exchange(name: str) -> None:
    where = topology(name)
    peers = [One(i, where, timeout=1.0) for i in range(where.size)]
    draw, held, now = np.random.default_rng(1), [], 0.0
    for e in range(20 + SETTLE_WINDOW):
        for one in peers:
            for j in one.post():
                due = e + (int(draw.integers(1, SETTLE_WINDOW)) if e < 20 and draw.random() < 0.3 else 0)
                held.append((due, one.me, j, Step(e, 0), one.x))
        for due, i, j, step, value in held:
            if due == e:
                peers[j].exchange.awaited.progress(i, Progress(e, 0, Phase.TRAIN, 0), now)
                peers[j].exchange.deliver(i, step, value, (), now)
        now += 2.0
        assert all(one.finish(now) for one in peers)
    assert sum(one.exchange.messages_late for one in peers) > 10
    mean = torch.stack([one.x for one in peers]).mean(0)
    assert torch.allclose(mean, torch.full((3,), (where.size - 1) / 2, dtype=torch.float64), rtol=0, atol=1e-12)
