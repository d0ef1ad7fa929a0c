"""Reports of refusals, troubles and floods to the training thread, bounded for each neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import SimpleQueue

from p2pser.network import events
from p2pser.network.rates import Quota, Reports
from p2pser.wire.messages import Kind

ANSWERED = frozenset({Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.PING, Kind.BYE})
"""Messages that cost an answer or an event each: a neighbour has a quota of them."""
READ = 1024
"""Bytes of a body that count as one more message: reading them takes about a millisecond."""
CHEAP = 1024
"""A smaller payload [B] costs its sender next to nothing."""


class Complaints:
    """Reports refusals and troubles, and limits the messages of each neighbour that are answered.

    Parameters
    ----------
    peers : the neighbours.
    queue : takes the events for the training thread.
    clock : returns the time [s].
    strike : (peer, reason): counts an invalid message.
    """

    def __init__(self, peers: Iterable[int], queue: SimpleQueue[events.Event], clock: Callable[[], float],
                 strike: Callable[[int, str], None]) -> None:
        self._queue, self._clock, self._strike = queue, clock, strike
        self._reports = Reports()
        self._quotas = {peer: (Quota(), Quota(rate=4000.0, burst=8000)) for peer in peers}

    def lets_pass(self, peer: int, kind: Kind, size: int) -> bool:
        """Whether a neighbour's message with a payload of ``size`` bytes may be handled; a flood of further ones is a
        strike.
        """
        if kind in ANSWERED:
            return self._within(peer, 1 if kind is Kind.PING else 1 + size // READ)
        often = kind is Kind.PONG or (kind is Kind.ROW and size < CHEAP)
        return not often or self._within(peer, often=True)

    def says_nothing_new(self, peer: int) -> None:
        """Note that a neighbour's message has cost time and holds nothing new; a flood of such messages is a strike."""
        self._within(peer)

    def _within(self, peer: int, cost: int = 1, *, often: bool = False) -> bool:
        quota = self._quotas[peer][often]
        if quota.take(self._clock(), cost):
            return True
        if quota.flooded:
            self._strike(peer, "a flood of messages: most are left unanswered")
        return False

    def refused(self, peer: int, reason: str, *, by_us: bool, older: bool, key: bool = False) -> None:
        """Report that one end refuses the other; a refused peer tries again every second."""
        if (sentence := self._reports.due((peer, by_us), reason, self._clock())) is not None:
            self._queue.put(events.Refused(peer, sentence, by_us, older, key))

    def trouble(self, peer: int | None, reason: str, kind: str) -> None:
        """Report trouble to the operator; the sentences of one kind and neighbour share one limit."""
        if (sentence := self._reports.due((peer, kind), reason, self._clock())) is not None:
            self._queue.put(events.Trouble(peer, sentence))
