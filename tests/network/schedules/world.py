"""The fake time: what happens when, in an order that the seed alone decides."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

START = 1000.0
"""The time at which a schedule begins [s]."""


class World:
    """A clock and what is due on it; the greenlet that makes it is the one that ``run`` works in.

    Parameters
    ----------
    seed : all draws follow from it.
    """

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.main = getcurrent()
        self.trace: list[tuple[Any, ...]] = []
        """(time, who, what, ...) of everything that happened."""
        self.handled = 0
        """How many events have been handled."""
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Let something happen ``seconds`` from now."""
        self._count += 1
        heapq.heappush(self._due, (self.now + max(0.0, seconds), self._count, do))

    def note(self, who: object, what: str, *more: Any) -> None:
        """Add a line to the trace."""
        self.trace.append((self.now, who, what, *more))

    def step(self) -> bool:
        """Let the next thing happen; False where nothing is due any more."""
        if not self._due:
            return False
        self.now, _, do = heapq.heappop(self._due)
        self.handled += 1
        do()
        return True
