"""A clock that stops while this process does not run, so that its pauses do not count as silence of neighbours. Pure.
"""

from __future__ import annotations

PAUSE_AFTER = 1.0
"""Longest gap between two ticks that counts in full [s]."""


class AwakeClock:
    """Time without pauses.

    A gap of more than ``longest`` seconds between two ticks means that this process was stopped or got no processor
    time; it counts only as half of ``longest``.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._paused = 0.0
        self._last: float | None = None

    def time(self, now: float) -> float:
        """Return the time without pauses [s]."""
        return now - self._paused

    def at(self, awake: float) -> float:
        """Return the time of the ordinary clock at the time ``awake``, if there is no further pause [s]."""
        return awake + self._paused

    def tick(self, now: float) -> float:
        """Return how long this process did not run before ``now`` [s], else 0. Call it at the time ``due`` or before.
        """
        gap = 0.0 if self._last is None else now - self._last
        self._last = now
        if gap <= self.longest:
            return 0.0
        self._paused += gap - self.longest / 2
        return gap

    def due(self, now: float) -> float:
        """Return when to tick next, so that a pause is noticed [s]."""
        return (now if self._last is None else self._last) + self.longest / 2
