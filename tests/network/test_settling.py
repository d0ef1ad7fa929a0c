"""The two ends of an edge, whose rows are lost, late or sent again: both mix an exchange, or drift says by how much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.network import events
from p2pser.network.awaited import Awaited
from p2pser.network.exchange import Exchange
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.wire.messages import SETTLE_WINDOW

WEIGHT = 0.5
LOST, CUT, STUCK, WAITS = "lost", "cut off", "stuck", "waits"
Fate: TypeAlias = "int | str"
"""What happens to an end in a round: its row takes so many rounds, or is lost; it holds the other end for lost, and
nothing comes; it is in its local work, and skips the round; it has sent its row, and waits for other peers."""
FATES = st.sampled_from([0, 0, 0, 1, 3, SETTLE_WINDOW, LOST, CUT, STUCK, WAITS, WAITS])


class End:
    """One end. It waits for nothing."""

    def __init__(self, me: int) -> None:
        self.me, self.other = me, 1 - me
        self.exchange = Exchange(me, Roster([self.other]), Awaited(1e9))
        self.waits = False
        self.mixed: dict[Step, float] = {}
        """The norms of the flows that it has applied."""
        self.hold(State.LOST)
        self.hold(State.RETURNING)

    def hold(self, state: State) -> None:
        roster = self.exchange._roster
        roster.changed(events.Changed(self.other, roster.state(self.other), state, Cause.TRAFFIC), 0.0)

    def post(self, round: int, cut: bool) -> Tensor:
        self.hold(State.LOST if cut else State.RETURNING)
        self.own = torch.tensor([float(7 * round + self.me)], dtype=torch.float64)
        self.exchange.post(Step(round, 0), self.own, {} if cut else {self.other: WEIGHT})
        self.exchange.begin(Step(round, 0))
        return self.own

    def finish(self) -> None:
        outcome = self.exchange.finish(0.0)
        assert outcome is not None
        flows = [(outcome.step, value, self.own) for _, value in outcome.values if isinstance(value, Tensor)]
        for step, value, own in [*flows, *((late.step, late.value, late.own) for late in outcome.late)]:
            assert step not in self.mixed, "twice"
            self.mixed[step] = WEIGHT * float((value - own).norm())


class Edge:
    """Two ends, and a link each way that keeps the order."""

    def __init__(self) -> None:
        self.ends = End(0), End(1)
        self.links: dict[int, list[tuple[int, Step, Tensor | bytes, tuple[Step, ...]]]] = defaultdict(list)
        self.round = 0

    def goes_on(self, *fates: Fate) -> None:
        """One round."""
        at_work = [end for end, fate in zip(self.ends, fates) if fate != STUCK]
        for end in at_work:
            row = None if end.waits else end.post(self.round, fates[end.me] == CUT)
            fate = 0 if fates[end.me] == WAITS else fates[end.me]
            if row is not None and isinstance(fate, int):
                self._send(end, fate, Step(self.round, 0), row)
        for end in at_work:
            if fates[end.me] != CUT:
                self._deliver(end)
        for end in at_work:
            end.waits = fates[end.me] == WAITS
            if not end.waits:
                end.finish()
        self.round += 1

    def ends_well(self) -> None:
        """Flood, as after the last round."""
        for end in self.ends:
            if end.waits:
                end.finish()
        for _ in range(SETTLE_WINDOW + 4):
            for end in self.ends:
                end.hold(State.RETURNING)
                end.exchange.post(Step(self.round, 0), None, {})
                end.exchange.begin(Step(self.round, 0), ())
                self._send(end, 0, Step(self.round, 0), b"flood")
            for end in self.ends:
                self._deliver(end)
                end.finish()
            self.round += 1
        for end in self.ends:
            end.exchange.close()

    def _send(self, end: End, takes: int, step: Step, value: Tensor | bytes) -> None:
        link = self.links[end.other]
        due = max(self.round + takes, link[-1][0] if link else 0)
        link.append((due, step, value, end.exchange.unmixed(end.other)))

    def _deliver(self, end: End) -> None:
        link = self.links[end.me]
        while link and link[0][0] <= self.round:
            _, step, value, unmixed = link.pop(0)
            end.exchange.deliver(end.other, step, value, unmixed, 0.0)  # type: ignore[arg-type]
            for _, past, own in end.exchange.resend():
                self._send(end, 0, past, own)

    def ends_one_after_the_other(self) -> None:
        """The last message of the one that ends first is of after its end."""
        first, last = self.ends
        first.exchange.close()
        self._send(first, 0, Step(self.round, 0), b"consensus")
        self._deliver(last)
        last.exchange.close()

    def one_sided(self) -> float:
        one, other = (end.mixed for end in self.ends)
        return sum({**one, **other}[step] for step in one.keys() ^ other.keys())

    def drift(self) -> float:
        return sum(end.exchange.drift for end in self.ends)


def played(fates: Iterable[tuple[Fate, Fate]]) -> Edge:
    edge = Edge()
    for pair in fates:
        edge.goes_on(*pair)
    edge.ends_well()
    return edge


@settings(max_examples=200, deadline=None)
@given(fates=st.lists(st.tuples(FATES, FATES), max_size=40))
def test_whatever_happens_on_an_edge_what_one_end_alone_has_mixed_is_drift(fates: list[tuple[Fate, Fate]]) -> None:
    edge = played(fates)
    assert edge.drift() == pytest.approx(edge.one_sided(), abs=1e-9)


@pytest.mark.parametrize("loses", [0, 1])
def test_what_a_cut_leaves_open_is_settled_when_it_heals_however_long_it_was(loses: int) -> None:
    """One end's row has come through before the cut, and the other's has not."""
    edge = Edge()
    edge.goes_on(0, 0)
    edge.goes_on(*(LOST if end.me == loses else 0 for end in edge.ends))
    for _ in range(5 * SETTLE_WINDOW):
        edge.goes_on(CUT, CUT)
    assert max(len(end.exchange._past) for end in edge.ends) <= 2
    for _ in range(3):
        edge.goes_on(0, 0)
    edge.ends_well()
    assert [end.mixed.keys() for end in edge.ends] == [{Step(round, 0) for round in (0, 1, 42, 43, 44)}] * 2
    assert [end.exchange.messages_late for end in edge.ends] == [loses, 1 - loses]
    assert edge.drift() == 0.0


def test_what_a_neighbour_says_of_an_exchange_before_we_end_it_is_not_lost() -> None:
    edge = Edge()
    for _ in range(SETTLE_WINDOW + 2):
        edge.goes_on(0, WAITS)
    edge.goes_on(0, 0)
    edge.ends_well()
    assert [end.mixed.keys() for end in edge.ends] == [{Step(0, 0)}] * 2
    assert edge.drift() == 0.0


def test_who_posts_far_behind_does_not_mix_what_the_other_end_will_not() -> None:
    edge = Edge()
    for _ in range(SETTLE_WINDOW + 2):
        edge.goes_on(0, STUCK)
    behind = edge.ends[1]
    behind.exchange.begin(Step(0, 0))
    edge._deliver(behind)
    edge._send(behind, 0, Step(0, 0), behind.post(0, False))
    behind.finish()
    assert behind.mixed == {}
    for _ in range(3):
        edge.goes_on(0, 0)
    edge.ends_well()
    assert edge.drift() == edge.one_sided() == 0.0


def test_flows_that_are_never_confirmed_take_bounded_memory_and_are_drift() -> None:
    """All rows come through one way, and none the other way."""
    edge = Edge()
    receiver = edge.ends[1]
    receiver.exchange.resend = list  # type: ignore[method-assign]
    for _ in range(60):
        edge.goes_on(0, LOST)
    assert len(receiver.mixed) == 60
    assert len(receiver.exchange._past) <= 2 * SETTLE_WINDOW
    edge.ends_well()
    assert receiver.exchange.drift == edge.one_sided() == 60 * WEIGHT


def test_a_row_is_not_sent_again_where_neither_end_has_mixed_the_other_s() -> None:
    edge = Edge()
    edge.goes_on(LOST, LOST)
    edge.goes_on(0, 0)
    assert [end.exchange.unmixed(end.other) for end in edge.ends] == [(Step(0, 0),)] * 2
    assert not any(edge.links.values())


def changed(edge: Edge) -> None:
    """The topology changes at both ends."""
    for end in edge.ends:
        before = end.exchange
        end.exchange = Exchange(end.me, Roster([end.other]), Awaited(1e9))
        end.exchange.go_on_from(before.carried())
        end.hold(State.LOST)
        end.waits = False
    edge.links.clear()


@settings(max_examples=100, deadline=None)
@given(before=st.lists(st.tuples(FATES, FATES), max_size=20), after=st.lists(st.tuples(FATES, FATES), max_size=20))
def test_what_a_change_of_the_topology_leaves_open_is_drift(
        before: list[tuple[Fate, Fate]], after: list[tuple[Fate, Fate]]) -> None:
    edge = Edge()
    for fates in [*before, *after]:
        if len(before) == edge.round:
            for end in filter(lambda end: end.waits, edge.ends):
                end.finish()
            changed(edge)
        edge.goes_on(*fates)
    edge.ends_well()
    assert edge.drift() == pytest.approx(edge.one_sided(), abs=1e-9)


def test_exchanges_that_are_done_again_after_a_change_of_the_topology_count_once() -> None:
    edge = Edge()
    for fate in (0, 0, LOST, LOST):
        edge.goes_on(0, fate)
    edge.round = 1  # of the checkpoint at which the peers resume
    changed(edge)
    for end in edge.ends:
        end.mixed = {step: flow for step, flow in end.mixed.items() if step.round < 1}
    for _ in range(4):
        edge.goes_on(0, 0)
    edge.ends_well()
    assert [len(end.mixed) for end in edge.ends] == [5, 5]
    assert edge.drift() == 0.0


def test_what_is_open_at_the_end_of_one_end_is_still_named_to_the_other() -> None:
    edge = Edge()
    edge.goes_on(0, LOST)
    edge.ends_one_after_the_other()
    assert edge.drift() == edge.one_sided() == WEIGHT
