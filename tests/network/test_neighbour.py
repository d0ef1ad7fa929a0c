"""One neighbour, with times and messages of the test's own: every cell of the table, returns, goodbyes."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from one_neighbour import STRIKES, One, hello, silent

from p2pser.network.events import Changed
from p2pser.network.farewell import DISCONNECTED, Farewell
from p2pser.network.neighbour import CONNECTIONS_KEPT
from p2pser.network.roster import TRAINS
from p2pser.network.states import GONE, TABLE, WATCHED, Cause, Either, State
from p2pser.network.told import MOST_UNHEARD, PROGRESS_INTERVAL
from p2pser.wire.messages import Header, Kind, Phase, Progress


@pytest.mark.parametrize(("state", "cause", "begun"), [*product(State, Cause, [False, True])])
def test_every_cell_of_the_table(state: State, cause: Cause, begun: bool) -> None:
    machine = One(begun=begun).machine
    machine.state = state
    after = TABLE[state].get(cause, state)
    if isinstance(after, Either):
        after = after.during if begun else after.before
    changes = machine.happens(cause, "why", 3.0)
    assert machine.state is after
    assert changes == ([] if after is state else [Changed(4, state, after, cause, "why", 3.0)])


def test_what_the_table_promises() -> None:
    """Only a ban is final; nobody that is not waited for becomes so but by a row; all of them can be banned."""
    for state, row in TABLE.items():
        assert set(TABLE) == set(State)
        ends = {end for after in row.values() for end in ((after.before, after.during) if isinstance(after, Either)
                                                          else (after,))}
        assert (state is State.BANNED) == (not ends)
        assert state is State.BANNED or row[Cause.STRUCK_OUT] is State.BANNED
        if state in (*GONE, State.RETURNING):
            assert [cause for cause, after in row.items() if after is State.PRESENT] == (
                [Cause.ROW] if state is State.RETURNING else [])
        if state in WATCHED:
            assert row[Cause.DEATH] == Either(State.ABSENT, State.LOST)


# Coming and coming back --------------------------------------------------------------------------------------


def test_a_lost_neighbour_returns_on_any_message_and_is_waited_for_from_its_row_of_our_round_on() -> None:
    one = One()
    machine = one.present()
    silent(machine, 9.0)
    assert [change.after for change in machine.heard(20.0)] == [State.RETURNING]
    for round in (-3, 0, 5):
        assert machine.row(round) == []
    one.ours.progress = Progress(11, 0, Phase.TRAIN, 0)
    assert [change.after for change in machine.row(6)] == [State.PRESENT]


def test_where_there_are_no_common_rounds_any_row_of_training_shows_that_it_is_back() -> None:
    one = One()
    one.ours.lockstep = False
    machine = one.present()
    silent(machine, 9.0)
    machine.heard(20.0)
    assert machine.row(-3) == []
    assert [change.after for change in machine.row(0)] == [State.PRESENT]


def test_after_the_rounds_one_that_returns_is_served_but_takes_no_part() -> None:
    one = One(phase=Phase.CONSENSUS, admits=False)
    machine = one.present()
    silent(machine, 9.0)
    assert one.greets(6, at=10.0) is None
    assert machine.state is State.RETURNING
    assert machine.row(9) == []


def test_a_later_incarnation_ends_the_earlier_one_and_returns_at_once() -> None:
    one = One()
    machine = one.present()
    reason, changes = machine.greeted(hello(7), 0, None, 1.0)
    assert reason is None
    assert [(change.after, change.cause) for change in changes] == [(State.LOST, Cause.RESTART),
                                                                     (State.RETURNING, Cause.HELLO)]
    assert "incarnation 7" in str(one.greets(5))


def test_where_no_peer_may_join_a_later_incarnation_is_refused_and_the_earlier_one_is_lost() -> None:
    one = One(admits=False)
    machine = one.present()
    assert "lets no peer join" in str(one.greets(6))
    assert machine.state is State.LOST
    one.ours.progress = Progress(-2, 0, Phase.SETUP, 0)
    assert one.greets(6) == "", "left unanswered: perhaps it may join the training"


def test_a_hello_that_does_not_fit_says_nothing_about_the_incarnation_that_takes_part() -> None:
    one = One()
    machine = one.present()
    assert one.greets(5, "labels differ") == "labels differ"
    assert machine.state is State.PRESENT
    assert one.greets(6, "labels differ") == "labels differ"
    assert machine.state is State.LOST


def test_messages_of_other_incarnations_are_not_its_own() -> None:
    one = One()
    header = Header(Kind.PING, b"run-0001", 4, 5, Progress(0, 0, Phase.TRAIN, 0))
    assert not one.machine.of_this_incarnation(header)
    assert one.present().of_this_incarnation(header)
    one.greets(6)
    assert not one.machine.of_this_incarnation(header)


@pytest.mark.parametrize(("word", "after"), [("done", State.DONE), ("interrupted", State.LOST)])
def test_one_that_has_left_comes_back_in_a_later_incarnation_only(word: str, after: State) -> None:
    one = One()
    machine = one.present()
    assert [change.after for change in machine.said_bye(word)] == [after]
    assert machine.heard(1.0) == machine.row(6) == []
    assert one.greets(5, at=1.0) == ""
    assert one.greets(6, at=2.0) is None
    assert machine.state is State.RETURNING


@pytest.mark.parametrize("word", ["done", "interrupted"])
def test_before_the_run_a_late_hello_of_a_process_that_has_left_brings_nothing_back(word: str) -> None:
    """It was sent before the BYE, and arrives after it over the other connection."""
    one = One(begun=False)
    assert one.greets(process="first") is None
    one.machine.said_bye(word)
    for difference in (None, "labels differ"):
        assert one.greets(process="first", difference=difference) == ""
        assert (one.machine.state, one.machine.hello) == (State.ABSENT, None)
    assert one.greets(process="second", over=b"wire") is None
    assert one.greets(process="first") == "", "its late HELLO is no second process"
    assert one.machine.state is State.PRESENT


def test_messages_of_an_incarnation_that_has_ended_are_known_as_such() -> None:
    one = One(begun=False)
    headers = [Header(Kind.REFUSED, b"run-0001", 4, incarnation, Progress(0, 0, Phase.START, 0))
               for incarnation in (5, 6, 7)]
    one.greets(6, process="first")
    assert list(map(one.machine.of_ended_incarnation, headers)) == [True, False, False]
    one.machine.said_bye("interrupted")
    assert list(map(one.machine.of_ended_incarnation, headers)) == [True, True, False]
    one.greets(6, process="second")
    assert list(map(one.machine.of_ended_incarnation, headers)) == [True, False, False]


def test_a_late_row_of_a_neighbour_that_was_given_up_and_has_left_brings_nothing_back() -> None:
    machine = One().present()
    machine.drop("no progress", incarnation=5)
    machine.said_bye("interrupted")
    assert machine.row(6) == []
    assert machine.state is State.LOST


def test_messages_of_a_second_process_are_not_those_of_the_first() -> None:
    """They have the same key, id and incarnation; the second's PINGs would keep the first alive for good."""
    one = One(begun=False)
    assert one.greets(process="first", over=b"a") is None
    assert "runs twice" in str(one.greets(process="second", over=b"b"))
    header = Header(Kind.PING, b"run-0001", 4, 5, Progress(0, 0, Phase.START, 0))
    assert [one.machine.of_this_incarnation(header, connection) for connection in (b"a", b"b", b"new")] == [
        True, False, True]
    silent(one.machine, 9.0)
    assert one.greets(process="second", over=b"b", at=9.0) is None
    assert [one.machine.of_this_incarnation(header, connection) for connection in (b"a", b"b")] == [False, True]
    for number in range(2 * CONNECTIONS_KEPT):
        one.greets(process="second", over=b"%d" % number, at=9.0)
    assert len(one.machine._senders._of) == CONNECTIONS_KEPT


