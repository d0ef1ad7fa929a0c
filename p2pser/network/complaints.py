"""What the I/O thread tells the training thread about messages that do not fit, bounded for each neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import SimpleQueue

from p2pser.network import events
from p2pser.network.rates import Quota, Reports
from p2pser.wire.messages import Kind

ANSWERED = frozenset({Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.PING, Kind.BYE})
"""Messages that cost an answer or an event each: a neighbour has a quota of them."""
READ = 1024
"""So many bytes of a body count as a message: it takes about a millisecond to read them."""
CHEAP = 1024
"""A smaller payload [B] costs its sender next to nothing."""


class Complaints:
    """Refusals, troubles and offences, and who sends too much.

    Parameters
    ----------
    peers : the neighbours.
    queue : takes the events for the training thread.
    clock : returns the time [s].
    strike : (peer, reason): counts an offence.
    """

    def __init__(self, peers: Iterable[int], queue: SimpleQueue[events.Event], clock: Callable[[], float],
                 strike: Callable[[int, str], None]) -> None:
        self._queue, self._clock, self._strike = queue, clock, strike
        self._reports = Reports()
        self._quotas = {peer: (Quota(), Quota(rate=4000.0, burst=8000)) for peer in peers}

    def lets_pass(self, peer: int, kind: Kind, size: int) -> bool:
        """Whether a neighbour's message with a payload of ``size`` bytes may be handled; a flood of further ones is an
        offence.
        """
        if kind in ANSWERED:
            return self._within(peer, 1 if kind is Kind.PING else 1 + size // READ)
        often = kind is Kind.PONG or (kind is Kind.ROW and size < CHEAP)
        return not often or self._within(peer, often=True)

    def says_nothing_new(self, peer: int) -> None:
        """A message of a neighbour has cost time, and says nothing; a flood of such is an offence."""
        self._within(peer)

    def _within(self, peer: int, cost: int = 1, *, often: bool = False) -> bool:
        quota = self._quotas[peer][often]
        if quota.take(self._clock(), cost):
            return True
        if quota.flooded:
            self._strike(peer, "a flood of messages: most are left unanswered")
        return False

    def refused(self, peer: int, reason: str, *, by_us: bool, older: bool, key: bool = False) -> None:
        """Tell that one end refuses the other; a refused peer tries again every second."""
        if (told := self._reports.due((peer, by_us), reason, self._clock())) is not None:
            self._queue.put(events.Refused(peer, told, by_us, older, key))

    def trouble(self, peer: int | None, reason: str, kind: str) -> None:
        """Tell an operator; the sentences of one kind and neighbour are limited together."""
        if (told := self._reports.due((peer, kind), reason, self._clock())) is not None:
            self._queue.put(events.Trouble(peer, told))
