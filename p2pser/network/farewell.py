"""Leaving the run: BYE goes last, and a peer closes when its neighbours have read it. Used by the I/O thread only."""

from __future__ import annotations

from collections.abc import Callable, Collection

from p2pser.network.connections import Connections
from p2pser.network.control import Control
from p2pser.network.neighbour import Neighbour
from p2pser.network.states import State


class Farewell:
    """Says BYE to all neighbours.

    neighbours, control, connections : whom, and by what. clock : returns the time [s]. role : ours, as in HELLO.
    """

    def __init__(self, neighbours: Collection[Neighbour], control: Control, connections: Connections,
                 clock: Callable[[], float], role: str) -> None:
        self._neighbours, self._control, self._connections = neighbours, control, connections
        self._clock, self._takes_part = clock, role == "peer"
        self._word: str | None = None
        self._deadline = 0.0

    def begin(self, word: str, deadline: float) -> None:
        """Begin to close; at ``deadline`` the peer closes, whether its BYE was read or not."""
        self._word, self._deadline = word, deadline

    def may_close(self) -> bool:
        """Whether every neighbour has read all that we sent, or the time for that is over. Sends the BYEs."""
        if self._word is None:
            return False
        busy = [one for one in self._neighbours if one.up and not self._said(one, self._word)]
        return not busy or self._clock() >= self._deadline

    def last(self) -> None:
        """Send BYE to the neighbours that have not been sent one."""
        for one in self._neighbours:
            if self._takes_part and (one.up or one.state is State.LOST) and not one.was_sent_bye:
                self._control.say_bye(one, self._word or "")

    def _said(self, one: Neighbour, word: str) -> bool:
        """Whether a neighbour has read all that we sent, or has ended. Sends BYE once nothing else waits."""
        if one.unconnected(self._connections.connected(one.peer), self._clock()):
            return True
        if not one.stream.idle or not self._takes_part:
            return one.stream.idle
        if not one.was_sent_bye:
            self._control.say_bye(one, word)
        return one.has_read_bye
