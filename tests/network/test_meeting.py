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

    def __init__(self, start_timeout: float | None = None, refused_wait: float | None = 10.0,
                 expected: tuple[int, ...] | None = None) -> None:
        self.roster = Roster((1, 2, 5))
        self.wait = Meeting(self.roster, 100.0, start_timeout, refused_wait, expected, dead_after=8.0,
                            longest=600.0).wait

    def came(self, peer: int, progress: Progress = START) -> None:
        self.roster.up(events.Up(peer, Hello("run", peer, 0, {}, "t", "s", (1.0,), ("a", "b"), 7), progress))
        self.changes(peer, State.PRESENT, Cause.HELLO)

    def changes(self, peer: int, state: State, cause: Cause, reason: str = "", now: float = 100.0,
                silence: float = 0.0) -> None:
        self.roster.changed(events.Changed(peer, self.roster.state(peer), state, cause, reason, silence), now)


@pytest.fixture
def here() -> Here:
    return Here()


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
    assert here.wait(111.0) == Wait("waiting for peer 5, waiting for peer 2 to come back with corrected settings", None)
    here.came(5)
    assert here.wait(114.9) == Wait("waiting for peer 2 to come back with corrected settings", 115.0)
    assert here.wait(115.0) is None
    assert here.roster.reason(2) == "second"


def test_without_a_limit_a_refused_neighbour_is_waited_for_as_an_absent_one() -> None:
    here = Here(refused_wait=None)
    here.came(1)
    here.came(5)
    here.changes(2, State.REFUSED, Cause.MISFIT, "labels differ")
    assert here.wait(1e6) == Wait("waiting for peer 2 to come back with corrected settings", None)
    here.came(2)
    assert here.wait(1e6) is None


def test_a_peer_that_all_refuse_ends_a_little_later() -> None:
    here = Here()
    for at, peer in enumerate((1, 2, 5)):
        here.changes(peer, State.REFUSED, Cause.REFUSAL, "labels differ" if peer != 5 else "runs differ", 100.0 + at)
    assert here.wait(102.0 + REFUSED_LINGER - 0.1) == Wait(
        "no neighbour fits this peer, which ends therefore", 102.0 + REFUSED_LINGER)
    with pytest.raises(RefusedError, match=r"^labels differ; runs differ$"):
        here.wait(102.0 + REFUSED_LINGER)


def test_a_refused_neighbour_that_has_ended_still_counts_as_refused(here: Here) -> None:
    for peer in (1, 5):
        here.came(peer)
    here.changes(2, State.REFUSED, Cause.MISFIT, "labels differ", 105.0)
    here.changes(2, State.ABSENT, Cause.DEATH, "silent", 113.0, 8.0)
    here.changes(2, State.REFUSED, Cause.MISFIT, "labels differ", 114.0)
    here.changes(2, State.ABSENT, Cause.RESTART, "it was started again", 114.5)
    assert here.roster.refusing() == ()
    here.changes(2, State.REFUSED, Cause.MISFIT, "labels differ", 114.7)
    assert here.wait(120.0) == Wait("waiting for peer 2 to come back with corrected settings", 124.7)


@pytest.mark.parametrize("peer", [1, 5])
def test_one_that_all_refuse_waits_as_long_as_one_of_them_may_have_an_older_file(here: Here, peer: int) -> None:
    for other in (1, 2, 5):
        here.changes(other, State.REFUSED, Cause.REFUSAL, "key", 100.0)
        here.roster.refused(events.Refused(other, "key", by_us=False, older=other == peer))
    assert here.wait(107.0) == Wait("waiting for peers 1, 2, 5 to come back with corrected settings", 110.0)
    here.roster.refused(events.Refused(peer, "no key", by_us=False))
    with pytest.raises(RefusedError, match=r"^key; no key$" if peer == 5 else r"^no key; key$"):
        here.wait(107.5)


def test_after_a_change_an_absent_peer_of_the_run_is_waited_for_only_shortly() -> None:
    here = Here(expected=(1, 2))
    assert here.wait(1e6) == Wait("waiting for peers 1, 2, 5", None)
    here.came(1)
    assert here.wait(109.9) == Wait("waiting for peer 2", 110.0)
    assert here.wait(110.0) is None
    here.came(2)
    assert here.wait(111.0) is None
    here.changes(2, State.ABSENT, Cause.DEATH, "silent", 125.0, 8.0)
    assert here.wait(126.0) == Wait("waiting for peer 2", 127.0)
    assert here.wait(127.0) is None


def test_after_a_change_a_slow_peer_is_waited_for_as_long_as_it_answers() -> None:
    here = Here(expected=(1, 2))
    here.came(1)
    here.changes(2, State.REFUSED, Cause.REFUSAL, "it has epoch 0", 101.0)
    assert here.wait(699.0) == Wait("waiting for peer 2 to come back with corrected settings", 700.0)
    assert here.wait(700.0) is None
    here.changes(2, State.ABSENT, Cause.DEATH, "silent", 308.0, 8.0)
    assert here.wait(309.0) == Wait("waiting for peer 2 to come back with corrected settings", 310.0)
    assert here.wait(310.0) is None


def test_after_a_change_the_neighbours_that_refuse_us_may_be_slow() -> None:
    here = Here(refused_wait=None, expected=(1, 2, 5))
    for peer in (1, 2, 5):
        here.changes(peer, State.REFUSED, Cause.REFUSAL, "it has epoch 0", 101.0)
    assert here.wait(150.0) == Wait("waiting for peers 1, 2, 5 to come back with corrected settings", 700.0)
    assert here.wait(700.0) == Wait("waiting for peers 1, 2, 5 to come back with corrected settings", None)


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