@pytest.mark.parametrize(("counts", "phase", "round", "after"), [
    (TRAINS, Phase.TRAIN, 3, [State.PRESENT]), (TRAINS, Phase.EXCHANGE, 3, [State.PRESENT]),
    (TRAINS, Phase.TRAIN, 2, []), (TRAINS, Phase.SETUP, 3, []), ((), Phase.TRAIN, 3, []),
    (TRAINS, Phase.CONSENSUS, 9, []), ((*TRAINS, Phase.CONSENSUS), Phase.CONSENSUS, 9, [State.PRESENT])])
def test_where_no_row_may_be_due_its_progress_shows_that_it_has_caught_up(
        counts: Collection[Phase], phase: Phase, round: int, after: list[State]) -> None:
    one = One()
    one.ours.progress_counts, one.ours.progress = counts, Progress(3, 0, Phase.TRAIN, 0)
    machine = one.present()
    silent(machine, 9.0)
    machine.heard(20.0)
    assert machine.state is State.RETURNING
    assert [change.after for change in machine.progressed(Progress(round, 0, phase, 0))] == after


def test_one_that_was_dropped_comes_back_with_a_row_only() -> None:
    machine = One().present()
    assert machine.drop("no progress", incarnation=4) == []
    assert [change.after for change in machine.drop("no progress", incarnation=5)] == [State.LOST]
    assert machine.heard(1.0) == []
    assert [change.after for change in machine.row(6)] == [State.RETURNING]


