"""The start of a run: which neighbours a peer waits for, and until when. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from p2pser.base.errors import RefusedError
from p2pser.base.wording import peer_list
from p2pser.network.roster import Roster
from p2pser.network.states import State

RUNNING_WAIT = 3.0
"""Seconds for which a peer that joins a run under way waits for its other neighbours, which may also connect later."""
CHANGE_WAIT = 2.0
"""Seconds beyond ``dead_after`` for which an absent peer of the run is waited for after a change of the topology."""
REFUSED_LINGER = 3.0
"""Seconds for which a peer that all neighbours refuse stays, so that they receive the refusal and its reason too."""

NONE_FITS = "no neighbour fits this peer, which ends therefore"


@dataclass(frozen=True)
class Wait:
    """A reason to wait further, until a time at most [s] (None: without limit)."""

    sentence: str
    until: float | None


class Meeting:
    """Decides how long to wait for neighbours; ``wait`` is called after each event.

    Parameters
    ----------
    roster : the neighbours.
    now : the time [s].
    start_timeout : seconds after which the run begins without the missing neighbours; None: wait without limit.
    refused_wait : seconds in which a refused neighbour may come back with corrected settings; None: as for an absent
        one.
    expected : after a change of the topology, the peers of the run before the change: other neighbours are not waited
        for if at least one neighbour is connected; None: this is the start of a run.
    dead_after : an expected peer that is silent is waited for until this silence [s] plus CHANGE_WAIT.
    longest : seconds for which an expected peer that is connected, but has not made the change yet, is waited for.
    """

    def __init__(self, roster: Roster, now: float, start_timeout: float | None, refused_wait: float | None,
                 expected: Collection[int] | None, *, dead_after: float, longest: float) -> None:
        self._roster, self._refused_wait, self._expected = roster, refused_wait, expected
        self._limit = None if start_timeout is None else now + start_timeout
        self._began, self._dead_after, self._longest = now, dead_after, longest
        self._running_since: float | None = None

    def wait(self, now: float) -> Wait | None:
        """Return why and until when to wait, or None when the waiting is over.

        Raises RefusedError where no neighbour fits.
        """
        missing = self._missing(now)
        refused = tuple(j for j in self._roster.refusing() if j in missing)
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
        changes = [] if self._expected is None else [self._change_until(j) for j in missing]
        ends = [end for end in (limit, until, *changes) if end is not None and end > now]
        sentence = NONE_FITS if until is not None and self._none_fits(refused) else _sentence(awaited, refused)
        return Wait(sentence, min(ends, default=None))

    def _missing(self, now: float) -> tuple[int, ...]:
        """Return the neighbours that are waited for."""
        missing = self._roster.missing()
        if self._expected is None or not self._roster.here():
            return missing
        return tuple(j for j in missing if j in self._expected and now < self._change_until(j))

    def _change_until(self, j: int) -> float:
        """Return until when a missing peer of the run is waited for after a change of the topology [s]."""
        if self._roster.state(j) is State.REFUSED:  # it refuses us, as it has not made the change yet
            return self._began + self._longest
        return max(self._began, self._roster.since(j)) + self._dead_after + CHANGE_WAIT

    def _refused_until(self, refused: tuple[int, ...], awaited: list[int], now: float) -> float | None:
        """Return until when to wait for the refused neighbours if there are no others to wait for [s]."""
        last = max(map(self._roster.refused_since, refused), default=now)
        if self._expected is not None:
            return None  # they have not made the change yet
        if self._none_fits(refused):
            if now >= last + REFUSED_LINGER:
                raise RefusedError("; ".join(dict.fromkeys(map(self._roster.reason, refused))))
            return last + REFUSED_LINGER
        return None if awaited or self._refused_wait is None else last + self._refused_wait

    def _none_fits(self, refused: tuple[int, ...]) -> bool:
        """Whether all neighbours are refused, and not because they wait for a newer topology file."""
        return len(refused) == len(self._roster.neighbours) and not any(map(self._roster.older, refused))


def _sentence(awaited: list[int], refused: tuple[int, ...]) -> str:
    parts = [f"waiting for {peer_list(awaited)}" if awaited else "",
             f"waiting for {peer_list(refused)} to come back with corrected settings" if refused else ""]
    return ", ".join(part for part in parts if part)
