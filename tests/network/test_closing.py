"""Leaving: a neighbour has read everything once it acknowledges our BYE, or has ended."""

from __future__ import annotations

from p2pser.network.closing import DISCONNECTED, Closing


def test_only_the_acknowledgement_of_our_bye_counts() -> None:
    closing = Closing()
    closing.acknowledge(1, 7)
    assert not closing.acknowledged(1)
    closing.sent(1, 7)
    closing.sent(2, 8)
    closing.acknowledge(1, 8)
    assert not closing.acknowledged(1)
    closing.acknowledge(1, 7)
    assert closing.acknowledged(1)
    assert not closing.acknowledged(2)


def test_a_bye_is_sent_again_over_the_next_connection() -> None:
    closing = Closing()
    closing.sent(1, 7)
    closing.acknowledge(1, 7)
    closing.connection_lost(1)
    assert not closing.was_sent(1)
    assert not closing.acknowledged(1)


def test_a_neighbour_without_a_connection_is_gone_after_a_while() -> None:
    closing = Closing()
    assert not closing.gone(1, connected=False, now=10.0)
    assert not closing.gone(1, connected=True, now=11.0)
    assert not closing.gone(1, connected=False, now=12.0)
    assert not closing.gone(1, connected=False, now=12.0 + DISCONNECTED - 0.1)
    assert closing.gone(1, connected=False, now=12.0 + DISCONNECTED)


def test_at_the_deadline_a_peer_closes_whatever_was_acknowledged() -> None:
    closing = Closing()
    assert closing.reason is None
    closing.begin("done", deadline=20.0)
    assert closing.reason == "done"
    assert not closing.expired(19.9)
    assert closing.expired(20.0)
