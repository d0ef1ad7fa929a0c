"""Calibration of probabilities, and temperature scaling, which improves it.

No torch, and scipy only where it is used: a peer seldom needs it.

A network is calibrated if it is right in 80 % of the cases to which it gives the probability 0.8. Trained networks are
usually overconfident, and label smoothing makes them underconfident. Dividing the logits by one temperature, fitted on
clips of speakers whom the model was not trained on, corrects most of that and changes no decision (Guo et al., ICML
2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.evaluation.metrics import Predictions, uar_folds
from p2pser.models.heard import Heard

BINS = 15
"""Intervals of confidence, equally wide, in which ``ece`` compares confidence with accuracy (as Guo et al. do)."""

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature: beyond them the logits are not worth scaling."""


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, in [0, 1]; Brier score, in [0, 2]; mean negative log-likelihood [nat]."""

    ece: float
    brier: float
    nll: float


@dataclass(frozen=True)
class Reliability:
    """The mean confidence, the accuracy and the share of the clips of each non-empty interval of confidence."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]


def reliability(probabilities: ArrayLike, targets: ArrayLike) -> Reliability:
    """Return the accuracy of predictions by their confidence.

    probabilities: (n, classes), rows summing to 1. targets: (n,) class indices. Raises ValueError where their shapes
    differ.
    """
    chances, right = _checked(probabilities, targets)
    confidences = chances.max(axis=1)
    hit = (chances.argmax(axis=1) == right).astype(np.float64)
    place = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    there = count > 0
    confidence = np.bincount(place, confidences, BINS)[there] / count[there]
    accuracy = np.bincount(place, hit, BINS)[there] / count[there]
    return Reliability(confidence, accuracy, count[there] / len(right))


def ece(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the expected calibration error: the mean over clips of |accuracy - confidence| of the clip's interval.

    probabilities: (n, classes). targets: (n,). (Guo et al. 2017; Naeini et al., AAAI 2015.)
    """
    curve = reliability(probabilities, targets)
    return float(curve.share @ np.abs(curve.accuracy - curve.confidence))


def brier(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the Brier score: the mean over clips of sum_k (p_k - y_k)^2 (Brier 1950); 0 is best, 2 worst."""
    chances, right = _checked(probabilities, targets)
    return float(np.mean(np.sum((chances - np.eye(chances.shape[1])[right]) ** 2, axis=1)))


def nll(logits: ArrayLike, targets: ArrayLike, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood [nat] of the targets (n,) under logits (n, classes) / temperature."""
    from scipy.special import log_softmax

    raw, right = _checked(logits, targets)
    return float(-np.mean(log_softmax(raw / temperature, axis=1)[np.arange(len(right)), right]))


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the temperature, in [0.05, 20], that maximises the likelihood of targets (n,) under logits (n, classes).

    The likelihood has one maximum in 1 / temperature. The clips must be of speakers whom the model was not trained on.
    """
    from scipy.optimize import minimize_scalar

    raw, right = _checked(logits, targets)
    optimum = minimize_scalar(lambda log: nll(raw, right, math.exp(log)), bounds=(math.log(COLDEST), math.log(HOTTEST)),
                              method="bounded", options={"xatol": 1e-4})
    return float(math.exp(optimum.x))


def fit(several: Sequence[Predictions]) -> float | None:
    """Return the temperature that fits all these predictions together; None where some have no logits."""
    raw = [predictions.logits for predictions in several if predictions.logits is not None]
    if not raw or len(raw) < len(several):
        return None
    return fit_temperature(np.concatenate(raw), np.concatenate([predictions.targets for predictions in several]))


def measure(predictions: Predictions) -> Calibration | None:
    """Return the calibration of the predictions' probabilities; None without logits."""
    if predictions.logits is None:
        return None
    chances = probabilities(predictions)
    return Calibration(ece(chances, predictions.targets), brier(chances, predictions.targets),
                       nll(predictions.logits, predictions.targets))


def probabilities(predictions: Predictions) -> NDArray[np.float64]:
    """Return (n, classes), each row summing to 1. Raises ValueError where the predictions have no logits."""
    from scipy.special import softmax

    if predictions.logits is None:
        raise ValueError("these predictions have no logits, so they give no probabilities")
    result: NDArray[np.float64] = softmax(predictions.logits, axis=1)
    return result


def scaled(predictions: Predictions, temperatures: float | Mapping[int, float]) -> Predictions:
    """Return the predictions with their logits divided by the temperature, or by that of each clip's fold.

    Raises ValueError where they have no logits.
    """
    if predictions.logits is None:
        raise ValueError("these predictions have no logits that a temperature could scale")
    by_clip = np.array([temperatures[int(fold)] for fold in predictions.folds]) \
        if isinstance(temperatures, Mapping) else np.full(len(predictions.targets), float(temperatures))
    return replace(predictions, logits=predictions.logits / by_clip[:, None])


def by_others(predictions: Predictions) -> Predictions:
    """Return the predictions, each speaker's logits divided by the temperature fitted on all other speakers.

    So the clips on which a temperature was fitted can also show its effect. Raises ValueError where they have no
    logits or only one speaker.
    """
    if predictions.logits is None or len(set(predictions.speakers)) < 2:
        raise ValueError("these predictions have no logits, or only one speaker")
    names, result = np.asarray(predictions.speakers), np.empty_like(predictions.logits)
    for speaker in sorted(set(predictions.speakers)):
        own = names == speaker
        temperature = fit_temperature(predictions.logits[~own], predictions.targets[~own])
        result[own] = predictions.logits[own] / temperature
    return replace(predictions, logits=result)


def by_clips_heard(by_count: Mapping[int, Predictions]) -> tuple[Heard, ...]:
    """Return the figures for each number of a speaker's clips that give the statistics, and the temperatures.

    by_count : by that number, the predictions for the same clips of speakers whom the model was not trained on, with
        logits; at least two speakers.
    """
    figures = []
    for clips, predictions in sorted(by_count.items()):
        temperature = fit([predictions])
        if temperature is None:
            raise ValueError("these predictions have no logits that a temperature could scale")
        honest = by_others(predictions)
        chances = probabilities(honest)
        figures.append(Heard(clips, temperature, uar_folds(predictions), ece(chances, honest.targets),
                             float(chances.max(axis=1).mean())))
    return tuple(figures)


def _checked(values: ArrayLike, targets: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows, right = np.asarray(values, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    if rows.ndim != 2 or right.shape != (len(rows),) or not len(rows):
        raise ValueError(f"{rows.shape} values and {right.shape} targets do not fit: (n, classes) and (n,), n > 0")
    if right.min() < 0 or right.max() >= rows.shape[1]:
        raise ValueError(f"targets must be 0 .. {rows.shape[1] - 1}")
    return rows, right
