"""One exchange machine: how long it waits, what it mixes, late or once, and what it keeps."""

from __future__ import annotations

import weakref

import pytest
import torch
from exchanges import TIMEOUT, at, lose, row, waiting_exchange
from hypothesis import example, given
from hypothesis import strategies as st

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import BLOCK, Late, Step, distance
from p2pser.network.awaited import LONGEST, Awaited
from p2pser.network.exchange import AHEAD, NEVER, DeliveryStatus, Exchange
from p2pser.network.past import PAST_BYTES
from p2pser.network.roster import Roster
from p2pser.wire.messages import Phase, Progress


def test_nobody_is_given_up_while_it_reports_progress() -> None:
    exchange = waiting_exchange((1,))
    for beat in range(1, 9):
        exchange.awaited.progress(1, Progress(0, 0, Phase.TRAIN, beat), beat * 0.9 * TIMEOUT)
        assert exchange.finish(beat * 0.9 * TIMEOUT + 0.89 * TIMEOUT) is None
    assert exchange.deadline(0.0) == pytest.approx(8 * 0.9 * TIMEOUT + TIMEOUT)
    outcome = exchange.finish(9 * TIMEOUT)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)


@given(began=st.floats(0.0, 1e7))
@example(began=1019.6586960889541)  # began + timeout is rounded down: the difference is below the timeout
def test_at_its_deadline_a_wait_ends_whatever_the_last_bit_of_a_sum_is(began: float) -> None:
    exchange = Exchange(0, Roster((1,)), Awaited(6.0))
    exchange.awaited.progress(1, at(0), began)
    exchange.post(Step(0, 0), row(1), {1: 0.25})
    exchange.begin(Step(0, 0))
    assert exchange.finish(began) is None
    due = exchange.deadline(began)
    assert due is not None
    assert exchange.finish(due) is not None


@pytest.mark.parametrize("beyond", [Progress(0, 1, Phase.EXCHANGE, 0), Progress(1, 0, Phase.TRAIN, 0)], ids=str)
def test_the_progress_of_one_past_the_step_does_not_prolong_the_wait_for_its_message(beyond: Progress) -> None:
    exchange = waiting_exchange((1,))
    assert exchange.finish(0.0) is None
    exchange.awaited.progress(1, beyond, 0.5 * TIMEOUT)
    for beat in (1, 2, 3):
        now = (0.5 + 0.3 * beat) * TIMEOUT
        assert exchange.awaited.progress(1, beyond._replace(local_step=beat), now), "it is relayed"
        assert exchange.finish(now) is None
    assert exchange.deadline(1.4 * TIMEOUT) == pytest.approx(1.5 * TIMEOUT)
    outcome = exchange.finish(1.5 * TIMEOUT)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)


def test_a_message_on_its_way_is_waited_for_while_parts_of_it_come() -> None:
    exchange = Exchange(0, Roster((1,)), Awaited(TIMEOUT, on_its_way=3.0))
    exchange.awaited.progress(1, at(0), 0.0)
    exchange.post(Step(0, 0), row(1), {1: 0.25})
    exchange.begin(Step(0, 0))
    assert exchange.finish(0.0) is None
    assert exchange.deadline(0.0) == TIMEOUT
    for seconds in (8.0, 16.0):  # it is not past the step yet
        assert exchange.awaited.progress(1, at(0), seconds, part=True)
        assert exchange.deadline(seconds) == seconds + TIMEOUT
    beyond = Progress(1, 0, Phase.TRAIN, 0)
    for seconds, part, due in ((17.0, False, 20.0), (18.0, True, 21.0), (19.0, False, 21.0), (20.5, True, 23.5)):
        assert exchange.awaited.progress(1, beyond._replace(local_step=int(seconds)), seconds, part)
        assert exchange.deadline(seconds) == due
    assert exchange.finish(23.4) is None
    outcome = exchange.finish(23.5)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)


