"""Means and paired differences of UAR over folds and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions


@dataclass(frozen=True)
class PairedDifference:
    """mean: of UAR (a), in [-1, 1]; low, high: the 95 % paired speaker-bootstrap interval, None with one speaker."""

    mean: float
    low: float | None
    high: float | None


def paired(ours: Sequence[Sequence[Predictions]], theirs: Sequence[Sequence[Predictions]]) -> PairedDifference:
    """Return the mean paired difference ours - theirs over seeds, each with the predictions of its models.

    Where both sides have the same number of models, they are paired in order; else each of ours with each of theirs.
    """
    a: list[Predictions] = []
    b: list[Predictions] = []
    for mine, other in zip(ours, theirs):
        pairs = list(zip(mine, other) if len(mine) == len(other) else product(mine, other))
        a.extend(left for left, _ in pairs)
        b.extend(right for _, right in pairs)
    difference = metrics.paired(a, b)
    known = math.isfinite(difference.low) and math.isfinite(difference.high)
    return PairedDifference(difference.mean, difference.low if known else None, difference.high if known else None)


def uar_of(models: Sequence[Sequence[Predictions]]) -> tuple[float, float | None]:
    """Return the mean UAR (a) over seeds and models, and the standard deviation over seeds of the models' mean (None
    with one seed).
    """
    by_seed = [float(np.mean([metrics.uar_folds(model) for model in seed])) for seed in models]
    return float(np.mean(by_seed)), float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None


def pooled_uar_of(models: Sequence[Sequence[Predictions]]) -> float:
    """Return the mean UAR (b) over seeds and models."""
    return float(np.mean([metrics.uar_pooled(model) for seed in models for model in seed]))


def worst_uar_of(models: Sequence[Sequence[Predictions]]) -> float:
    """Return the mean over seeds of the lowest UAR (a) of a model."""
    return float(np.mean([min(metrics.uar_folds(model) for model in seed) for seed in models]))


def mean(values: Iterable[float]) -> float:
    """Return the mean of one or more values."""
    return float(np.mean(list(values)))


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None
