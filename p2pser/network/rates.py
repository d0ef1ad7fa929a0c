"""Limits on how often something may happen, or be reported. Pure: the caller passes the time in."""

from __future__ import annotations

import math
from collections.abc import Hashable

INTERVAL = 60.0
"""Seconds in which the same trouble is reported once."""
DIFFERENT = 4
"""Different sentences of one kind that are reported at once; further ones follow one by one, every INTERVAL seconds."""


class Bucket:
    """A token bucket: lets ``burst`` events through at once, and ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = float(burst), -math.inf

    def take(self, now: float, cost: int = 1) -> bool:
        """Whether one more event may pass, which counts as ``cost``."""
        self._left = min(float(self.burst), self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True


class Sieve:
    """A bucket for each kind of event, and the number of events held back."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: dict[Hashable, Bucket] = {}
        self._held_back: dict[Hashable, int] = {}

    def take(self, kind: Hashable, now: float) -> int | None:
        """Return the number of events of this kind held back since the last that passed; None to hold back this one."""
        if not self._buckets.setdefault(kind, Bucket(self._rate, self._burst)).take(now):
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        return self._held_back.pop(kind, 0)


class Reports:
    """Which sentences to report: bounded for each kind, whatever other peers send.

    A kind holds the cause and its source, never the sentence, which another peer may choose.
    """

    def __init__(self, different: int = DIFFERENT, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._sieve = Sieve(1 / interval, different)
        self._reported: dict[Hashable, dict[str, float]] = {}

    def due(self, kind: Hashable, sentence: str, now: float) -> str | None:
        """Return the sentence to report, with the number of sentences held back; None: report nothing now."""
        reported = self._reported.setdefault(kind, {})
        if now < reported.get(sentence, -math.inf) + self._interval:
            return None
        if (hidden := self._sieve.take(kind, now)) is None:
            return None
        recent = {text: at for text, at in reported.items() if now < at + self._interval}
        self._reported[kind] = {**recent, sentence: now}
        return f"{sentence}{suppressed(hidden)}"


def suppressed(number: int) -> str:
    """Return the suffix that counts the sentences held back before this one."""
    return f" ({number} more suppressed)" if number else ""


class Quota:
    """Limits how many messages of a neighbour are answered; messages beyond the limit are dropped."""

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
        """Whether the last dropped message completed a flood: ``flood`` dropped messages make one."""
        return self.dropped > 0 and self.dropped % self._flood == 0
