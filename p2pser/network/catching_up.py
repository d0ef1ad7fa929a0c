"""The round to which a peer jumps when its neighbours have gone on without it. Pure: times and claims are passed in.

A peer that was stopped, or cut off with a part of the network, keeps its rows and jumps to the round of its neighbours.
Their claims may be false, so a jump needs one of these:

- more than half of its living neighbours, at least two, claim a later round: it jumps to the earliest round that they
  claim;
- a neighbour that has been out of step with this peer for ``apart`` seconds, or is its only living neighbour, claims a
  later round: it jumps at most as far as that neighbour can have come since they were in step;
- a neighbour announces a jump of its own (a message of round ``JUMP``), so that a part of the network follows the peer
  that reconnects it: it jumps at most as far as any peer can have come since this peer began, and only once in
  ``apart`` seconds.

A peer can have come as far as the time multiplied by the pace of this peer's own fastest rounds. So a lying neighbour
moves a peer no further than waiting would have, and neither do several that are at most half of its neighbours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

PACE_OVER = 8
"""Rounds over which the pace is measured: a single round may be short by chance."""
MARGIN = 2
"""Rounds that a neighbour may be further than the time and our pace allow: its rows may have been in flight."""


@dataclass(frozen=True)
class Next:
    """The next round. announce : whether to announce the jump to the neighbours, so that they can follow."""

    round: int
    announce: bool = False


class CatchingUp:
    """Chooses one peer's next round.

    Parameters
    ----------
    rounds : R, the largest target of a jump.
    apart : seconds out of step after which the claim of a single neighbour is enough.
    lead : rounds by which a neighbour may be ahead in an undisturbed run: 1 on a static undirected graph, where
        neighbours wait for each other in each round, and the topology's lead (``run.setup.lead``) on others.
    """

    def __init__(self, rounds: int, apart: float, lead: int = 1) -> None:
        self._rounds, self._apart, self._lead = rounds, apart, lead
        self._began: tuple[int, float] | None = None
        """The first round of this peer, and when it began [s]."""
        self._starts: deque[float] = deque(maxlen=PACE_OVER + 1)
        self._pace: float | None = None
        """Rounds per second, over the fastest ``PACE_OVER`` successive rounds."""
        self._in_step: dict[int, tuple[int, float]] = {}
        """The last round in which each neighbour's row was mixed, and when [s]."""
        self._announced: dict[int, tuple[int, float]] = {}
        """The last valid announcement of each neighbour, and when it arrived [s]."""

    def began(self, round: int, now: float) -> None:
        """Note that this peer begins a round."""
        self._began = self._began or (round, now)
        self._starts.append(now)
        done, took = len(self._starts) - 1, now - self._starts[0]
        if done and took > 0:
            self._pace = done / took if done < PACE_OVER else max(self._pace or 0.0, done / took)

    def in_step(self, peer: int, round: int, now: float) -> None:
        """Note that a neighbour has delivered its row of this peer's round."""
        self._in_step[peer] = round, now

    def announced(self, peer: int, round: int, now: float) -> None:
        """Note that a neighbour announces a jump to a round, unless it follows another announcement too soon."""
        if peer not in self._announced or now - self._announced[peer][1] >= self._apart:
            self._announced[peer] = round, now

    def next_round(self, round: int, now: float, claims: Mapping[int, int]) -> Next:
        """Return the round after ``round``: the next, or a later one.

        claims : the round that each living neighbour (connected, neither lost nor banned) claims to be in.
        """
        claimed = sorted(claims.values(), reverse=True)
        together = claimed[len(claimed) // 2] if len(claimed) > 1 else 0
        alone = max((self._credible(j, claim, now, len(claims) == 1) for j, claim in claims.items()), default=0)
        target = min(max(together, alone), self._rounds)
        if target <= round + self._lead:
            return Next(round + 1)
        return Next(target, announce=self._began is not None)

    # Inside -------------------------------------------------------------------------------------------------

    def _credible(self, peer: int, claim: int, now: float, only: bool) -> int:
        """Return the round up to which the claim of a single neighbour counts."""
        round, since = self._since(peer, now)
        far = self._follow(peer, now)
        if only or now - since >= self._apart:
            far = max(far, math.inf if only and self._pace is None else self._reach(round, since, now))
        return int(min(claim, far))

    def _since(self, peer: int, now: float) -> tuple[int, float]:
        """Return the last round in step with a neighbour and its time; else the first round of this peer."""
        return self._in_step.get(peer) or self._began or (0, now)

    def _follow(self, peer: int, now: float) -> float:
        """Return the round up to which a neighbour's announcement counts."""
        if peer not in self._announced:
            return 0
        return min(self._announced[peer][0], self._reach(*(self._began or (0, now)), now))

    def _reach(self, round: int, since: float, now: float) -> float:
        """Return the last round that a peer can have reached that was in ``round`` at the time ``since``."""
        return round + MARGIN + math.floor((now - since) * (self._pace or 0.0))
