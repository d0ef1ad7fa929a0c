"""Metrics of predictions, and their confidence intervals. numpy only.

The unweighted average recall (UAR) is computed two ways, and both are always named: (a) the mean over folds of the
recall averaged over the classes present in the fold (the published convention), (b) over all predictions pooled. Clips
of one speaker are not independent of each other, so intervals come from resampling speakers (Davison and Hinkley 1997,
section 3.8), and two models are compared on the same resampled speakers, paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.base import seeding

Statistic: TypeAlias = Literal["folds", "pooled"]
RESAMPLES = 2000
"""How often speakers, or the clips of one, are drawn anew for an interval."""

TAILS = (0.025, 0.975)
"""The quantiles of resampled values between which a 95 % interval lies."""


class Interval(NamedTuple):
    """A 95 % percentile interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference a - b of UAR: its mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictions:
    """A model's predictions of test clips, pooled over folds.

    Parameters
    ----------
    targets, predicted : (n,) class indices below ``classes``.
    speakers : n names.
    classes : number of classes.
    folds : (n,) the fold that tested the clip; default: one fold for all.
    logits : (n, classes), or None where they are not known.
    genders : n of ``"f"``, ``"m"`` or ``""``, or () where they are not known.
    paths : n paths below the corpus, or () where they are not known.

    Raises ValueError where lengths differ, there are no clips, or an index is out of range (from ``of``).
    """

    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    speakers: tuple[str, ...]
    classes: int
    folds: NDArray[np.int64]
    logits: NDArray[np.float64] | None = None
    genders: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, targets: ArrayLike, predicted: ArrayLike, speakers: Sequence[str], classes: int,
           folds: ArrayLike | None = None, *, logits: ArrayLike | None = None, genders: Sequence[str] = (),
           paths: Sequence[str] = ()) -> Predictions:
        """Return predictions from any sequences; parameters as in the class."""
        right = np.asarray(targets, dtype=np.int64)
        guesses = np.asarray(predicted, dtype=np.int64)
        fold = np.zeros_like(right) if folds is None else np.asarray(folds, dtype=np.int64)
        if not right.shape == guesses.shape == fold.shape == (len(speakers),):
            raise ValueError(f"targets {right.shape}, predicted {guesses.shape}, folds {fold.shape} and "
                             f"{len(speakers)} speakers must be of one length")
        if len(right) == 0:
            raise ValueError("there are no predictions to measure")
        if min(right.min(), guesses.min()) < 0 or max(right.max(), guesses.max()) >= classes:
            raise ValueError(f"class indices must be 0 .. {classes - 1}")
        raw = None if logits is None else np.asarray(logits, dtype=np.float64)
        if raw is not None and raw.shape != (len(right), classes):
            raise ValueError(f"logits {raw.shape} must be ({len(right)}, {classes}): a row a clip, a column a class")
        if not {len(genders), len(paths)} <= {0, len(right)}:
            raise ValueError(f"{len(genders)} genders and {len(paths)} paths must be of {len(right)} clips, or none")
        return cls(right, guesses, tuple(speakers), classes, fold, raw, tuple(genders), tuple(paths))

    def take(self, places: NDArray[np.int64]) -> Predictions:
        """Return the predictions of the clips at these places, (k,)."""
        def chosen(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[place] for place in places) if values else ()

        return Predictions(self.targets[places], self.predicted[places], chosen(self.speakers), self.classes,
                           self.folds[places], None if self.logits is None else self.logits[places],
                           chosen(self.genders), chosen(self.paths))

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Pool the predictions of several folds; part k becomes fold k.

        Logits, genders and paths are kept where all parts have them.
        """
        raw = [part.logits for part in parts if part.logits is not None]
        genders, paths = ([value for part in parts for value in getattr(part, name)]
                          if all(getattr(part, name) for part in parts) else [] for name in ("genders", "paths"))
        return cls.of(np.concatenate([part.targets for part in parts]),
                      np.concatenate([part.predicted for part in parts]),
                      [speaker for part in parts for speaker in part.speakers],
                      parts[0].classes,
                      np.concatenate([np.full(len(part.targets), k) for k, part in enumerate(parts)]),
                      logits=np.concatenate(raw) if len(raw) == len(parts) else None, genders=genders, paths=paths)


def confusion(targets: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return (classes, classes) counts: rows are the true class, columns the predicted one."""
    flat = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def recalls(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return (..., classes) recall of each class of confusion matrices (..., classes, classes); NaN where
    absent.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    right, there = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1)
    result: NDArray[np.float64] = np.divide(right, there, out=np.full(right.shape, np.nan), where=there > 0)
    return result