def test_when_the_run_begins_those_that_have_not_come_are_lost_with_the_reason() -> None:
    for difference, reason in ((None, "peer 4 did not start in time"), ("labels differ", "labels differ")):
        one = One(begun=False)
        if difference:
            one.greets(5, difference)
        one.ours.begun = True
        assert [(change.after, change.reason) for change in one.machine.begin(joining=False)] == [
            (State.LOST, reason)]


def test_one_that_joins_waits_for_those_that_train_only() -> None:
    for phase, after in ((Phase.SETUP, State.RETURNING), (Phase.EXCHANGE, State.PRESENT)):
        machine = One().present()
        machine.told.new(Progress(3, 0, phase, 0), 0.0)
        machine.begin(joining=True)
        assert machine.state is after


def test_a_ban_is_final() -> None:
    one = One()
    machine = one.present()
    changes = [change for _ in range(STRIKES) for change in machine.strike("it is no number")]
    assert [change.after for change in changes] == [State.BANNED]
    assert "it is no number" in str(one.greets(9))
    assert machine.heard(1.0) == machine.row(6) == []
    assert not machine.up


# Progress and goodbye ----------------------------------------------------------------------------------------


def at(round: int, phase: Phase, beat: int, slot: int = 0) -> Progress:
    return Progress(round, slot, phase, beat)


def test_steps_within_a_phase_are_told_now_and_then_and_everything_else_at_once() -> None:
    one = One()
    machine = one.present()
    assert machine.told.new(at(0, Phase.TRAIN, 1), 10.0)
    assert not machine.told.new(at(0, Phase.TRAIN, 2), 10.1)
    assert machine.told.new(at(0, Phase.EXCHANGE, 0), 10.1)
    assert machine.told.new(at(0, Phase.TRAIN, 0, slot=1), 10.1)
    assert machine.told.new(at(1, Phase.TRAIN, 1), 10.1)
    assert not machine.told.new(at(1, Phase.TRAIN, 1), 20.0), "nothing new"
    assert not machine.told.new(at(0, Phase.TRAIN, 9), 20.0), "a chunk tells how far its sender was when it posted"
    assert machine.told.new(at(1, Phase.TRAIN, 2), 10.1 + PROGRESS_INTERVAL)
    one.greets(6)
    assert machine.told.new(at(0, Phase.TRAIN, 1), 10.4)


