"""The concordance correlation coefficient (CCC) of predicted arousal, valence and dominance with the targets.

CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2), with variances over n (Lin 1989): 1 where both are equal, 0
where they are uncorrelated, and less than their correlation where scale or mean differ. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.corpora.emotions import DIMENSIONS
from p2pser.evaluation.metrics import Interval, interval, speaker_counts


def ccc(targets: ArrayLike, predicted: ArrayLike) -> float:
    """Return the concordance of two sequences, without clips whose target is unknown (NaN).

    NaN where fewer than 2 targets are known, or where both sequences are constant and equal.
    """
    x, y = np.asarray(targets, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    known = ~np.isnan(x)
    return float(_ccc(x[known], y[known], np.ones((1, int(known.sum()))))[0])


def _ccc(x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the concordance (k,) of x and y, both (n,), where clip c counts ``counts[:, c]`` times, (k, n)."""
    total = counts.sum(axis=1)
    there = total >= 2
    share = np.divide(counts, total[:, None], out=np.zeros_like(counts), where=there[:, None])
    dx, dy = x - (share @ x)[:, None], y - (share @ y)[:, None]
    both = 2.0 * (share * dx * dy).sum(axis=1)
    spread = share @ (x - y) ** 2 + both  # var x + var y + (mean x - mean y)^2
    result: NDArray[np.float64] = np.divide(both, spread, out=np.full(len(counts), np.nan), where=there & (spread > 0))
    return result


@dataclass(frozen=True)
class Ratings:
    """Targets and predictions of the dimensions of test clips, pooled over folds.

    Parameters
    ----------
    targets, predicted : (n, 3), in the order of ``DIMENSIONS``; a target that is NaN is unknown.
    speakers : n names.
    folds : (n,) the fold that tested the clip.
    paths : n paths below the corpus, or () where they are not known.

    Raises ValueError where lengths differ or there are no clips (from ``of``).
    """

    targets: NDArray[np.float64]
    predicted: NDArray[np.float64]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, targets: ArrayLike, predicted: ArrayLike, speakers: Sequence[str], folds: ArrayLike | None = None, *,
           paths: Sequence[str] = ()) -> Ratings:
        """Return ratings from any sequences; parameters as in the class."""
        right, guesses = np.asarray(targets, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        fold = np.zeros(len(right), dtype=np.int64) if folds is None else np.asarray(folds, dtype=np.int64)
        if not right.shape == guesses.shape == (len(speakers), len(DIMENSIONS)) or len(fold) != len(speakers) \
                or len(paths) not in (0, len(speakers)):
            raise ValueError(f"targets {right.shape}, predicted {guesses.shape}, folds {fold.shape}, {len(speakers)} "
                             f"speakers and {len(paths)} paths do not fit together")
        if len(right) == 0:
            raise ValueError("there are no predictions to measure")
        return cls(right, guesses, tuple(speakers), fold, tuple(paths))

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
        """Return the mean over folds of each dimension's CCC, without folds in which it is not known."""
        each = [self._fold(fold).ccc() for fold in np.unique(self.folds)]
        return {name: _mean([fold[name] for fold in each]) for name in DIMENSIONS}

    def _fold(self, fold: int) -> Ratings:
        there = self.folds == fold
        return Ratings(self.targets[there], self.predicted[there],
                       tuple(np.asarray(self.speakers)[there]), self.folds[there])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def ccc_bootstrap(ratings: Ratings | Sequence[Ratings], *, seed: int = 0) -> dict[str, Interval]:
    """Return the 95 % interval of each dimension's pooled CCC under resampling of speakers, keyed by ``seed``.

    ratings: of one model, or of several on the same clips, whose mean CCC is meant. With one speaker there is nothing
    to resample: the interval is (NaN, NaN).
    """
    several = [ratings] if isinstance(ratings, Ratings) else ratings
    names, who = np.unique(np.asarray(several[0].speakers), return_inverse=True)
    if len(names) < 2:
        return dict.fromkeys(DIMENSIONS, Interval(float("nan"), float("nan")))
    draws = speaker_counts(len(names), seed)
    intervals = {}
    for k, name in enumerate(DIMENSIONS):
        known = ~np.isnan(several[0].targets[:, k])
        counts = draws[:, who[known]]
        values = np.mean([_ccc(each.targets[known, k], each.predicted[known, k], counts) for each in several], axis=0)
        intervals[name] = interval(values[~np.isnan(values)])
    return intervals
