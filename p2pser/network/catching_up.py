"""To which round a peer goes on that its neighbours have left behind. Pure: times and claims come in.

A peer that was stopped, or cut off with a part of the network, keeps its rows and jumps to the round of the others. A
false claim must not carry it away, so a jump needs

- the word of more than half of its living neighbours, and of two at least: then it goes as far as all of these say; or
- the word of one that has been out of step with this peer for ``apart`` seconds, or is its only living neighbour: as
  far as that neighbour can have come since then; or
- the word of one that announces a jump of its own (a message of round ``JUMP``), so that a part of the network follows
  the peer at its edge: as far as anybody can have come since this peer began, and only once in ``apart`` seconds.

How far a peer can have come is the time times the pace of this peer's own fastest rounds. So one lying
neighbour moves a peer no further than waiting would have, and neither do several, as long as they are no more than half
of its neighbours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

PACE_OVER = 8
"""Rounds over which the pace is measured: a single round may be short by chance."""
MARGIN = 2
"""Rounds that a neighbour may be further than its time and our pace allow: its rows may have been on their way."""


@dataclass(frozen=True)
class Next:
    """The round to go on with. announce : whether neighbours must know of the jump, to be able to follow."""

    round: int
    announce: bool = False


class CatchingUp:
    """What one peer knows of the rounds of its neighbours.

    Parameters
    ----------
    rounds : R; no peer jumps beyond.
    apart : seconds out of step after which one neighbour's word is enough.
    lead : rounds by which a neighbour is ahead in an undisturbed run: 1 on a static undirected graph, where the
        neighbours wait for each other in each round, and the topology's lead (``run.setup.lead``) on others.
    """

    def __init__(self, rounds: int, apart: float, lead: int = 1) -> None:
        self._rounds, self._apart, self._lead = rounds, apart, lead
        self._began: tuple[int, float] | None = None
        """The first round of this peer, and when it began."""
        self._starts: deque[float] = deque(maxlen=PACE_OVER + 1)
        self._pace: float | None = None
        """Rounds a second, of the fastest ``PACE_OVER`` rounds in sequence."""
        self._in_step: dict[int, tuple[int, float]] = {}
        """The round in which each neighbour's row was there last, and when."""
        self._announced: dict[int, tuple[int, float]] = {}
        """The last announcement of each neighbour that counts, and when it came."""

    def began(self, round: int, now: float) -> None:
        """This peer begins a round."""
        self._began = self._began or (round, now)
        self._starts.append(now)
        done, took = len(self._starts) - 1, now - self._starts[0]
        if done and took > 0:
            self._pace = done / took if done < PACE_OVER else max(self._pace or 0.0, done / took)

    def in_step(self, peer: int, round: int, now: float) -> None:
        """A neighbour has delivered its row of this peer's round."""
        self._in_step[peer] = round, now

    def announced(self, peer: int, round: int, now: float) -> None:
        """A neighbour says that it has jumped to a round. Announcements that come too soon do not count."""
        if peer not in self._announced or now - self._announced[peer][1] >= self._apart:
            self._announced[peer] = round, now

    def next_round(self, round: int, now: float, claims: Mapping[int, int]) -> Next:
        """Return the round after ``round``: the next, or a later one.

        claims : by living neighbour (connected, neither lost nor banned), the round in which it says that it is.
        """
        said = sorted(claims.values(), reverse=True)
        together = said[len(said) // 2] if len(said) > 1 else 0
        alone = max((self._word(j, claim, now, len(claims) == 1) for j, claim in claims.items()), default=0)
        target = min(max(together, alone), self._rounds)
        if target <= round + self._lead:
            return Next(round + 1)
        return Next(target, announce=self._began is not None)

    # Inside -------------------------------------------------------------------------------------------------

    def _word(self, peer: int, claim: int, now: float, only: bool) -> int:
        """Return how far this peer goes on the word of one neighbour."""
        round, since = self._since(peer, now)
        far = self._follow(peer, now)
        if only or now - since >= self._apart:
            far = max(far, math.inf if only and self._pace is None else self._reach(round, since, now))
        return int(min(claim, far))

    def _since(self, peer: int, now: float) -> tuple[int, float]:
        """Return the last round in step with a neighbour, and when that was; else where this peer began."""
        return self._in_step.get(peer) or self._began or (0, now)

    def _follow(self, peer: int, now: float) -> float:
        """Return how far an announcement of a neighbour counts."""
        if peer not in self._announced:
            return 0
        return min(self._announced[peer][0], self._reach(*(self._began or (0, now)), now))

    def _reach(self, round: int, since: float, now: float) -> float:
        return round + MARGIN + math.floor((now - since) * (self._pace or 0.0))
