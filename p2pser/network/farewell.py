"""Leaving the run: BYE is sent last, and a peer closes once its neighbours have read it. Used by the I/O thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from p2pser.network.connections import Connections
from p2pser.network.control import Control
from p2pser.network.neighbour import Neighbour
from p2pser.network.states import State

DISCONNECTED = 1.5
"""Seconds without any connection after which a neighbour counts as ended, its BYE lost: a running one would dial."""


class Farewell:
    """Sends BYE to all neighbours.

    neighbours, control, connections : its receivers, and what sends it. clock : returns the time [s]. role : our role
    in HELLO.
    """

    def __init__(self, neighbours: Collection[Neighbour], control: Control, connections: Connections,
                 clock: Callable[[], float], role: str) -> None:
        self._neighbours, self._control, self._connections = neighbours, control, connections
        self._clock, self._takes_part = clock, role == "peer"
        self._reason: str | None = None
        self._deadline = 0.0
        self._unconnected: dict[int, float] = {}
        """Since when neighbours have no connection [s]."""

    def begin(self, reason: str, deadline: float) -> None:
        """Begin to close; at ``deadline`` the peer closes, whether or not its BYE was read."""
        self._reason, self._deadline = reason, deadline

    def may_close(self) -> bool:
        """Whether every neighbour has read all that we sent, or the deadline is over. Sends the BYEs."""
        if self._reason is None:
            return False
        busy = [link for link in self._neighbours if link.up and not self._completed(link, self._reason)]
        return not busy or self._clock() >= self._deadline

    def last(self) -> None:
        """Send BYE to the neighbours that were not sent it yet."""
        for link in self._neighbours:
            if self._takes_part and (link.up or link.state is State.LOST) and not link.was_sent_bye:
                self._control.say_bye(link, self._reason or "")

    def _completed(self, link: Neighbour, reason: str) -> bool:
        """Whether a neighbour has read all that we sent, or has ended. Sends BYE once no rows wait."""
        if self._has_ended(link.peer):
            return True
        if not link.stream.idle or not self._takes_part:
            return link.stream.idle
        if not link.was_sent_bye:
            self._control.say_bye(link, reason)
        return link.has_read_bye

    def _has_ended(self, peer: int) -> bool:
        """Whether a neighbour has had no connection for DISCONNECTED seconds."""
        if self._connections.connected(peer):
            self._unconnected.pop(peer, None)
            return False
        now = self._clock()
        return now - self._unconnected.setdefault(peer, now) >= DISCONNECTED
