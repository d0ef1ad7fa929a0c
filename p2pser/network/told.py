"""What the training thread is told of a neighbour's progress: the newest, and not more than it can read. Pure."""

from __future__ import annotations

from queue import SimpleQueue

from p2pser.network import events
from p2pser.wire.messages import Progress

PROGRESS_INTERVAL = 0.25
"""Steps within a phase are reported to the training thread at most this often [s]; its timeouts are seconds long."""
MOST_UNHEARD = 256
"""Reports that wait for the training thread: it may be in a long local step, and a neighbour may flood."""


class Told:
    """The progress of one neighbour, ``peer``, and what of it was told."""

    def __init__(self, peer: int) -> None:
        self.progress: Progress | None = None
        """The furthest of its present incarnation; None before any."""
        self.told = self.heard = 0
        """How often the training thread was told, and how often it has heard (which it counts itself)."""
        self._peer = peer
        self._reported: tuple[Progress, float] | None = None
        self._due = False

    def new(self, progress: Progress, now: float) -> bool:
        """Take the progress in a header; True where the training thread must know of it.

        Steps within a phase are reported at most every ``PROGRESS_INTERVAL`` seconds: each report wakes that thread.
        """
        if self.progress is not None and progress <= self.progress:
            return False
        self.progress = progress
        if self._reported is not None:
            reported, at = self._reported
            if progress[:3] == reported[:3] and now < at + PROGRESS_INTERVAL:
                return False
        self._reported, self._due = (progress, now), True
        return True

    def tell(self, queue: SimpleQueue[events.Event]) -> None:
        """Tell what is new, unless the training thread has much to read of that still: then later, as it is then."""
        if self._due and self.progress is not None and self.told - self.heard < MOST_UNHEARD:
            self._due, self.told = False, self.told + 1
            queue.put(events.Progressed(self._peer, self.progress))

    def forget(self) -> None:
        """Forget an incarnation."""
        self.progress = self._reported = None
        self._due = False
