"""Reports of a neighbour's progress to the training thread: bounded in number, and always the newest. Pure."""

from __future__ import annotations

from queue import SimpleQueue

from p2pser.network import events
from p2pser.wire.messages import Progress

PROGRESS_INTERVAL = 0.25
"""Shortest time between two reports of local steps to the training thread [s]; its timeouts are seconds long."""
MOST_UNHEARD = 256
"""Largest number of unread reports: the training thread may be in a long local step, and a neighbour may flood."""


class Told:
    """The progress of one neighbour, ``peer``, and its reports to the training thread."""

    def __init__(self, peer: int) -> None:
        self.progress: Progress | None = None
        """The newest progress of its present incarnation; None before the first."""
        self.told = self.heard = 0
        """Number of reports sent, and of reports read (counted by the training thread)."""
        self._peer = peer
        self._reported: tuple[Progress, float] | None = None
        self._due = self._part = False

    def new(self, progress: Progress, now: float, part: bool = False) -> bool:
        """Take the progress in a header; return whether to report it to the training thread.

        Local steps, and parts of a message (``part``), are reported at most every ``PROGRESS_INTERVAL`` seconds: each
        report wakes that thread.
        """
        if self.progress is None or progress > self.progress:
            self.progress = progress
        elif not part:
            return False
        if self._reported is not None:
            reported, at = self._reported
            if self.progress[:3] == reported[:3] and now < at + PROGRESS_INTERVAL:
                return False
        self._reported, self._due, self._part = (self.progress, now), True, part or (self._due and self._part)
        return True

    def tell(self, queue: SimpleQueue[events.Event]) -> None:
        """Report new progress; where too many reports are unread, do so later, with the progress of that time."""
        if self._due and self.progress is not None and self.told - self.heard < MOST_UNHEARD:
            queue.put(events.Progressed(self._peer, self.progress, self._part))
            self._due, self._part, self.told = False, False, self.told + 1

    def forget(self) -> None:
        """Forget the progress of an earlier incarnation."""
        self.progress = self._reported = None
        self._due = self._part = False
