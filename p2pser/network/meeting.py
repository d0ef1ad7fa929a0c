"""The start of a run: which neighbours have come, which were refused, and how long to wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pser.base.errors import RefusedError
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

RUNNING_WAIT = 3.0
"""Seconds for which a peer that finds the run going on waits for its other neighbours; they may come later too."""
REFUSED_LINGER = 3.0
"""Seconds for which a peer that all neighbours refuse stays, so that they see the refusal and its reason too."""


@dataclass(frozen=True)
class Wait:
    """A reason to go on waiting, until a time at most [s] (None: without limit)."""

    sentence: str
    until: float | None


class Meeting:
    """The neighbours' HELLOs and refusals.

    ``begin`` starts a phase of waiting; ``wait`` then says, after each event, whether to wait further.
    """

    def __init__(self, neighbours: Iterable[int]) -> None:
        self.neighbours = tuple(neighbours)
        self.hellos: dict[int, Hello] = {}
        self._progress: dict[int, Progress] = {}
        self._refusals: dict[int, tuple[str, float]] = {}
        self._refused_wait = 0.0
        self._limit: float | None = None
        self._running_since: float | None = None

    def begin(self, now: float, start_timeout: float | None, refused_wait: float) -> None:
        """Start to wait.

        Parameters
        ----------
        now:
            The time [s].
        start_timeout:
            Seconds after which the run begins without the missing neighbours; None: wait without limit.
        refused_wait:
            Seconds for which a refused neighbour is given time to come back with other settings.
        """
        self._limit = None if start_timeout is None else now + start_timeout
        self._refused_wait = refused_wait
        self._running_since = None

    def came(self, peer: int, hello: Hello, progress: Progress) -> None:
        """Note a HELLO that fits, and how far the neighbour was."""
        self.hellos[peer], self._progress[peer] = hello, progress
        self._refusals.pop(peer, None)

    def refused(self, peer: int, reason: str, now: float) -> None:
        """Note a refusal. The first one sets the time: a refused neighbour dials again and again."""
        at = self._refusals[peer][1] if peer in self._refusals else now
        self._refusals[peer] = reason, at
        self.hellos.pop(peer, None)

    def gone(self, peer: int) -> None:
        """Note that a neighbour has left before the run began: it may come back."""
        self.hellos.pop(peer, None)

    def missing(self) -> tuple[int, ...]:
        """Return the neighbours without a HELLO that fits."""
        return tuple(j for j in self.neighbours if j not in self.hellos)

    def training(self) -> tuple[int, ...]:
        """Return the neighbours that train, as far as we know: the run goes on, and a peer may join it."""
        return tuple(j for j in sorted(self.hellos) if self._progress[j].phase in (Phase.TRAIN, Phase.EXCHANGE))

    def progressed(self, peer: int, progress: Progress) -> None:
        """Note how far a neighbour is now."""
        self._progress[peer] = progress

    def why_missing(self, peer: int) -> str:
        """Return why a missing neighbour takes no part."""
        return self._refusals[peer][0] if peer in self._refusals else f"peer {peer} did not come in time"

    def wait(self, now: float) -> Wait | None:
        """Return whom to wait for, or None where the waiting is over.

        Raises RefusedError where no neighbour fits.
        """
        missing = self.missing()
        if not missing:
            return None
        limit = self._limit
        if self.training():
            self._running_since = now if self._running_since is None else self._running_since
            limit = self._running_since + RUNNING_WAIT
        awaited = [j for j in missing if j not in self._refusals]
        until = self._refusals_until(awaited, now)
        if (limit is not None and now >= limit) or (until is not None and now >= until):
            return None
        ends = [end for end in (limit, until) if end is not None]
        return Wait(_sentence(awaited, [j for j in missing if j in self._refusals]), min(ends, default=None))

    def _refusals_until(self, awaited: list[int], now: float) -> float | None:
        """Until when to wait for the refused neighbours, where there are no others to wait for."""
        last = max((at for _, at in self._refusals.values()), default=now)
        if len(self._refusals) == len(self.neighbours):
            if now >= last + REFUSED_LINGER:
                raise RefusedError("; ".join(dict.fromkeys(reason for reason, _ in self._refusals.values())))
            return last + REFUSED_LINGER
        return None if awaited else last + self._refused_wait


def _sentence(awaited: list[int], refused: list[int]) -> str:
    parts = [f"waiting for {_peers(awaited)}" if awaited else "",
             f"waiting for {_peers(refused)} to come back corrected" if refused else ""]
    return ", ".join(part for part in parts if part)


def _peers(ids: list[int]) -> str:
    return f"peer{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
