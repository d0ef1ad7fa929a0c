"""Which connections to a listener may stay, how far one may run ahead, and how often things happen and are told."""

from __future__ import annotations

from p2pser.network.admission import AHEAD, EACH, Admission, Intake
from p2pser.network.rates import Bucket, Quota, Reports


def test_the_address_with_most_guests_loses_one() -> None:
    admission = Admission(4, seed=1)
    for connection, address in [(1, "a"), (2, "b"), (3, "b"), (4, "b")]:
        admission.accepted(connection, address)
        assert admission.surplus() == []
    assert admission.crowd() == "b"
    admission.accepted(5, "c")
    (cut,) = admission.surplus()
    assert cut in (2, 3, 4)
    assert admission.guests == 4
    assert admission.turned_away == 1
    admission.ended(1)
    admission.accepted(6, "a")
    assert admission.surplus() == []


def test_a_neighbour_in_its_handshake_is_not_cut_for_the_crowd_at_its_own_address() -> None:
    received = {7: 64}
    admission = Admission(4, seed=1, received=lambda connection: received.get(connection, 10))
    for connection in [7, *range(100, 1100)]:
        admission.accepted(connection, "a")
        assert 7 not in admission.surplus()
    assert admission.guests == 4
    assert 7 in admission.guests_of("a")


def test_half_of_the_guests_that_greet_are_spared_and_one_is_always_cut() -> None:
    """The crowd follows the protocol too: whoever is further stays, and a newcomer is not always the one that goes."""
    newcomer_stays = 0
    for seed in range(40):
        received = {1: 500, 2: 266, 3: 64, 4: 64, 5: 0}
        admission = Admission(4, seed=seed, received=received.__getitem__)
        for connection in received:
            admission.accepted(connection, "a")
        (cut,) = admission.surplus()
        assert cut in (3, 4, 5)
        newcomer_stays += cut != 5
    assert 10 < newcomer_stays < 40
    alone = Admission(1, seed=1, received=lambda connection: 500)
    for connection, address in [(1, "a"), (2, "b")]:
        alone.accepted(connection, address)
    assert len(alone.surplus()) == 1


def test_whom_a_neighbour_speaks_over_is_no_guest_whatever_comes_first() -> None:
    admission = Admission(1, seed=1)
    admission.accepted(7, "a")
    assert admission.spoke(7, 3) == []
    assert admission.spoke(8, 3) == []  # its first message was read before the news of its connection
    admission.accepted(8, "a")
    assert admission.surplus() == []
    assert admission.guests == 0
    assert admission.peer(8) == 3
    assert admission.of(3) == [7, 8]
    admission.ended(7)
    admission.accepted(7, "a")  # the descriptor of another connection now
    assert admission.surplus() == []
    assert admission.peer(7) is None
    assert admission.of(3) == [8]


def test_a_neighbour_keeps_its_newest_connections() -> None:
    admission = Admission()
    cut = [admission.spoke(connection, 3) for connection in range(EACH + 2)]
    assert cut == [[], [], [], [], [0], [1]]
    assert admission.spoke(2, 3) == []
    assert admission.spoke(2, 5) == []  # closed, and opened by another neighbour
    assert (admission.of(3), admission.of(5)) == ([3, 4, 5], [2])


def test_fewer_guests_may_stay_from_now_on() -> None:
    admission = Admission(10, seed=1)
    for connection in range(10):
        admission.accepted(connection, "a")
    admission.limit = 7
    assert len(admission.surplus()) == 3
    assert admission.surplus() == []


def test_a_connection_may_run_ahead_by_two_windows() -> None:
    intake = Intake()
    intake.begins(4)
    assert not intake.too_far(4, AHEAD)
    assert intake.too_far(4, AHEAD + 1)
    intake.read(4, 1000)
    assert not intake.too_far(4, AHEAD + 1042)
    intake.begins(4)
    assert intake.too_far(4, AHEAD + 1)
    assert intake.connections() == [4]
    intake.ended(4)
    assert intake.connections() == []


def test_a_bucket_fills_again() -> None:
    bucket = Bucket(2.0, 3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_a_flood_is_counted_in_thousands() -> None:
    quota = Quota(rate=1.0, burst=10, flood=1000)
    floods = 0
    for _ in range(3500):
        if not quota.take(0.0):
            floods += quota.flooded
    assert (quota.dropped, floods) == (3490, 3)


def test_ever_new_sentences_of_one_kind_are_bounded_and_counted() -> None:
    reports = Reports(different=3, interval=60.0)
    told = [reports.due("x", f"sentence {n}", 0.0) for n in range(100)]
    assert [one for one in told if one] == ["sentence 0", "sentence 1", "sentence 2"]
    assert reports.due("y", "another kind", 0.0) == "another kind"
    assert reports.due("x", "sentence 100", 59.0) is None
    assert reports.due("x", "sentence 101", 60.0) == "sentence 101 (98 more suppressed)"
    assert reports.due("x", "sentence 102", 61.0) is None


def test_the_same_sentence_is_told_once_an_interval_and_hides_no_other() -> None:
    reports = Reports(different=2, interval=60.0)
    assert [reports.due("x", "same", now) for now in (0.0, 1.0, 59.9)] == ["same", None, None]
    assert reports.due("x", "other", 59.9) == "other"
    assert reports.due("x", "same", 60.0) == "same"
