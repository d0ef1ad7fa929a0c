"""Limits on how often something may happen, or be reported. Pure: the caller passes the time in."""

from __future__ import annotations

import math
from collections.abc import Hashable

INTERVAL = 60.0
"""Seconds in which the same trouble is reported once."""
DIFFERENT = 4
"""Different sentences of one kind that are reported at once; further ones take turns, one in INTERVAL seconds."""


class Bucket:
    """Lets ``burst`` through at once, and ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = float(burst), -math.inf

    def take(self, now: float, cost: int = 1) -> bool:
        """Whether one more may pass, which counts as ``cost``."""
        self._left = min(float(self.burst), self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True


class Sieve:
    """A bucket for each kind of thing, and how many of it were held back."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: dict[Hashable, Bucket] = {}
        self._held_back: dict[Hashable, int] = {}

    def take(self, kind: Hashable, now: float) -> int | None:
        """Return how many of this kind were held back since the last that passed; None: this one is held back too."""
        if not self._buckets.setdefault(kind, Bucket(self._rate, self._burst)).take(now):
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        return self._held_back.pop(kind, 0)


class Reports:
    """Which sentences to tell: bounded for each kind, whatever others send.

    A kind is what must be bounded: who caused it and what it is, never the sentence, which others may choose.
    """

    def __init__(self, different: int = DIFFERENT, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._sieve = Sieve(1 / interval, different)
        self._told: dict[Hashable, dict[str, float]] = {}

    def due(self, kind: Hashable, sentence: str, now: float) -> str | None:
        """Return the sentence to report, with the number of those that were left out; None: report nothing now."""
        told = self._told.setdefault(kind, {})
        if now < told.get(sentence, -math.inf) + self._interval:
            return None
        if (hidden := self._sieve.take(kind, now)) is None:
            return None
        self._told[kind] = {**{text: at for text, at in told.items() if now < at + self._interval}, sentence: now}
        return f"{sentence}{suppressed(hidden)}"


def suppressed(number: int) -> str:
    """Return the words about the sentences before it that were left out."""
    return f" ({number} more suppressed)" if number else ""


class Quota:
    """How many messages of a neighbour are answered: those beyond it are dropped, and counted as a flood."""

    def __init__(self, rate: float = 32.0, burst: int = 128, flood: int = 1000) -> None:
        self._bucket, self._flood = Bucket(rate, burst), flood
        self.dropped = 0
        """Messages beyond the quota so far."""

    def take(self, now: float, cost: int = 1) -> bool:
        """Whether the next one may be answered, which counts as ``cost``."""
        if self._bucket.take(now, cost):
            return True
        self.dropped += 1
        return False

    @property
    def flooded(self) -> bool:
        """Whether that was one flood more: every so many dropped messages are one."""
        return self.dropped > 0 and self.dropped % self._flood == 0
