"""Peers that leave and return by the simulated time: by a trace, or at a rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from p2pser.base import seeding
from p2pser.gossip.mixer import Step
from p2pser.graph.sparse import Array
from p2pser.simulation.links import require_positive
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.timeline import Timeline

HOUR = 3600.0


@dataclass(frozen=True)
class Churn:
    """When peers are away, in seconds since the first round.

    trace : {peer: ((leaves, returns), ...)}, ascending; ``returns`` is infinity for a peer that does not return.
    per_hour : mean number of departures of each other peer in an hour of presence; 0: none.
    away_s : mean seconds of an absence; both times are drawn from exponential distributions.
    """

    trace: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    per_hour: float = 0.0
    away_s: float = 300.0
    seed: int = 0
    _drawn: dict[int, list[tuple[float, float]]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Raise ConfigError where a rate is negative, or no time is spent away."""
        require_positive("churn", away_s=self.away_s, per_hour=self.per_hour or 1.0)

    @property
    def gone(self) -> frozenset[int]:
        """The peers that leave for good."""
        return frozenset(peer for peer, times in self.trace.items() if times and math.isinf(times[-1][1]))

    def away(self, peer: int, second: float) -> bool:
        """Return whether a peer is away at a second."""
        times: Sequence[tuple[float, float]] = self.trace.get(peer, ())
        if self.per_hour and peer not in self.trace:
            times = self._around(peer, second)
        return any(leaves <= second < returns for leaves, returns in times)

    def _around(self, peer: int, second: float) -> Sequence[tuple[float, float]]:
        """Return the last absence that begins by a second, if any."""
        drawn = self._drawn.setdefault(peer, [])
        while not drawn or drawn[-1][1] <= second:
            present, away = seeding.generator(self.seed, "churn", peer, len(drawn)).exponential(size=2)
            leaves = (drawn[-1][1] if drawn else 0.0) + present * HOUR / self.per_hour
            drawn.append((leaves, leaves + away * self.away_s))
        place = bisect_right(drawn, (second, math.inf))
        return drawn[max(0, place - 1) : place]


def leave_and_return(churn: Churn, mixer: SimulatedMixer, line: Timeline, round: int, *, began: Array, over: bool,
                     dead: Collection[int]) -> None:
    """Let peers leave and return at the start of a round, by the median time of the present peers.

    Parameters
    ----------
    churn, mixer, line : of the run.
    round : the round that begins.
    began : the second at which each peer's first round began (N,).
    over : whether the rounds are over: then all peers return that have not left for good.
    dead : peers that leave and return by rounds, not by the clock.
    """
    away = mixer.dead_at(Step(round, 0))
    present = [i for i in mixer.peers if i not in away] or [0]
    start = float(began[present].max())
    now = max(0.0, float(np.median(line.now[present])) - start)
    for i in mixer.peers:
        leaves = churn.away(i, now) and not (over and i not in churn.gone)
        if i in dead:
            continue
        if leaves and i not in away:
            mixer.dead[i] = Step(round, 0)
            mixer.back.pop(i, None)
        elif i in away and not leaves:
            mixer.back[i] = round
            line.now[i] = max(line.now[i], now + start)