def test_before_we_wait_the_progress_of_one_that_is_ahead_counts() -> None:
    exchange = waiting_exchange((1,))
    exchange.deliver(1, Step(0, 0), row(3), (), 0.0)
    assert exchange.finish(0.0) is not None
    for beat in range(5):  # our local steps of round 1 take long
        exchange.awaited.progress(1, Progress(1, 0, Phase.EXCHANGE, beat), beat * TIMEOUT)
    exchange.post(Step(1, 0), row(1), {1: 0.25})
    exchange.begin(Step(1, 0))
    assert exchange.finish(4.5 * TIMEOUT) is None
    exchange.awaited.progress(1, Progress(1, 0, Phase.EXCHANGE, 5), 4.9 * TIMEOUT)
    assert exchange.deadline(4.9 * TIMEOUT) == pytest.approx(5.9 * TIMEOUT)


def test_one_that_makes_progress_and_sends_nothing_is_given_up_too_until_it_sends() -> None:
    exchange = waiting_exchange((1, 2))
    exchange.deliver(2, Step(0, 0), row(3), (), 0.0)
    for beat in range(1, 20 * LONGEST):
        exchange.awaited.progress(1, Progress(0, 0, Phase.TRAIN, beat), beat * TIMEOUT / 2)
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
    assert not exchange.awaited.progress(1, Progress(0, 0, Phase.TRAIN, 0), 9.0)
    assert not exchange.awaited.progress(1, Progress(-1, 0, Phase.TRAIN, 5), 9.5)
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


def test_in_training_one_that_says_that_it_has_not_begun_is_given_up_like_any_other() -> None:
    exchange = waiting_exchange((1,), round=3)
    exchange.awaited.progress(1, Progress(4, 0, Phase.START, 0), 1.0)
    assert exchange.deadline(1.0) == pytest.approx(1.0 + TIMEOUT)
    assert exchange.finish(0.99 * TIMEOUT) is None
    outcome = exchange.finish(1.0 + TIMEOUT)
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)


@pytest.mark.parametrize("phase", Phase)
def test_before_the_first_round_the_start_timeout_bounds_the_wait_for_what_gets_on_and_sends_nothing(
        phase: Phase) -> None:
    exchange, longest = waiting_exchange((1,), phase, round=-3), 30.0 + LONGEST * TIMEOUT
    exchange.awaited.start_timeout = 30.0
    assert exchange.finish(0.0) is None
    for beat in range(1, 40):
        exchange.awaited.progress(1, Progress(-3, 0, phase, beat), beat * 0.9 * TIMEOUT)
        if (outcome := exchange.finish(min(beat * 0.9 * TIMEOUT, longest))) is not None:
            break
    assert outcome is not None
    assert outcome.missing == ((1, DeliveryStatus.GIVEN_UP),)
    assert (beat - 1) * 0.9 * TIMEOUT < longest <= beat * 0.9 * TIMEOUT


def test_one_that_has_told_no_progress_is_waited_for_as_long_as_one_that_makes_progress() -> None:
    exchange = Exchange(0, Roster((1,)), Awaited(TIMEOUT))
    exchange.post(Step(0, 0), row(1), {1: 0.5})
    exchange.begin(Step(0, 0))
    assert exchange.finish(1e6) is None
    assert exchange.waiting(1e6 + 0.99 * LONGEST * TIMEOUT) == (1,)
    assert exchange.finish(1e6 + LONGEST * TIMEOUT) is not None


def test_a_pause_of_this_process_is_nobodys_fault() -> None:
    exchange = waiting_exchange((1,))
    exchange.awaited.resume(100.0)
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
    exchange = Exchange(0, Roster((1,)), Awaited(TIMEOUT))
    exchange.awaited.progress(1, at(0), 0.0)
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
    exchange = Exchange(0, Roster((1, 2)), Awaited(TIMEOUT))
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
    exchange.awaited.progress(2, at(0), 0.0)
    assert exchange.finish(TIMEOUT + 1) is not None
    exchange.deliver(1, Step(1, 0), row(7), (), 0.0)
    exchange.deliver(2, Step(1, 0), row(7), (), 0.0)
    assert kept_rows(exchange) == [0]
    exchange.deliver(2, Step(0, 0), row(3), (), 0.0)
    assert exchange.messages_late == 1
    assert kept_rows(exchange) == []


def test_large_own_rows_take_bounded_memory_and_what_stays_open_is_told() -> None:
    exchange = Exchange(0, Roster((1,)), Awaited(TIMEOUT))
    exchange.awaited.progress(1, at(0), 0.0)
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
