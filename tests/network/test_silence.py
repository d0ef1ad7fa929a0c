"""One neighbour that is silent: when it is pinged, suspected and lost, and what does not count as its silence."""

from __future__ import annotations

import pytest
from one_neighbour import One, silent

from p2pser.base.errors import ConfigError
from p2pser.network.awake import AwakeClock
from p2pser.network.events import Changed
from p2pser.network.neighbour import Patience
from p2pser.network.states import Cause, State


def test_silence_is_pinged_suspected_and_lost_and_pinged_on() -> None:
    machine = One().present()
    told = silent(machine, 12.0)
    assert [(at, one) for at, one in told if one != "ping"] == [
        (2.0, Changed(4, State.PRESENT, State.SUSPECT, Cause.SILENCE, "silent for 2.0 s", 2.0)),
        (8.0, Changed(4, State.SUSPECT, State.LOST, Cause.DEATH, "silent for 8.0 s", 8.0))]
    assert [at for at, one in told if one == "ping"] == [float(at) for at in range(1, 13)]


def test_an_absent_neighbour_is_not_watched() -> None:
    one = One(begun=False)
    assert silent(one.machine, 30.0) == []
    assert one.greets(at=30.0) is None
    assert [what for _, what in silent(one.machine, 31.5, start=30.0)] == ["ping"]


def test_a_refused_neighbour_is_pinged_and_absent_once_it_is_silent() -> None:
    one = One(begun=False)
    assert one.greets(at=5.0, difference="labels differ") == "labels differ"
    assert one.machine.state is State.REFUSED
    told = silent(one.machine, 9.0, start=5.0)
    assert [what for _, what in told] == ["ping"] * 4
    one.machine.refusal(9.0)
    told = silent(one.machine, 20.0, start=9.0)
    assert [(at, what) for at, what in told if what != "ping"] == [
        (17.0, Changed(4, State.REFUSED, State.ABSENT, Cause.DEATH, "silent for 8.0 s", 8.0))]
    assert [at for at, what in told if what == "ping"] == [float(at) for at in range(10, 17)]


def test_any_message_brings_a_suspect_back() -> None:
    machine = One().present()
    silent(machine, 3.0)
    assert machine.state is State.SUSPECT
    assert [change.after for change in machine.heard(3.05)] == [State.PRESENT]
    assert silent(machine, 3.9, start=3.2) == []
    assert machine.silence(3.9) == pytest.approx(0.85)


def test_before_the_run_a_neighbour_that_was_silent_is_present_again_when_it_is_heard() -> None:
    """It was stopped, say: its connection has lived on, so it says no second HELLO."""
    one = One(begun=False)
    one.greets()
    silent(one.machine, 9.0)
    assert one.machine.state is State.ABSENT
    assert [change.after for change in one.machine.heard(10.0)] == [State.PRESENT]


def test_the_next_tick_is_due_before_anything_happens() -> None:
    machine = One().present()
    now, told = 0.0, []
    for _ in range(100):
        due = min(machine.due())
        assert due > now or not told
        before, _ = machine.tick(due - 1e-6)
        assert before == []
        now = due
        told += [change.after for change in machine.tick(now)[0]]
        if machine.state is State.LOST:
            break
    assert told == [State.SUSPECT, State.LOST]


def test_our_own_pause_is_nobodys_silence() -> None:
    machine, clock = One().present(), AwakeClock(1.0)
    for tick in range(10):
        assert clock.tick(tick * 0.1) == 0.0
    machine.heard(clock.time(61.0))  # read on waking, before the next tick
    assert clock.tick(61.0) == pytest.approx(60.1)
    machine.paused(clock.time(61.0))
    assert machine.silence(clock.time(61.0)) == 0.0
    assert clock.tick(61.1) == 0.0
    assert clock.time(63.0) - clock.time(61.0) == pytest.approx(2.0)
    assert clock.at(clock.time(63.0)) == pytest.approx(63.0)
    assert clock.due(61.2) == pytest.approx(61.1 + 0.5)


def test_even_a_starved_process_ends_waiting() -> None:
    machine, clock, told = One().present(), AwakeClock(1.0), []
    for tick in range(20):
        clock.tick(tick * 3.0)
        told += machine.tick(clock.time(tick * 3.0))[0]
    assert machine.state is State.LOST


@pytest.mark.parametrize("times", [(0.0, 1.0, 2.0), (2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (-1.0, 1.0, 2.0)])
def test_times_must_ascend(times: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="ascend"):
        Patience(*times)
