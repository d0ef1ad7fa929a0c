"""This peer's progress, which its headers carry, so that neighbours can tell a slow peer from a stuck one. Pure."""

from __future__ import annotations

from collections.abc import Callable

from p2pser.gossip.mixer import Step
from p2pser.wire.messages import Phase, Progress

HOPS = 4096
"""``Progress.local_step`` is a counter within the phase times this, plus the number of peers that relayed the progress.
"""


class OwnProgress:
    """A peer's own progress.

    size : N; progress that was relayed by more peers is an echo, and does not count.
    report : called with each new progress.
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
        self._publish()

    def reach(self, at: Step) -> None:
        """Reach a step."""
        self.at = at
        self._publish()

    def step(self) -> None:
        """Finish a local step."""
        self._advance(0)

    def neighbour(self, progress: Progress) -> None:
        """Relay the progress of a neighbour while we wait: else our own neighbours would give us up in turn.

        It is relayed by at most N peers: else peers that wait for each other would make progress forever.
        """
        hops = progress.local_step % HOPS + 1
        if self.phase not in (Phase.START, Phase.TRAIN) and hops <= min(self._size, HOPS - 1):
            self._advance(hops)

    def _advance(self, hops: int) -> None:
        self._beat, self._hops = self._beat + 1, hops
        self._publish()

    def _publish(self) -> None:
        beat = min(self._beat * HOPS + self._hops, 2**32 - 1)
        self._report(Progress(self.at.round, self.at.slot, self.phase, beat))
