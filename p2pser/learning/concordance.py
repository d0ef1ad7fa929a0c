"""How well predicted arousal, valence and dominance go with the targets: the concordance correlation coefficient.

CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2), with variances over n (Lin 1989): 1 where both are equal, 0
where they have nothing in common, and less than their correlation where scale or mean are off. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser import seeding
from p2pser.learning.metrics import RESAMPLES, Interval
from p2pser.speech.emotions import DIMENSIONS


def ccc(targets: ArrayLike, predicted: ArrayLike) -> float:
    """Return the concordance of two sequences, clips with an unknown (NaN) target left out.

    NaN where fewer than 2 are known, or neither varies and both are equal.
    """
    x, y = np.asarray(targets, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    known = ~np.isnan(x)
    return _ccc(x[known], y[known], np.ones(int(known.sum())))


def _ccc(x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The concordance where clip k counts ``counts[k]`` times."""
    total = counts.sum()
    if total < 2:
        return float("nan")
    dx, dy = x - counts @ x / total, y - counts @ y / total
    spread = counts @ (x - y) ** 2 + 2.0 * (counts @ (dx * dy))  # n (var x + var y + (mean x - mean y)^2)
    return float(2.0 * (counts @ (dx * dy)) / spread) if spread > 0 else float("nan")


@dataclass(frozen=True)
class Ratings:
    """Targets and predictions of test clips, each (n, 3) in ``DIMENSIONS``, pooled over folds; NaN: target unknown.

    speakers: n names. folds: (n,) which fold tested the clip. paths: n, below the corpus, or (). Raises ValueError
    where these are of different lengths or there are none.
    """

    targets: NDArray[np.float64]
    predicted: NDArray[np.float64]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, targets: ArrayLike, predicted: ArrayLike, speakers: Sequence[str], folds: ArrayLike | None = None, *,
           paths: Sequence[str] = ()) -> Ratings:
        """Return ratings from any sequences (see the class)."""
        right, said = np.asarray(targets, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        fold = np.zeros(len(right), dtype=np.int64) if folds is None else np.asarray(folds, dtype=np.int64)
        if not right.shape == said.shape == (len(speakers), len(DIMENSIONS)) or len(fold) != len(speakers) \
                or len(paths) not in (0, len(speakers)):
            raise ValueError(f"targets {right.shape}, predicted {said.shape}, folds {fold.shape}, {len(speakers)} "
                             f"speakers and {len(paths)} paths do not fit together")
        if len(right) == 0:
            raise ValueError("there are no predictions to measure")
        return cls(right, said, tuple(speakers), fold, tuple(paths))

    @classmethod
    def concatenate(cls, parts: Sequence[Ratings]) -> Ratings:
        """Pool the ratings of several folds; part k becomes fold k."""
        paths = [path for part in parts for path in part.paths] if all(part.paths for part in parts) else ()
        return cls.of(np.concatenate([part.targets for part in parts]),
                      np.concatenate([part.predicted for part in parts]),
                      [speaker for part in parts for speaker in part.speakers],
                      np.concatenate([np.full(len(part.speakers), k) for k, part in enumerate(parts)]), paths=paths)

    def ccc(self) -> dict[str, float]:
        """Return the CCC of each dimension over all predictions pooled."""
        return {name: ccc(self.targets[:, k], self.predicted[:, k]) for k, name in enumerate(DIMENSIONS)}

    def ccc_folds(self) -> dict[str, float]:
        """Return the mean over folds of each dimension's CCC; folds in which it is not known count nothing."""
        each = [self._fold(fold).ccc() for fold in np.unique(self.folds)]
        return {name: _mean([one[name] for one in each]) for name in DIMENSIONS}

    def _fold(self, fold: int) -> Ratings:
        there = self.folds == fold
        return Ratings(self.targets[there], self.predicted[there],
                       tuple(np.asarray(self.speakers)[there]), self.folds[there])


def mean_ccc(each: Mapping[str, float]) -> float:
    """Return the mean over the dimensions that are known; NaN where none is."""
    return _mean(list(each.values()))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def ccc_bootstrap(ratings: Ratings, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """Return the 95 % interval of each dimension's pooled CCC under resampling of speakers, keyed by ``seed``.

    With one speaker there is nothing to resample: (NaN, NaN).
    """
    names, who = np.unique(np.asarray(ratings.speakers), return_inverse=True)
    if len(names) < 2:
        return dict.fromkeys(DIMENSIONS, Interval(float("nan"), float("nan")))
    draws = seeding.generator(seed, "bootstrap").multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    found = {}
    for k, name in enumerate(DIMENSIONS):
        known = ~np.isnan(ratings.targets[:, k])
        x, y = ratings.targets[known, k], ratings.predicted[known, k]
        values = [_ccc(x, y, draw[who[known]].astype(np.float64)) for draw in draws]
        low, high = np.nanquantile(values, (0.025, 0.975)) if np.isfinite(values).any() else (np.nan, np.nan)
        found[name] = Interval(float(low), float(high))
    return found