def test_parts_of_a_message_are_told_now_and_then_though_their_sender_told_more_before() -> None:
    told, queue = One().present().told, SimpleQueue[Any]()
    for seconds, progress, part, tells in (
            (0.0, at(1, Phase.TRAIN, 1), False, True), (0.1, at(0, Phase.EXCHANGE, 0), True, False),
            (0.3, at(0, Phase.EXCHANGE, 0), True, True), (0.4, at(0, Phase.EXCHANGE, 0), True, False),
            (0.5, at(1, Phase.EXCHANGE, 0), False, True), (0.9, at(1, Phase.EXCHANGE, 0), False, False)):
        assert told.new(progress, 10.0 + seconds, part) is tells, seconds
        told.tell(queue)
    assert [(event.progress, event.part) for event in (queue.get() for _ in range(queue.qsize()))] == [
        (at(1, Phase.TRAIN, 1), False), (at(1, Phase.TRAIN, 1), True), (at(1, Phase.EXCHANGE, 0), False)]


def test_what_the_training_thread_has_not_read_is_told_once_it_has_as_it_is_then() -> None:
    machine, queue = One().present(), SimpleQueue[Any]()
    for round in range(3 * MOST_UNHEARD):
        assert machine.told.new(at(round, Phase.TRAIN, 0), 10.0)
        machine.told.tell(queue)
    assert [queue.get().progress.round for _ in range(queue.qsize())] == list(range(MOST_UNHEARD))
    machine.told.heard += 1
    machine.told.tell(queue)
    assert queue.get().progress == at(3 * MOST_UNHEARD - 1, Phase.TRAIN, 0)
    machine.told.heard += 1
    machine.told.tell(queue)
    assert queue.empty(), "nothing new"


def test_only_the_acknowledgement_of_our_bye_counts() -> None:
    machine = One().present()
    machine.ponged(7, 0, 0.0)
    assert not machine.has_read_bye
    machine.bye_sent(7)
    machine.ponged(8, 0, 0.0)
    assert not machine.has_read_bye
    machine.ponged(7, 0, 0.0)
    assert machine.has_read_bye


def test_a_bye_is_sent_again_over_the_next_connection() -> None:
    machine = One().present()
    machine.bye_sent(7)
    machine.ponged(7, 0, 0.0)
    machine.connection_lost(carrier=False)
    assert not machine.was_sent_bye
    assert not machine.has_read_bye


def test_the_stream_restarts_where_it_went_over_the_lost_connection() -> None:
    machine = One().present()
    machine.connection_lost(carrier=False)
    assert machine.stream.restarts == 0
    machine.connection_lost(carrier=True)
    assert machine.stream.restarts == 1
    machine.happens(Cause.SILENCE, "silent", 2.0)
    machine.happens(Cause.DEATH, "silent", 8.0)
    assert machine.state is State.LOST
    machine.connection_lost(carrier=True)
    assert machine.stream.restarts == 2  # what was in flight to one that is LOST takes no room when it is back


def test_a_peer_closes_without_a_neighbour_that_has_had_no_connection_for_a_while() -> None:
    at = SimpleNamespace(now=10.0, connected=False)
    connections = SimpleNamespace(connected=lambda peer: at.connected)
    farewell = Farewell([One().present()], SimpleNamespace(say_bye=lambda link, reason: None),  # type: ignore[arg-type]
                        connections, lambda: at.now, "peer")  # type: ignore[arg-type]
    farewell.begin("done", 1e9)
    closes = []
    for now, connected in ((10.0, False), (11.0, True), (12.0, False), (13.4, False), (12.0 + DISCONNECTED, False)):
        at.now, at.connected = now, connected
        closes.append(farewell.may_close())
    assert closes == [False, False, False, False, True]