def uar(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return (...,) the unweighted average recall over the classes present; NaN where a matrix is empty."""
    each = recalls(matrix)
    return _mean(each, -1)


def uar_by_fold(predictions: Predictions) -> dict[int, float]:
    """Return the UAR of each fold over the classes present in it."""
    result = {}
    for fold in np.unique(predictions.folds):
        there = predictions.folds == fold
        table = confusion(predictions.targets[there], predictions.predicted[there], predictions.classes)
        result[int(fold)] = float(uar(table))
    return result


def uar_folds(predictions: Predictions) -> float:
    """Return UAR (a): the mean over folds of the recall over the classes present in the fold."""
    return float(np.mean(list(uar_by_fold(predictions).values())))


def uar_pooled(predictions: Predictions) -> float:
    """Return UAR (b): the recall over the classes, of all folds' predictions pooled."""
    return float(uar(confusion(predictions.targets, predictions.predicted, predictions.classes)))


def accuracy(predictions: Predictions) -> float:
    """Return the share of clips predicted correctly."""
    return float(np.mean(predictions.targets == predictions.predicted))


def macro_f1(matrix: ArrayLike) -> float:
    """Return the mean F1 over the classes that are true or predicted somewhere (as in scikit-learn)."""
    counts = np.asarray(matrix, dtype=np.float64)
    both = counts.sum(0) + counts.sum(1)
    f1 = np.divide(2 * np.diagonal(counts), both, out=np.full(len(counts), np.nan), where=both > 0)
    return float(_mean(f1, -1))


def bootstrap(predictions: Predictions | Sequence[Predictions], statistic: Statistic = "folds", *,
              seed: int = 0) -> Interval:
    """Return the 95 % interval of UAR under resampling of speakers (``resampled``); (NaN, NaN) for one speaker."""
    return interval(resampled(predictions, statistic, seed=seed))


def interval(draws: NDArray[np.float64]) -> Interval:
    """Return the 95 % percentile interval of resampled values; (NaN, NaN) where there are none."""
    low, high = np.quantile(draws, TAILS) if len(draws) else (np.nan, np.nan)
    return Interval(float(low), float(high))


def resampled(predictions: Predictions | Sequence[Predictions], statistic: Statistic = "folds", *,
              seed: int = 0, purpose: str = "bootstrap") -> NDArray[np.float64]:
    """Return UAR under resampling of speakers, (RESAMPLES,) float64; (0,) for one speaker.

    Parameters
    ----------
    predictions : of one model, or of several on the same speakers: then the mean UAR, on the same resampled speakers.
    statistic : ``folds`` for UAR (a), ``pooled`` for UAR (b).
    seed, purpose : key the draws.
    """
    several = [predictions] if isinstance(predictions, Predictions) else predictions
    tables = [_tables(each, statistic) for each in several]
    speakers = tables[0][1]
    if speakers < 2:
        return np.zeros(0)
    draws = speaker_counts(speakers, seed, purpose)
    result: NDArray[np.float64] = np.mean([_statistic(table, draws) for table, _ in tables], axis=0)
    return result


def paired(a: Sequence[Predictions], b: Sequence[Predictions]) -> Difference:
    """Return the difference in UAR (a) of ``a`` and ``b``, the mean over pairs, with its paired speaker-bootstrap
    interval: in each resample the same speakers count for all.

    Parameters
    ----------
    a, b : predictions of two models; a[k] and b[k] (of seed k, say) are of the same clips in the same order.

    Raises ValueError where the predictions do not fit together.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} sets of predictions cannot be paired")
    for first, second in zip(a, b):
        if first.speakers != second.speakers or not np.array_equal(first.targets, second.targets) \
                or not np.array_equal(first.folds, second.folds) or set(first.speakers) != set(a[0].speakers):
            raise ValueError("paired predictions must be of the same clips, in the same order")
    speakers = len(set(a[0].speakers))
    once = np.ones((1, speakers))
    draws = speaker_counts(speakers, 0)
    means, differences = [], []
    for pair in zip(a, b):
        ours, theirs = (_tables(predictions, "folds")[0] for predictions in pair)
        means.append(float(_statistic(ours, once)[0] - _statistic(theirs, once)[0]))
        differences.append(_statistic(ours, draws) - _statistic(theirs, draws))
    spread = np.mean(differences, axis=0)
    return Difference(float(np.mean(means)), *interval(spread if speakers > 1 else spread[:0]))


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """np.nanmean without its warning where everything is NaN."""
    there = ~np.isnan(values)
    count = there.sum(axis)
    result: NDArray[np.float64] = np.divide(np.where(there, values, 0.0).sum(axis), count,
                                            out=np.full(np.shape(count), np.nan), where=count > 0)
    return result


def _tables(predictions: Predictions, statistic: Statistic) -> tuple[NDArray[np.float64], int]:
    """Return confusion counts (folds, speakers, classes, classes), speakers sorted, and the number of speakers."""
    _, who = np.unique(np.asarray(predictions.speakers), return_inverse=True)
    fold = np.zeros_like(predictions.folds) if statistic == "pooled" \
        else np.unique(predictions.folds, return_inverse=True)[1]
    size, speakers, folds = predictions.classes, int(who.max()) + 1, int(fold.max()) + 1
    flat = ((fold * speakers + who) * size + predictions.targets) * size + predictions.predicted
    counts = np.bincount(flat, minlength=folds * speakers * size * size)
    return counts.reshape(folds, speakers, size, size).astype(np.float64), speakers


def speaker_counts(speakers: int, seed: int, purpose: str = "bootstrap") -> NDArray[np.float64]:
    """Return how often each speaker is drawn, with replacement: (RESAMPLES, speakers), keyed by (seed, purpose)."""
    generator = seeding.generator(seed, purpose)
    return generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES).astype(np.float64)


def _statistic(tables: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (resamples,) the mean over folds of UAR, from the speakers' confusion counts and draws."""
    speakers, size = tables.shape[1:3]
    by_fold = [uar((draws @ table.reshape(speakers, -1)).reshape(-1, size, size)) for table in tables]
    return _mean(np.stack(by_fold), 0)
