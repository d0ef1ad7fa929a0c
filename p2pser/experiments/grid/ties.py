"""Which differences between schemes are more than noise, and which schemes are worth their bytes.

Two schemes are compared by their paired differences over folds and seeds: each pair has the same clips, the same start
and the same partition. The mean difference is tested by its signs, which could have been the other way round if the
schemes were alike (Fisher's randomisation test; exact up to 12 pairs). Of several tests the p-values are corrected by
Holm's method. Folds share training speakers and seeds share folds, so that the pairs are not quite independent: a
difference that is barely significant is none.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.wording import counted

EXACT_UP_TO = 12
"""Pairs up to which all assignments of signs are tried."""
DRAWS = 100_000
"""Assignments of signs that are drawn for more: so many that 48 schemes can differ after Holm's correction."""
LEVEL = 0.05
"""The level of significance."""

Scores = Mapping[Hashable, float]
"""The figure of each trial of a scheme, by (fold, seed)."""
Standing = Literal["front", "tied", "dominated"]


@dataclass(frozen=True)
class Contrast:
    """The paired difference ``ours`` - ``theirs`` over the trials that both have.

    mean, low, high : in [-1, 1], with the 95 % interval of Student's t; None with fewer than two pairs. p : of the
    randomisation test, two-sided; holm : the same, corrected for all contrasts beside it.
    """

    ours: str
    theirs: str
    pairs: int
    mean: float
    low: float | None
    high: float | None
    p: float
    holm: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the difference is more than noise."""
        return self.holm < LEVEL


def sign_flips(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of a mean difference when the signs are assigned at random."""
    values = np.asarray(differences, dtype=np.float64)
    signs = _signs(len(values))
    extra = len(values) > EXACT_UP_TO  # of drawn ones, the assignment that happened is one that could have been drawn
    sums = np.abs(signs @ values)
    return float(((sums >= abs(values.sum()) - 1e-12).sum() + extra) / (len(sums) + extra))


def too_few(pairs: Collection[Contrast]) -> str:
    """Return a note that no contrast can be significant, since the least p-value of so few pairs is too large; "" where
    one can be.

    pairs : each contrast once.
    """
    most = max((each.pairs for each in pairs), default=0)
    least = 2.0 ** (1 - most) if most <= EXACT_UP_TO else 1 / (DRAWS + 1)
    if not pairs or least * len(pairs) < LEVEL:
        return ""
    return (f"{counted(most, 'trial')} of each scheme: too few to tell {counted(len(pairs), 'difference')} between "
            "schemes from noise after Holm's correction, whatever their size; add seeds, or compare fewer schemes")


@lru_cache(maxsize=4)
def _signs(number: int) -> NDArray[np.float64]:
    """Return all assignments of signs to so many values, or ``DRAWS`` of them, a row each."""
    if number <= EXACT_UP_TO:
        return np.array(list(product((1.0, -1.0), repeat=number)))
    drawn: NDArray[np.float64] = seeding.generator(0, "sign flips").choice((1.0, -1.0), size=(DRAWS, number))
    return drawn


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method, in the given order.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def contrast(ours: str, theirs: str, scores: Mapping[str, Scores]) -> Contrast | None:
    """Return the paired difference of two schemes, not yet corrected; None where they share no trial."""
    shared = [key for key in scores[ours] if key in scores[theirs]]
    if not shared:
        return None
    differences = [scores[ours][key] - scores[theirs][key] for key in shared]
    mean, (low, high) = float(np.mean(differences)), interval(differences)
    return Contrast(ours, theirs, len(shared), mean, low, high, sign_flips(differences))


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a mean by Student's t; (None, None) with fewer than two values."""
    if len(values) < 2:
        return None, None
    from scipy.stats import t

    mean = float(np.mean(values))
    reach = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / sqrt(len(values)))
    return mean - reach, mean + reach


def contrasts(scores: Mapping[str, Scores]) -> dict[tuple[str, str], Contrast]:
    """Return the corrected contrast of each pair of schemes, under both orders."""
    each_pair = [contrast(ours, theirs, scores) for ours, theirs in combinations(scores, 2)]
    known = [each for each in each_pair if each is not None]
    both: dict[tuple[str, str], Contrast] = {}
    for each, corrected in zip(known, holm([each.p for each in known])):
        low, high = (None if each.high is None else -each.high), (None if each.low is None else -each.low)
        both[each.ours, each.theirs] = replace(each, holm=corrected)
        both[each.theirs, each.ours] = replace(each, ours=each.theirs, theirs=each.ours, mean=-each.mean, low=low,
                                               high=high, holm=corrected)
    return both


def standings(costs: Mapping[str, float], pairs: Mapping[tuple[str, str], Contrast]) -> dict[str, Standing]:
    """Return the place of each scheme between cost and score.

    A scheme is ``dominated`` where one that costs no more is significantly better. It is on the ``front`` where it is
    significantly better than each scheme that costs less. Otherwise it is ``tied``: it costs more, and its difference
    to a cheaper one is within noise.
    """
    by_scheme: dict[str, Standing] = {}
    for scheme, cost in costs.items():
        others = [other for other in costs if other != scheme and (other, scheme) in pairs]
        worse = any(costs[other] <= cost and pairs[other, scheme].significant and pairs[other, scheme].mean > 0
                    for other in others)
        cheaper = [pairs[scheme, other] for other in others if costs[other] < cost]
        by_scheme[scheme] = "dominated" if worse else \
            "front" if all(each.significant and each.mean > 0 for each in cheaper) else "tied"
    return by_scheme
