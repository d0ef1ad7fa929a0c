"""Which of the connections to a listener may stay. Pure: it knows file descriptors, not sockets.

ZeroMQ accepts without limit, and tells of a connection only its file descriptor. A connection is a guest until it has
carried a message of a neighbour; any client can be a guest, so their number is bounded. Where there are too many, one
of the address with most guests is cut, at random: an address that opens many connections loses its own, and a
neighbour that dials from elsewhere, or in between, gets in. A neighbour may also dial from the crowd's own address (a
shared NAT): of an address, the half of the guests that are furthest in their handshakes is spared.
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
"""Connections of one neighbour: a broken one may live on here until its heartbeat fails."""
AHEAD = 16 << 20
"""Bytes that a connection may have received beyond the messages that have been read from it [B]: twice the largest
window of a sender. ZeroMQ hands over a message when all its parts have come, and does not bound their number."""
GREETING = 64
"""Bytes of ZMTP's greeting: a guest from which fewer have come has not begun its handshake."""


class Admission:
    """The connections of one listener.

    Parameters
    ----------
    guests : how many guests may stay.
    seed : of the choice whom to cut.
    received : returns how many bytes have come over a connection.
    """

    def __init__(self, guests: int = GUESTS, seed: int | None = None,
                 received: Callable[[int], int] = lambda connection: 0) -> None:
        self.limit = guests
        self.turned_away = 0
        """Guests that were cut so far."""
        self._random = random.Random(seed)
        self._received = received
        self._guests: dict[str, list[int]] = {}
        """Guests by address, the oldest first."""
        self._address: dict[int, str] = {}
        """The address of each guest."""
        self._peer: dict[int, int] = {}
        """The neighbour that speaks over each other connection."""
        self._of: dict[int, list[int]] = {}
        """The connections of each neighbour, the oldest first."""

    @property
    def guests(self) -> int:
        """How many guests there are."""
        return len(self._address)

    def peer(self, connection: int) -> int | None:
        """Return the neighbour that speaks over a connection; None for a guest."""
        return self._peer.get(connection)

    def guests_of(self, address: str) -> list[int]:
        """Return the guests of an address, the oldest first."""
        return list(self._guests.get(address, ()))

    def crowd(self) -> str:
        """Return the address with most guests."""
        return max(self._guests, key=lambda address: len(self._guests[address]), default="")

    def accepted(self, connection: int, address: str) -> None:
        """Note a new connection; ``surplus`` then returns those to cut."""
        if connection in self._peer:
            return  # its first message was read before this news
        self.ended(connection)
        self._address[connection] = address
        self._guests.setdefault(address, []).append(connection)

    def surplus(self) -> list[int]:
        """Return the guests to cut, which count no more."""
        cut: list[int] = []
        if self.guests <= self.limit:
            return cut
        received = {guest: self._received(guest) for guest in self._address}
        while self.guests > self.limit:
            guests = self._guests[self.crowd()]
            greeted = sorted((one for one in guests if received[one] >= GREETING), key=lambda one: -received[one])
            spared = set(greeted[: len(guests) // 2])
            cut.append(self._random.choice([one for one in guests if one not in spared]))
            self.ended(cut[-1])
        self.turned_away += len(cut)
        return cut

    def spoke(self, connection: int, peer: int) -> list[int]:
        """Note that a message of a neighbour has come over a connection; return those to cut."""
        if self._peer.get(connection) == peer:
            return []
        self.ended(connection)
        self._peer[connection] = peer
        theirs = self._of.setdefault(peer, [])
        theirs.append(connection)
        cut = theirs[:-EACH]
        for one in cut:
            self.ended(one)
        return cut

    def ended(self, connection: int) -> None:
        """Forget a connection."""
        address, peer = self._address.pop(connection, None), self._peer.pop(connection, None)
        if address is not None:
            _remove(self._guests, address, connection)
        if peer is not None:
            _remove(self._of, peer, connection)

    def of(self, peer: int) -> list[int]:
        """Return the connections over which a neighbour speaks."""
        return list(self._of.get(peer, ()))


class Intake:
    """How many bytes of each connection have been read as messages."""

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
        """Return all that are counted."""
        return list(self._read)

    def too_far(self, connection: int, received: int) -> bool:
        """Whether a connection has received so much more than was read that it sends what no neighbour sends."""
        return received - self._read[connection] > AHEAD


Key = TypeVar("Key", str, int)


def _remove(lists: dict[Key, list[int]], key: Key, item: int) -> None:
    lists[key].remove(item)
    if not lists[key]:
        del lists[key]
