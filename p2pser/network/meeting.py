"""The start of a run: for which neighbours a peer waits, and until when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.errors import RefusedError
from p2pser.network.roster import Roster

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
    """How long to wait for neighbours; ``wait`` says, after each event, whether to wait further.

    Parameters
    ----------
    roster : the neighbours.
    now : the time [s].
    start_timeout : seconds after which the run begins without the missing neighbours; None: wait without limit.
    refused_wait : seconds for which a refused neighbour is given time to come back corrected; None: as for one that is
        absent.
    """

    def __init__(self, roster: Roster, now: float, start_timeout: float | None, refused_wait: float | None) -> None:
        self._roster, self._refused_wait = roster, refused_wait
        self._limit = None if start_timeout is None else now + start_timeout
        self._running_since: float | None = None

    def wait(self, now: float) -> Wait | None:
        """Return whom to wait for, or None where the waiting is over.

        Raises RefusedError where no neighbour fits.
        """
        missing, refused = self._roster.missing(), self._roster.refusing()
        if not missing:
            return None
        limit = self._limit
        if self._roster.training():
            self._running_since = now if self._running_since is None else self._running_since
            limit = self._running_since + RUNNING_WAIT
        awaited = [j for j in missing if j not in refused]
        until = self._refused_until(refused, awaited, now)
        if (limit is not None and now >= limit) or (until is not None and now >= until):
            return None
        ends = [end for end in (limit, until) if end is not None]
        return Wait(_sentence(awaited, refused), min(ends, default=None))

    def _refused_until(self, refused: tuple[int, ...], awaited: list[int], now: float) -> float | None:
        """Until when to wait for the refused neighbours, where there are no others to wait for."""
        last = max((self._roster.since(j) for j in refused), default=now)
        if len(refused) == len(self._roster.neighbours):
            if now >= last + REFUSED_LINGER:
                raise RefusedError("; ".join(dict.fromkeys(map(self._roster.reason, refused))))
            return last + REFUSED_LINGER
        return None if awaited or self._refused_wait is None else last + self._refused_wait


def _sentence(awaited: list[int], refused: tuple[int, ...]) -> str:
    parts = [f"waiting for {_peers(awaited)}" if awaited else "",
             f"waiting for {_peers(list(refused))} to come back corrected" if refused else ""]
    return ", ".join(part for part in parts if part)


def _peers(ids: list[int]) -> str:
    return f"peer{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
