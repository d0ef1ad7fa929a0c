"""The start of a run, with times of the test's own: who is waited for, and until when."""

from __future__ import annotations

import pytest

from p2pser.base.errors import RefusedError
from p2pser.network.meeting import REFUSED_LINGER, RUNNING_WAIT, Meeting, Wait
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

START = Progress(-9, 0, Phase.START, 0)
TRAINS = Progress(4, 0, Phase.TRAIN, 0)


def hello(peer: int) -> Hello:
    return Hello("run", peer, 0, {}, "t", "s", "i", ("a", "b"), 7)


def meeting(start_timeout: float | None = None, refused_wait: float = 10.0) -> Meeting:
    meeting = Meeting((1, 2, 5))
    meeting.begin(100.0, start_timeout, refused_wait)
    return meeting


def test_all_are_waited_for_without_limit_until_they_have_come() -> None:
    here = meeting()
    assert here.wait(100.0) == Wait("waiting for peers 1, 2, 5", None)
    here.came(1, hello(1), START)
    here.came(5, hello(5), START)
    assert here.wait(1e6) == Wait("waiting for peer 2", None)
    here.gone(5)
    assert here.wait(1e6) == Wait("waiting for peers 2, 5", None)
    here.came(5, hello(5), START)
    here.came(2, hello(2), START)
    assert here.wait(1e6) is None
    assert here.missing() == here.training() == ()


def test_after_start_timeout_the_run_begins_without_the_missing() -> None:
    here = meeting(start_timeout=30.0)
    here.came(1, hello(1), START)
    assert here.wait(129.9) == Wait("waiting for peers 2, 5", 130.0)
    assert here.wait(130.0) is None
    assert here.missing() == (2, 5)
    assert here.why_missing(2) == "peer 2 did not come in time"


def test_a_refused_neighbour_has_its_time_from_the_first_refusal_on() -> None:
    here = meeting(refused_wait=10.0)
    here.came(1, hello(1), START)
    here.refused(2, "first", 105.0)
    here.refused(2, "second", 111.0)
    assert here.wait(111.0) == Wait("waiting for peer 5, waiting for peer 2 to come back corrected", None)
    here.came(5, hello(5), START)
    assert here.wait(114.9) == Wait("waiting for peer 2 to come back corrected", 115.0)
    assert here.wait(115.0) is None
    assert here.why_missing(2) == "second"


def test_a_peer_that_all_refuse_ends_a_little_later() -> None:
    here = meeting()
    for at, peer in enumerate((1, 2, 5)):
        here.refused(peer, "labels differ" if peer != 5 else "runs differ", 100.0 + at)
    assert here.wait(102.0 + REFUSED_LINGER - 0.1) == Wait(
        "waiting for peers 1, 2, 5 to come back corrected", 102.0 + REFUSED_LINGER)
    with pytest.raises(RefusedError, match=r"^labels differ; runs differ$"):
        here.wait(102.0 + REFUSED_LINGER)


def test_where_neighbours_train_the_others_are_waited_for_only_shortly() -> None:
    here = meeting()
    here.came(2, hello(2), TRAINS)
    assert here.wait(120.0) == Wait("waiting for peers 1, 5", 120.0 + RUNNING_WAIT)
    assert here.wait(122.0) == Wait("waiting for peers 1, 5", 120.0 + RUNNING_WAIT)
    assert here.wait(120.0 + RUNNING_WAIT) is None
    assert here.training() == (2,)
