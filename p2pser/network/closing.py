"""Leaving the run: which neighbours have acknowledged our BYE. Pure: the caller passes the time in.

A connection that closes loses data: TCP may discard what it still holds, and ZeroMQ what the other end has not read. So
BYE goes last, the neighbour acknowledges it by a PONG with its nonce, and only then do we close.
"""

from __future__ import annotations

DISCONNECTED = 1.5
"""Seconds without any connection after which a neighbour has ended, its BYE lost: a living one would have dialled."""


class Closing:
    """The BYEs of a peer that is closing; ``reason`` is None before."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._deadline = 0.0
        self._sent: dict[int, int] = {}
        self._acknowledged: set[int] = set()
        self._disconnected_since: dict[int, float] = {}

    def begin(self, reason: str, deadline: float) -> None:
        """Start closing; at ``deadline`` the peer closes, acknowledged or not."""
        self.reason, self._deadline = reason, deadline

    def expired(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return now >= self._deadline

    def sent(self, peer: int, nonce: int) -> None:
        """Note that our BYE to a neighbour has left."""
        self._sent[peer] = nonce

    def was_sent(self, peer: int) -> bool:
        """Whether our BYE has left over a connection that still exists."""
        return peer in self._sent

    def acknowledge(self, peer: int, nonce: int) -> None:
        """Note a PONG of a neighbour; it counts if it carries the nonce of our BYE."""
        if self._sent.get(peer) == nonce:
            self._acknowledged.add(peer)

    def acknowledged(self, peer: int) -> bool:
        """Whether a neighbour has read all that we sent."""
        return peer in self._acknowledged

    def connection_lost(self, peer: int) -> None:
        """Forget a BYE that was sent: the connection has ended, and it may be lost."""
        self._sent.pop(peer, None)
        self._acknowledged.discard(peer)

    def gone(self, peer: int, connected: bool, now: float) -> bool:
        """Whether a neighbour has had no connection for DISCONNECTED seconds. Call it again and again."""
        if connected:
            self._disconnected_since.pop(peer, None)
            return False
        return now - self._disconnected_since.setdefault(peer, now) >= DISCONNECTED
