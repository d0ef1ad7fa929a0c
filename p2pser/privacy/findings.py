"""What an attack found, over all peers that it was tried on: a figure with its interval, chance and limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.evaluation.metrics import interval, speaker_counts

Z = 1.959964
"""The normal quantile of 95 % intervals."""
WIDER = 1.5
"""By how much intervals are made wider for a verdict: of some dozens of guesses one would leave a 95 % interval."""


@dataclass(frozen=True)
class Finding:
    """What one attack learned.

    about : what it wants to know: sex, speaker, membership, … attack : how. seen : what it is given. rounds : after so
    many rounds; None where rounds do not matter. measure : what ``value`` is. low, high : its 95 % interval; NaN where
    it is no estimate. chance : what guessing gives. targets : number of peers attacked. limit : the largest value that
    is allowed; None: none is set.
    """

    about: str
    attack: str
    seen: str
    rounds: int | None
    measure: str
    value: float
    low: float
    high: float
    chance: float
    targets: int
    limit: float | None = None

    @property
    def verdict(self) -> str:
        """Return ``EXCEEDED`` for a value beyond its limit, ``unclear`` for one that guessing might reach: where the
        interval, made ``WIDER``, comes down to chance; ``within`` for others; empty without a limit.
        """
        if self.limit is None:
            return ""
        if self.value <= self.limit:
            return "within"
        return "unclear" if self.value - WIDER * (self.value - self.low) <= self.chance else "EXCEEDED"

    @property
    def exceeded(self) -> bool:
        """Whether the value is beyond its limit, and not by guessing."""
        return self.verdict == "EXCEEDED"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; None for what is NaN."""
        plain = {name: None if isinstance(value, float) and math.isnan(value) else value
                 for name, value in asdict(self).items()}
        return {**plain, "verdict": self.verdict}


@dataclass(frozen=True)
class Attack:
    """The words of a ``Finding`` that do not depend on what was found; see there."""

    about: str
    attack: str
    seen: str
    rounds: int | None = None

    def finding(self, measure: str, value: float, low: float, high: float, chance: float, targets: int,
                limit: float | None = None) -> Finding:
        """Return the finding."""
        return Finding(self.about, self.attack, self.seen, self.rounds, measure, value, low, high, chance, targets,
                       limit)


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927), for a share of so many trials."""
    middle = (share + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z * math.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2)) / (1 + Z**2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def recall_of_groups(truth: Sequence[str], right: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return UAR over groups of peers, and its 95 % interval from Wilson's of each recall (MOVER, Newcombe 1998).

    truth : the group of each peer. right : (peers,) how often it was named rightly, from 0 to 1 (a mean over runs).
    """
    names = np.array(truth)
    each = [(float(right[names == name].mean()), int((names == name).sum())) for name in sorted(set(truth))]
    bounds = [wilson(share, trials) for share, trials in each]
    value = sum(share for share, _ in each) / len(each)
    below = math.sqrt(sum((share - low) ** 2 for (share, _), (low, _) in zip(each, bounds))) / len(each)
    above = math.sqrt(sum((high - share) ** 2 for (share, _), (_, high) in zip(each, bounds))) / len(each)
    return value, max(0.0, value - below), min(1.0, value + above)


def bootstrapped(statistic: Callable[[NDArray[np.float64]], float], peers: int) -> tuple[float, float]:
    """Return the 95 % interval of a statistic under resampling of peers; NaN for one peer.

    statistic : of how often each peer counts, (peers,).
    """
    if peers < 2:
        return math.nan, math.nan
    draws = np.array([statistic(counts) for counts in speaker_counts(peers, 0, "audit")])
    return interval(draws[~np.isnan(draws)])


def mean_and_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of a value of each peer, (peers,), and its 95 % bootstrap interval."""
    return (float(values.mean()), *bootstrapped(lambda counts: float(counts @ values / counts.sum()), len(values)))


def auc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the probability that a member's score is above another's, ties counted half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, side="left") + np.searchsorted(ordered, members, side="right")
    return float(below.mean() / (2 * len(others)))


def found_at(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the share of members above the score that at most 1 % of the others exceed."""
    allowed = math.floor(0.01 * len(others))
    return float((members > np.sort(others)[::-1][allowed]).mean())
