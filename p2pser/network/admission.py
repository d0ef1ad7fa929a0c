"""Which of a listener's connections may stay. Pure: connections are file descriptors, not sockets.

ZeroMQ accepts without limit, and identifies a connection only by its file descriptor. A connection is a guest until it
has carried a message of a neighbour; any client can be a guest, so their number is bounded. When there are too many, a
random guest of the address with most guests is cut: so an address that opens many connections loses its own, and a
neighbour that dials from another address is admitted. A neighbour may share the address of such a crowd (behind a NAT):
so of each address the half of the guests with most progress in their handshakes is not cut.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from p2pser.network.stream import FRAME_OVERHEAD

GUESTS = 64
"""Guests at a listener, unless it has more neighbours than half of that."""
EACH = 4
"""Connections of one neighbour: this end may keep a broken one until its heartbeat fails."""
AHEAD = 16 << 20
"""Bytes that a connection may have received beyond the messages read from it: twice a sender's largest window. ZeroMQ
delivers a message when all of its parts have arrived, and does not bound their number."""
GREETING = 64
"""Bytes of ZMTP's greeting: a guest that has sent fewer has not begun its handshake."""


class Admission:
    """The connections of one listener.

    Parameters
    ----------
    guests : the largest number of guests.
    seed : seed of the choice of the guests to cut.
    received : returns how many bytes a connection has received.
    """

    def __init__(self, guests: int = GUESTS, seed: int | None = None,
                 received: Callable[[int], int] = lambda connection: 0) -> None:
        self.limit = guests
        self.turned_away = 0
        """Number of guests cut so far."""
        self._random = random.Random(seed)
        self._received = received
        self._guests: dict[str, list[int]] = {}
        """Guests by address, the oldest first."""
        self._address: dict[int, str] = {}
        """The address of each guest."""
        self._peer: dict[int, int] = {}
        """The neighbour at the other end of each other connection."""
        self._of: dict[int, list[int]] = {}
        """The connections of each neighbour, the oldest first."""

    @property
    def guests(self) -> int:
        """The number of guests."""
        return len(self._address)

    def peer(self, connection: int) -> int | None:
        """Return the neighbour at the other end of a connection; None for a guest."""
        return self._peer.get(connection)

    def guests_of(self, address: str) -> list[int]:
        """Return the guests of an address, the oldest first."""
        return list(self._guests.get(address, ()))

    def crowd(self) -> str:
        """Return the address with most guests."""
        return max(self._guests, key=lambda address: len(self._guests[address]), default="")

    def accepted(self, connection: int, address: str) -> None:
        """Note a new connection."""
        if connection in self._peer:
            return  # its first message was read before the monitor reported it
        self.ended(connection)
        self._address[connection] = address
        self._guests.setdefault(address, []).append(connection)

    def surplus(self) -> list[int]:
        """Remove the guests beyond the limit, and return them, to be cut."""
        cut: list[int] = []
        if self.guests <= self.limit:
            return cut
        received = {guest: self._received(guest) for guest in self._address}
        while self.guests > self.limit:
            guests = self._guests[self.crowd()]
            greeted = [guest for guest in guests if received[guest] >= GREETING]
            spared = set(sorted(greeted, key=lambda guest: -received[guest])[: len(guests) // 2])
            cut.append(self._random.choice([guest for guest in guests if guest not in spared]))
            self.ended(cut[-1])
        self.turned_away += len(cut)
        return cut

    def spoke(self, connection: int, peer: int) -> list[int]:
        """Note that a connection has carried a message of a neighbour; return the neighbour's connections to cut."""
        if self._peer.get(connection) == peer:
            return []
        self.ended(connection)
        self._peer[connection] = peer
        theirs = self._of.setdefault(peer, [])
        theirs.append(connection)
        cut = theirs[:-EACH]
        for old in cut:
            self.ended(old)
        return cut

    def ended(self, connection: int) -> None:
        """Forget a connection."""
        address, peer = self._address.pop(connection, None), self._peer.pop(connection, None)
        if address is not None:
            _remove(self._guests, address, connection)
        if peer is not None:
            _remove(self._of, peer, connection)

    def of(self, peer: int) -> list[int]:
        """Return the connections of a neighbour, the oldest first."""
        return list(self._of.get(peer, ()))


class Intake:
    """Counts the bytes of each connection that were read as messages."""

    def __init__(self) -> None:
        self._read: Counter[int] = Counter()

    def begins(self, connection: int) -> None:
        """Count a new connection from 0."""
        self._read[connection] = 0

    def ended(self, connection: int) -> None:
        """Forget a connection."""
        self._read.pop(connection, None)

    def read(self, connection: int, size: int) -> None:
        """Count a message."""
        self._read[connection] += size + FRAME_OVERHEAD

    def connections(self) -> list[int]:
        """Return all connections that are counted."""
        return list(self._read)

    def too_far(self, connection: int, received: int) -> bool:
        """Whether a connection has received more unread bytes than any neighbour sends."""
        return received - self._read[connection] > AHEAD


Key = TypeVar("Key", str, int)


def _remove(lists: dict[Key, list[int]], key: Key, item: int) -> None:
    lists[key].remove(item)
    if not lists[key]:
        del lists[key]
