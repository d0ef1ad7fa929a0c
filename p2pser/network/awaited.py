"""For how long one peer waits for the messages of its neighbours: their progress, and when each is given up. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from p2pser.gossip.mixer import Step
from p2pser.wire.messages import Phase, Progress

LONGEST = 10
"""Longest wait for a neighbour that makes progress, in units of ``round_timeout``: it may never send its message."""
BEYOND = 2
"""A source so many rounds ahead does not wait for us, and is not waited for."""


class Awaited:
    """The progress of one peer's neighbours, and the times at which it gives them up.

    Parameters
    ----------
    round_timeout : seconds without progress after which a neighbour is given up.
    start_timeout : seconds for which a neighbour may wait for others before the first round; None: without limit.
    on_its_way : seconds for which a message that its sender has gone past is waited for while no part of it arrives; at
        most, and by default, ``round_timeout``.
    """

    def __init__(self, round_timeout: float, start_timeout: float | None = None,
                 on_its_way: float = math.inf) -> None:
        self.round_timeout, self.start_timeout = round_timeout, start_timeout
        self.step: Step | None = None
        """The step that we wait for, or shall wait for next."""
        self._on_its_way = min(on_its_way, round_timeout)
        self._since: tuple[Step | None, float] = (None, 0.0)
        """The step that we wait for now, and since when [s]."""
        self._progress: dict[int, tuple[Progress, float]] = {}
        """The progress of each neighbour, and when it last made progress or sent a part of a message [s]."""
        self._given_up: set[int] = set()
        """The neighbours given up: they are waited for again once a message of theirs has arrived."""

    # Inputs ---------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Wait for the step from now on, where we do not wait for it yet."""
        if self._since[0] != self.step:
            self._since = self.step, now

    def end(self, given_up: Iterable[int]) -> None:
        """Wait no more; ``given_up`` are not waited for in the next step either."""
        self._given_up.update(given_up)
        self._since = None, 0.0

    def progress(self, j: int, progress: Progress, now: float, part: bool = False) -> bool:
        """Note a neighbour's progress, or that a part of its message has arrived; True where either is new.

        What a neighbour that is past the step we wait for does next does not prolong the wait.
        """
        known, since = self._progress.get(j, (progress, now))
        # A chunk carries the progress at the time when its row was posted, which may be older than the known one.
        new = part or j not in self._progress or progress > known
        if new:
            self._progress[j] = max(progress, known), since if self._past(known) and not part else now
        return new

    def message(self, j: int, now: float) -> None:
        """Note that a whole message of a neighbour has arrived."""
        self._given_up.discard(j)
        if j in self._progress:
            self._progress[j] = self._progress[j][0], now

    def restarted(self, j: int) -> None:
        """Forget a neighbour that was restarted."""
        self._given_up.discard(j)
        self._progress.pop(j, None)

    def resume(self, now: float) -> None:
        """Restart all timeouts: this process did not run, so it could not receive any progress."""
        self._since = self._since[0], now
        self._progress = {j: (progress, now) for j, (progress, _) in self._progress.items()}

    # Outputs --------------------------------------------------------------------------------------------------

    def lasts(self, now: float) -> float | None:
        """Return for how long we have waited [s]; None where we do not wait."""
        step, since = self._since
        return now - since if step is not None and step == self.step else None

    def may_be_given_up(self, j: int) -> bool:
        """Whether a neighbour can be given up: before the set-up it may wait for an operator to start another peer."""
        return j in self._progress and (self._progress[j][0].phase > Phase.START or _of_training(self.step))

    def stopped(self, j: int, now: float) -> bool:
        """Whether a neighbour is given up, or would be."""
        # The same sums as in ``deadline``, to the last bit: at that time the wait must end.
        if self.lasts(now) is not None and now >= self._since[1] + self._longest:
            return True
        return self.may_be_given_up(j) and (j in self._given_up or now >= self._given_up_at(j))

    def deadline(self, waiting: Iterable[int]) -> float | None:
        """Return when the next of them will be given up unless it makes progress [s]; None if none can be."""
        due = min((min(self._since[1] + self._longest, self._given_up_at(j)) for j in waiting), default=math.inf)
        return due if due < math.inf else None

    def has_passed(self, j: int, step: Step) -> bool:
        """Whether a neighbour has said that it is past a step."""
        return j in self._progress and self._progress[j][0][:2] > step

    def is_beyond(self, j: int) -> bool:
        """Whether a source has gone on without us: if it waits for our messages, it is at most one exchange ahead."""
        step = self.step
        return step is not None and step.round >= 0 and j in self._progress and \
            self._progress[j][0].round >= step.round + BEYOND

    # Inside ---------------------------------------------------------------------------------------------------

    def _past(self, progress: Progress) -> bool:
        """Whether one with this progress is past the step of training that we wait for: it has sent its message."""
        at = self._since[0]
        return at is not None and at == self.step and _of_training(at) and progress[:2] > at

    def _given_up_at(self, j: int) -> float:
        if not self.may_be_given_up(j):
            return math.inf
        progress, since = self._progress[j]
        return since + (self._on_its_way if self._past(progress) else self.round_timeout)

    @property
    def _longest(self) -> float:
        """For how long a neighbour is waited for, whatever it reports [s]."""
        # Before training it may wait for an operator, or for a peer that does.
        operator = 0.0 if _of_training(self.step) else self.start_timeout
        return math.inf if operator is None else operator + LONGEST * self.round_timeout


def _of_training(step: Step | None) -> bool:
    """Whether a step is one of training, or of the end."""
    return step is not None and step.round >= 0
