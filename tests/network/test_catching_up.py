"""Peers that were left behind jump to the round of the others; one that lies alone moves nobody beyond its bound."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.graph.spec import load
from p2pser.network.catching_up import MARGIN, CatchingUp, Next

APART = 8.0
PACE = 0.5
"""Seconds that a round takes."""


def trained(rounds: int = 20, last: int = 1000, lead: int = 1, peers: tuple[int, ...] = (1, 2)) -> CatchingUp:
    """A peer that has trained rounds 0 .. ``rounds`` - 1 in step with its neighbours, until rounds * PACE."""
    one = CatchingUp(last, APART, lead)
    for round in range(rounds):
        one.began(round, round * PACE)
        for j in peers:
            one.in_step(j, round, (round + 1) * PACE)
    return one


def test_in_step_the_next_round_follows() -> None:
    assert trained().next_round(19, 10.0, {1: 20, 2: 20}) == Next(20)
    assert trained().next_round(19, 10.0, {}) == Next(20)


def test_two_neighbours_are_believed_as_far_as_both_say() -> None:
    one = trained()
    assert one.next_round(19, 10.0, {1: 900, 2: 40, 3: 12}) == Next(40, announce=True)
    assert one.next_round(19, 10.0, {2: 40, 3: 12}) == Next(20)  # the other one is lost: its word is of no use


def test_half_of_the_neighbours_are_not_believed() -> None:
    one = trained(peers=(1, 2, 3, 4))
    assert one.next_round(19, 10.1, {1: 900, 2: 900, 3: 20, 4: 20}) == Next(20)
    assert one.next_round(19, 10.1, {1: 900, 2: 900, 3: 60, 4: 20}) == Next(60, announce=True)
    assert one.next_round(19, 10.0 + 30, {1: 900, 2: 900, 3: 20, 4: 20}) == Next(19 + 60 + MARGIN, announce=True)


def test_one_of_two_neighbours_is_not_believed() -> None:
    assert trained().next_round(19, 10.1, {1: 900, 2: 20}) == Next(20)


def test_one_that_was_apart_is_believed_as_far_as_it_can_have_come() -> None:
    one = trained()
    assert one.next_round(19, 10.0 + APART - 0.1, {1: 900, 2: 20}) == Next(20)
    assert one.next_round(19, 10.0 + 30, {1: 900, 2: 20}) == Next(19 + 60 + MARGIN, announce=True)
    assert one.next_round(19, 10.0, {1: 900, 2: 70}) == Next(70, announce=True)  # both together
    assert trained().next_round(19, 10.0 + 30, {1: 33, 2: 20}) == Next(33, announce=True)


def test_the_only_neighbour_is_believed_as_far_as_it_can_have_come() -> None:
    assert trained().next_round(19, 10.0 + 4, {1: 900}) == Next(19 + 8 + MARGIN, announce=True)
    # A newcomer has taken its state from that one, and has nothing to tell.
    assert CatchingUp(1000, APART).next_round(10, 0.0, {1: 900}) == Next(900)


def test_one_that_jumped_is_followed_but_not_faster_than_time_goes() -> None:
    one = trained(rounds=20)
    one.announced(1, 60, 40.0)
    one.announced(1, 900, 41.0)  # too soon after the first
    assert one.next_round(19, 41.0, {1: 60, 2: 20}) == Next(60, announce=True)
    one.in_step(1, 19, 40.0)
    one.in_step(2, 19, 40.0)
    assert one.next_round(19, 41.0, {1: 900, 2: 20}) == Next(60, announce=True)
    one.announced(1, 900, 40.0 + APART)
    assert one.next_round(19, 48.0, {1: 900, 2: 49}) == Next(96 + MARGIN, announce=True)
    liar = trained(rounds=20)
    liar.in_step(1, 19, 40.0)
    liar.in_step(2, 19, 40.0)
    liar.announced(1, 900, 40.0)
    assert liar.next_round(19, 40.0, {1: 900, 2: 20}) == Next(80 + MARGIN, announce=True)


def test_the_pace_is_that_of_the_fastest_rounds_in_sequence_and_not_of_a_single_one() -> None:
    slow = trained(rounds=20)
    for round in range(20, 40):  # a neighbour has held them up since
        slow.began(round, 10.0 + 4.0 * (round - 19))
    slow.in_step(1, 39, 94.0)
    assert slow.next_round(39, 94.0 + APART, {1: 900}) == Next(39 + 16 + MARGIN, announce=True)
    short = trained(rounds=4, peers=(1,))
    short.began(4, 1.5 + 0.001)
    assert short.next_round(4, 2.0 + APART, {1: 900}) == Next(3 + 21 + MARGIN, announce=True)


def test_nobody_jumps_beyond_the_last_round() -> None:
    assert trained(last=100).next_round(19, 10.0, {1: 10**6, 2: 10**6}) == Next(100, announce=True)


def test_on_a_schedule_a_neighbour_may_be_ahead() -> None:
    one = trained(lead=4)
    assert one.next_round(19, 10.0, {1: 23, 2: 23}) == Next(20)
    assert one.next_round(19, 10.0, {1: 24, 2: 24}) == Next(24, announce=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["claims", "announced", "withhold"]), st.integers(0, 10**6)), max_size=60))
def test_liars_move_nobody_faster_than_time(what: list[tuple[str, int]]) -> None:
    """Neighbours 1 and 3 lie alike, 2 and 4 are in step, whatever rounds this peer is led to."""
    one, round, now = CatchingUp(10**6, APART), 0, 0.0
    for say, number in what:
        one.began(round, now)
        now += PACE
        for honest, liar in ((2, 1), (4, 3)):
            one.in_step(honest, round, now)
            if say == "claims":
                one.in_step(liar, round, now)
            elif say == "announced":
                one.announced(liar, number, now)
        round = one.next_round(round, now, {1: number, 2: round + 1, 3: number, 4: round + 1}).round
        assert round <= now / PACE + MARGIN + 1


class Parts:
    """Peers in lock-step along a graph that is cut in two for a time; each part has its own pace."""

    def __init__(self, graph: nx.Graph, behind: set[int], rounds: int, cut: tuple[float, float],
                 pace: Callable[[int], float], liar: int | None = None) -> None:
        self.graph, self.behind, self.rounds, self.cut, self.pace, self.liar = graph, behind, rounds, cut, pace, liar
        self.peers = {i: CatchingUp(rounds, APART) for i in graph}
        self.round = dict.fromkeys(graph, 0)
        self.busy = {i: pace(i) for i in graph}
        for one in self.peers.values():
            one.began(0, 0.0)

    def apart(self, i: int, j: int, now: float) -> bool:
        return self.cut[0] <= now < self.cut[1] and (i in self.behind) != (j in self.behind)

    def living(self, i: int, now: float) -> list[int]:
        return [j for j in self.graph[i] if not self.apart(i, j, now)]

    def run(self, until: float) -> None:
        now = 0.0
        while now < until and min(self.round.values()) < self.rounds:
            now += 0.1
            ended = {i for i in self.graph if self.busy[i] <= now and self.round[i] < self.rounds}
            # It waits for neighbours that are not further ahead than one round; rows of former rounds are there.
            free = [i for i in sorted(ended) if all(
                self.round[j] > self.round[i] or (j in ended and self.round[j] == self.round[i])
                for j in self.living(i, now))]
            before = dict(self.round)
            for i in free:
                self.go_on(i, before, now)

    def go_on(self, i: int, at: dict[int, int], now: float) -> None:
        one, living = self.peers[i], self.living(i, now)
        for j in living:
            if at[j] in (at[i], at[i] + 1) and j != self.liar:
                one.in_step(j, at[i], now)
        after = one.next_round(at[i], now, {j: self.rounds if j == self.liar else at[j] for j in living})
        self.round[i] = after.round
        self.busy[i] = now + self.pace(i)
        one.began(after.round, now)
        if after.announce:
            for j in living:
                self.peers[j].announced(i, after.round, now)


GRAPHS = {"ring": load("ring", peers=12).graph, "exponential": load("exponential", peers=12).graph,
          "random-regular": load("random-regular", peers=12).graph}


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_a_part_that_was_cut_off_finds_the_other_again(name: str) -> None:
    behind = {7, 8, 9, 10, 11}
    net = Parts(GRAPHS[name], behind, 2000, (10.0, 190.0), lambda i: 0.6 if i in behind else 0.5)
    net.run(189.0)
    ahead = min(net.round[i] for i in net.graph if i not in behind)
    assert ahead - max(net.round[i] for i in behind) > 20
    net.run(230.0)
    assert max(net.round.values()) - min(net.round.values()) <= nx.diameter(net.graph)
    assert min(net.round.values()) > ahead
