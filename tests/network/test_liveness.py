"""Liveness with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import ConfigError, LocalProtocolError
from p2pser.network.liveness import Alive, Dead, Event, Liveness, LivenessState, Ping, Suspect


def run(liveness: Liveness, until: float, start: float = 0.0, step: float = 0.1) -> list[tuple[float, Event]]:
    told = []
    for tick in range(round((until - start) / step) + 1):
        now = start + tick * step
        told += [(round(now, 6), event) for event in liveness.tick(now)]
    return told


def kinds(told: list[tuple[float, Event]]) -> list[str]:
    return [type(event).__name__ for _, event in told]


def test_silence_is_pinged_suspected_and_buried() -> None:
    liveness = Liveness([4], 1.0, 2.0, 8.0)
    liveness.watch(4, 0.0)
    told = run(liveness, 12.0, step=0.125)
    assert [(at, event) for at, event in told if not isinstance(event, Ping)] == [
        (2.0, Suspect(4, 2.0)),
        (8.0, Dead(4, 8.0)),
    ]
    assert [at for at, event in told if event == Ping(4)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert liveness.state(4) is LivenessState.DEAD


def test_who_has_not_said_hello_is_not_watched() -> None:
    liveness = Liveness([1, 2])
    liveness.note_traffic(1, 0.0)
    assert run(liveness, 30.0) == []
    assert liveness.state(1) is LivenessState.UNKNOWN
    liveness.watch(1, 30.0)
    assert kinds(run(liveness, 32.5, start=30.0, step=0.125)) == ["Ping", "Suspect", "Ping"]
    assert liveness.state(2) is LivenessState.UNKNOWN


def test_any_sign_of_life_brings_a_suspect_back() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    run(liveness, 3.0)
    assert liveness.state(4) is LivenessState.SUSPECT
    liveness.note_traffic(4, 3.05)
    assert liveness.state(4) is LivenessState.ALIVE
    assert liveness.next_due(3.05) == 3.05
    assert liveness.tick(3.1) == [Alive(4)]
    assert run(liveness, 3.9, start=3.2) == []
    assert liveness.silence(4, 3.9) == pytest.approx(0.85)


def test_a_last_word_is_no_return() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    run(liveness, 3.0)
    liveness.note_traffic(4, 3.05)
    liveness.close(4)
    assert liveness.tick(3.1) == []


def test_dead_is_final() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    run(liveness, 9.0)
    for again in (liveness.note_traffic, liveness.watch):
        again(4, 9.1)
    liveness.close(4)
    assert liveness.state(4) is LivenessState.DEAD
    assert run(liveness, 20.0, start=9.2) == []


def test_who_left_is_not_watched_until_it_says_hello_again() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    liveness.close(4)
    liveness.note_traffic(4, 0.5)
    assert liveness.state(4) is LivenessState.LEFT
    assert run(liveness, 20.0) == []
    liveness.watch(4, 20.0)
    assert liveness.state(4) is LivenessState.ALIVE
    assert [event for _, event in run(liveness, 30.0, start=20.1)][-1] == Dead(4, pytest.approx(8.0, abs=0.11))


def test_who_was_forgotten_may_come_back() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    run(liveness, 9.0)
    liveness.forget(4)
    assert run(liveness, 12.0, start=9.1) == []
    liveness.watch(4, 12.0)
    assert liveness.state(4) is LivenessState.ALIVE


def test_our_own_pause_is_nobodys_silence() -> None:
    liveness = Liveness([4, 5])
    for peer in (4, 5):
        liveness.watch(peer, 0.0)
    assert run(liveness, 0.9) == []
    # Stopped for 60 s; on waking, 4's messages are read before the next tick.
    liveness.note_traffic(4, 61.0)
    assert liveness.pause(61.0) == pytest.approx(60.1)
    assert liveness.pause(61.0) == 0.0
    assert liveness.tick(61.0) == [Ping(5)]
    assert liveness.silence(4, 61.0) == 0.0
    assert liveness.silence(5, 61.0) == pytest.approx(0.9 + 0.5)
    told = run(liveness, 70.0, start=61.1)
    assert [at for at, event in told if isinstance(event, Dead) and event.peer == 5] == [pytest.approx(67.6, abs=0.11)]
    assert [at for at, event in told if isinstance(event, Dead) and event.peer == 4] == [pytest.approx(69.0, abs=0.11)]


def test_even_a_starved_process_ends_waiting() -> None:
    liveness = Liveness([4])
    liveness.watch(4, 0.0)
    assert Dead in [type(event) for _, event in run(liveness, 60.0, step=3.0)]


def test_nobody_but_neighbours_is_watched() -> None:
    with pytest.raises(LocalProtocolError, match="peer 9 is no neighbour"):
        Liveness([1]).note_traffic(9, 0.0)


@pytest.mark.parametrize("times", [(0.0, 1.0, 2.0), (2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (-1.0, 1.0, 2.0)])
def test_times_must_ascend(times: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="ascend"):
        Liveness([1], *times)


def test_the_next_call_is_due_before_anything_happens_and_often_enough_to_see_a_pause() -> None:
    liveness = Liveness([4], 1.0, 2.0, 8.0)
    liveness.watch(4, 0.0)
    now, told = 0.0, []
    calls = 0
    while not any(isinstance(event, Dead) for event in told):
        told += liveness.tick(now)
        due = liveness.next_due(now)
        assert now < due <= now + 0.5
        now, calls = due, calls + 1
    assert now == pytest.approx(8.5)
    assert calls < 30
    assert liveness.paused == 0.0


signs = st.lists(st.tuples(st.floats(0, 60), st.sampled_from([1, 2])), max_size=40)


@given(signs, st.floats(0.01, 0.9), st.lists(st.tuples(st.floats(0, 60), st.floats(0, 20)), max_size=3))
def test_nobody_dies_early_and_the_silent_die_soon(
    signs: list[tuple[float, int]], step: float, pauses: list[tuple[float, float]]
) -> None:
    """Against a plain model: real silence, and the silence without the gaps between ticks that were too long."""
    liveness = Liveness([1, 2])
    for peer in (1, 2):
        liveness.watch(peer, 0.0)
    last = {1: 0.0, 2: 0.0}
    lost = {1: 0.0, 2: 0.0}
    rank = {LivenessState.ALIVE: 0, LivenessState.SUSPECT: 1, LivenessState.DEAD: 2}
    signs, pauses = sorted(signs), sorted(pauses)
    now = 0.0
    while now < 100.0:
        while signs and signs[0][0] <= now:
            _, peer = signs.pop(0)
            # Heard when it is read: now.
            if liveness.state(peer) is not LivenessState.DEAD:
                last[peer], lost[peer] = now, 0.0
            liveness.note_traffic(peer, now)
        before = {peer: liveness.state(peer) for peer in (1, 2)}
        for event in liveness.tick(now):
            if isinstance(event, Dead):
                assert now - last[event.peer] >= 8.0 - 1e-6
                assert before[event.peer] is not LivenessState.DEAD
                assert event.silence <= now - last[event.peer] + 1e-6
            if isinstance(event, Suspect):
                assert now - last[event.peer] >= 2.0 - 1e-6
        for peer in (1, 2):
            assert rank[liveness.state(peer)] >= rank[before[peer]]
            if now - last[peer] - lost[peer] >= 8.0 + 1e-6:
                assert liveness.state(peer) is LivenessState.DEAD
        gap = step
        if pauses and pauses[0][0] <= now:
            gap += pauses.pop(0)[1]
        for peer in (1, 2):
            # All of a long gap may go uncounted, so only short ones are held against a neighbour for sure.
            lost[peer] += gap if gap > 1.0 - 1e-6 else 0.0
        now += gap
    assert {liveness.state(1), liveness.state(2)} == {LivenessState.DEAD}
