"""Failed handshakes: a wrong key is told from a tunnel with no peer behind it."""

from __future__ import annotations

from p2pser.network.handshakes import HandshakeFailures, Verdict

PEER = 3


def fail(failures: HandshakeFailures, times: int, *, greeted: bool = False) -> list[Verdict]:
    return [failures.failed(PEER, greeted=greeted) for _ in range(times)]


def test_two_failures_after_a_greeting_mean_a_wrong_key() -> None:
    failures = HandshakeFailures()
    assert fail(failures, 2) == [Verdict.PROBE, Verdict.PROBE]
    failures.probe_greeted(PEER)
    assert failures.count(PEER) == 1  # the earlier two may have met no peer
    assert fail(failures, 2) == [Verdict.WAIT, Verdict.WRONG_KEY]
    assert failures.count(PEER) == 0
    assert fail(failures, 1) == [Verdict.PROBE]  # another program may listen there now


def test_without_a_greeting_no_peer_is_reported_every_third_time() -> None:
    failures = HandshakeFailures()
    probe, report = Verdict.PROBE, Verdict.NO_PEER
    assert fail(failures, 7) == [probe, probe, report, probe, probe, report, probe]
    assert failures.failed(PEER + 1, greeted=False) is probe  # each neighbour is counted by itself


def test_a_handshake_that_fails_after_its_greeting_needs_no_probe() -> None:
    assert fail(HandshakeFailures(), 3, greeted=True) == [Verdict.WAIT, Verdict.WAIT, Verdict.WRONG_KEY]


def test_a_handshake_that_succeeds_starts_the_count_anew() -> None:
    failures = HandshakeFailures()
    fail(failures, 2, greeted=True)
    failures.forget(PEER)
    assert fail(failures, 3) == [Verdict.PROBE, Verdict.PROBE, Verdict.NO_PEER]
