"""The start of a run, with times of the test's own: who is waited for, and until when."""

from __future__ import annotations

import pytest

from p2pser.base.errors import RefusedError
from p2pser.network import events
from p2pser.network.meeting import REFUSED_LINGER, RUNNING_WAIT, Meeting, Wait
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

START = Progress(-9, 0, Phase.START, 0)
TRAINS = Progress(4, 0, Phase.TRAIN, 0)


class Here:
    """A peer that waits for its neighbours 1, 2 and 5 from time 100 on."""

    def __init__(self, start_timeout: float | None = None, refused_wait: float | None = 10.0) -> None:
        self.roster = Roster((1, 2, 5))
        self.wait = Meeting(self.roster, 100.0, start_timeout, refused_wait).wait

    def came(self, peer: int, progress: Progress = START) -> None:
        self.roster.up(events.Up(peer, Hello("run", peer, 0, {}, "t", "s", "i", ("a", "b"), 7), progress))
        self.changes(peer, State.PRESENT, Cause.HELLO)

    def changes(self, peer: int, state: State, cause: Cause, reason: str = "", now: float = 100.0) -> None:
        self.roster.changed(events.Changed(peer, self.roster.state(peer), state, cause, reason), now)


def test_all_are_waited_for_without_limit_until_they_have_come() -> None:
    here = Here()
    assert here.wait(100.0) == Wait("waiting for peers 1, 2, 5", None)
    here.came(1)
    here.came(5)
    assert here.wait(1e6) == Wait("waiting for peer 2", None)
    here.changes(5, State.ABSENT, Cause.LEFT)
    assert here.wait(1e6) == Wait("waiting for peers 2, 5", None)
    here.came(5)
    here.came(2)
    assert here.wait(1e6) is None
    assert here.roster.missing() == here.roster.training() == ()


def test_after_start_timeout_the_run_begins_without_the_missing() -> None:
    here = Here(start_timeout=30.0)
    here.came(1)
    assert here.wait(129.9) == Wait("waiting for peers 2, 5", 130.0)
    assert here.wait(130.0) is None
    assert here.roster.missing() == (2, 5)


def test_a_refused_neighbour_has_its_time_from_the_first_refusal_on_and_the_newest_reason_is_told() -> None:
    here = Here(refused_wait=10.0)
    here.came(1)
    here.changes(2, State.REFUSED, Cause.MISFIT, "first", 105.0)
    here.roster.refused(events.Refused(2, "second", by_us=False))
    assert here.wait(111.0) == Wait("waiting for peer 5, waiting for peer 2 to come back corrected", None)
    here.came(5)
    assert here.wait(114.9) == Wait("waiting for peer 2 to come back corrected", 115.0)
    assert here.wait(115.0) is None
    assert here.roster.reason(2) == "second"


def test_without_a_limit_a_refused_neighbour_is_waited_for_as_an_absent_one() -> None:
    here = Here(refused_wait=None)
    here.came(1)
    here.came(5)
    here.changes(2, State.REFUSED, Cause.MISFIT, "labels differ")
    assert here.wait(1e6) == Wait("waiting for peer 2 to come back corrected", None)
    here.came(2)
    assert here.wait(1e6) is None


def test_a_peer_that_all_refuse_ends_a_little_later() -> None:
    here = Here()
    for at, peer in enumerate((1, 2, 5)):
        here.changes(peer, State.REFUSED, Cause.REFUSAL, "labels differ" if peer != 5 else "runs differ", 100.0 + at)
    assert here.wait(102.0 + REFUSED_LINGER - 0.1) == Wait(
        "waiting for peers 1, 2, 5 to come back corrected", 102.0 + REFUSED_LINGER)
    with pytest.raises(RefusedError, match=r"^labels differ; runs differ$"):
        here.wait(102.0 + REFUSED_LINGER)


def test_where_neighbours_train_the_others_are_waited_for_only_shortly() -> None:
    here = Here()
    here.came(2, TRAINS)
    assert here.wait(120.0) == Wait("waiting for peers 1, 5", 120.0 + RUNNING_WAIT)
    assert here.wait(122.0) == Wait("waiting for peers 1, 5", 120.0 + RUNNING_WAIT)
    assert here.wait(120.0 + RUNNING_WAIT) is None
    assert here.roster.training() == (2,)


def test_a_neighbour_trains_from_the_moment_it_says_so() -> None:
    here = Here()
    here.came(1)
    here.roster.progressed(events.Progressed(1, TRAINS))
    assert here.roster.training() == (1,)
    here.changes(1, State.ABSENT, Cause.LEFT)
    assert here.roster.training() == ()
