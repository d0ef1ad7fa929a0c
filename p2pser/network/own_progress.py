"""How far this peer is, as its headers say, so that its neighbours can tell a slow peer from a stuck one. Pure."""

from __future__ import annotations

from collections.abc import Callable

from p2pser.gossip.mixer import Step
from p2pser.wire.messages import Phase, Progress

HOPS = 4096
"""``Progress.local_step`` is our progress within the phase times this, plus over how many peers it has come."""


class OwnProgress:
    """A peer's own progress.

    size : N; progress of others that has come over more peers is an echo, and counts no more.
    report : called with it.
    """

    def __init__(self, size: int, report: Callable[[Progress], None]) -> None:
        self.phase = Phase.START
        self.at = Step(-(2**31), 0)
        self._size, self._report = size, report
        self._beat = self._hops = 0

    def enter(self, phase: Phase, at: Step) -> None:
        """Enter a phase."""
        self.phase, self.at = phase, at
        self._beat = self._hops = 0
        self._tell()

    def reach(self, at: Step) -> None:
        """Get to a step."""
        self.at = at
        self._tell()

    def step(self) -> None:
        """Get on by a local step."""
        self._get_on(0)

    def neighbour(self, progress: Progress) -> None:
        """A neighbour has got on: while we wait, so have we; else our own neighbours would give us up, and theirs them.

        Only over so many peers as there are: else those that wait for each other would make progress for ever.
        """
        hops = progress.local_step % HOPS + 1
        if self.phase not in (Phase.START, Phase.TRAIN) and hops <= min(self._size, HOPS - 1):
            self._get_on(hops)

    def _get_on(self, hops: int) -> None:
        self._beat, self._hops = self._beat + 1, hops
        self._tell()

    def _tell(self) -> None:
        beat = min(self._beat * HOPS + self._hops, 2**32 - 1)
        self._report(Progress(self.at.round, self.at.slot, self.phase, beat))
