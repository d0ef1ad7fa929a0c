"""What the I/O thread tells the training thread about messages that do not fit, bounded for each neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import SimpleQueue

from p2pser.network import events
from p2pser.network.rates import Quota, Reports


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

    def within_quota(self, peer: int, cost: int = 1, *, often: bool = False) -> bool:
        """Whether a neighbour's message may be answered, or handled where it is of a kind that comes ``often``; a flood
        of further ones is an offence. cost : as how many it counts.
        """
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
