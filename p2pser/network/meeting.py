"""The start of a run: for which neighbours a peer waits, and until when. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from p2pser.base.errors import RefusedError
from p2pser.network.roster import Roster

RUNNING_WAIT = 3.0
"""Seconds for which a peer that finds the run going on waits for its other neighbours; they may come later too."""
CHANGE_WAIT = 60.0
"""Seconds for which the peers of the run are waited for after a change of the topology."""
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
    expected : after a change of the topology, the peers that were in the run before: the others are not waited for
        where there is one to go on with, nor are these for longer than CHANGE_WAIT; None: at a start.
    patient : neighbours that refuse us may have an older topology file: wait for it.
    """

    def __init__(self, roster: Roster, now: float, start_timeout: float | None, refused_wait: float | None,
                 expected: Collection[int] | None = None, *, patient: bool = False) -> None:
        self._roster, self._refused_wait, self._expected, self._patient = roster, refused_wait, expected, patient
        self._limit = None if start_timeout is None else now + start_timeout
        self._change_limit = now + CHANGE_WAIT
        self._running_since: float | None = None

    def wait(self, now: float) -> Wait | None:
        """Return whom to wait for, or None where the waiting is over.

        Raises RefusedError where no neighbour fits.
        """
        missing, refused = self._missing(now), self._roster.refusing()
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
        change = self._change_limit if self._expected is not None and now < self._change_limit else None
        ends = [end for end in (limit, until, change) if end is not None]
        return Wait(_sentence(awaited, refused), min(ends, default=None))

    def _missing(self, now: float) -> tuple[int, ...]:
        """Return the neighbours that are waited for."""
        missing = self._roster.missing()
        if self._expected is None or not self._roster.here():
            return missing
        return tuple(j for j in missing if j in self._expected) if now < self._change_limit else ()

    def _refused_until(self, refused: tuple[int, ...], awaited: list[int], now: float) -> float | None:
        """Until when to wait for the refused neighbours, where there are no others to wait for."""
        last = max((self._roster.since(j) for j in refused), default=now)
        if len(refused) == len(self._roster.neighbours) and not self._patient:
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
