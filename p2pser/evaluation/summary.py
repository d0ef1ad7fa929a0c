"""The figures of a model on held-out clips, as plain data and as lines of text.

Given several predictions of the same clips (of several seeds, or of several peers' models) all figures are means over
them, and in each resample of an interval the same speakers count for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from p2pser.base.frames import finite
from p2pser.base.wording import counted, span
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.evaluation import calibration, fairness, metrics
from p2pser.evaluation.concordance import Ratings, ccc_bootstrap
from p2pser.evaluation.metrics import Interval, Predictions

FEW_SPEAKERS, FEW_CLIPS = 5, 10
"""With fewer speakers an interval over speakers says little, and with fewer clips the figures of one speaker do."""


def summarise(several: Sequence[Predictions], labels: Sequence[str], *, scaled: Sequence[Predictions] | None = None,
              seed: int = 0) -> dict[str, Any]:
    """Return all figures, ready for JSON (finite or None).

    Parameters
    ----------
    several : predictions of the same clips, in the same order.
    labels : names of the classes.
    scaled : the same predictions after temperature scaling, where there is a temperature.
    seed : keys the resampling.

    Raises ValueError where the predictions are not of the same clips.
    """
    first = several[0]
    if any(other.speakers != first.speakers or not np.array_equal(other.targets, first.targets)
           or not np.array_equal(other.folds, first.folds) for other in several):
        raise ValueError("predictions that are summarised together must be of the same clips, in the same order")
    tables = [metrics.confusion(predictions.targets, predictions.predicted, predictions.classes)
              for predictions in several]
    there = tables[0].sum(1)
    by_fold = {fold: _mean([each[fold] for each in map(metrics.uar_by_fold, several)])
               for fold in metrics.uar_by_fold(first)}
    values = list(by_fold.values())
    return {
        "clips": len(first.targets), "speakers": len(set(first.speakers)),
        "uar": {
            "folds": _mean([metrics.uar_folds(predictions) for predictions in several]),
            "folds_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "folds_interval": pair(metrics.bootstrap(several, "folds", seed=seed)),
            "pooled": _mean([metrics.uar_pooled(predictions) for predictions in several]),
            "pooled_interval": pair(metrics.bootstrap(several, "pooled", seed=seed)),
            "by_fold": {str(fold): value for fold, value in by_fold.items()},
        },
        "accuracy": _mean([metrics.accuracy(predictions) for predictions in several]),
        "macro_f1": _mean([metrics.macro_f1(table) for table in tables]),
        "recall": {label: finite(float(recall)) for label, recall in
                   zip(labels, np.mean([metrics.recalls(table) for table in tables], axis=0))},
        "chance": 1.0 / int((there > 0).sum()), "majority": float(there.max() / there.sum()),
        "gender": _gender(several, seed), "worst_speaker": _worst(several, seed),
        "calibration": _calibration(several, scaled),
        "labels": list(labels), "confusion": np.sum(tables, axis=0).tolist(),
    }


def concordances(several: Sequence[Ratings], *, seed: int = 0) -> dict[str, Any]:
    """Return each dimension's CCC: of all predictions pooled, the mean over folds, and the pooled one's 95 % interval
    over speakers; None where it is not known.
    """
    spread = ccc_bootstrap(several, seed=seed)
    pooled, folds = [ratings.ccc() for ratings in several], [ratings.ccc_folds() for ratings in several]
    return {name: {"pooled": finite(_mean([values[name] for values in pooled])),
                   "folds": finite(_mean([values[name] for values in folds])), "interval": pair(spread[name])}
            for name in DIMENSIONS}


def pair(interval: Interval) -> list[float] | None:
    """Return an interval as JSON has it: [low, high], or None where there is none."""
    return [interval.low, interval.high] if math.isfinite(interval.low) else None


def _gender(several: Sequence[Predictions], seed: int) -> dict[str, Any] | None:
    gender = fairness.by_gender(several, seed=seed)
    if gender is None:
        return None
    groups = {name: {"uar": group.uar, "interval": pair(group.interval), "speakers": group.speakers,
                     "clips": group.clips} for name, group in gender.groups.items()}
    return {**groups, "gap": gender.gap, "gap_interval": pair(gender.gap_interval)}


def _worst(several: Sequence[Predictions], seed: int) -> dict[str, Any] | None:
    if len(set(several[0].speakers)) < 2:
        return None
    worst = fairness.worst(several, seed=seed)
    return {"speaker": worst.speaker, "uar": worst.uar, "interval": pair(worst.interval), "clips": worst.clips}


def _calibration(several: Sequence[Predictions], scaled: Sequence[Predictions] | None) -> dict[str, Any] | None:
    before = _calibrated(several)
    after = None if scaled is None else _calibrated(scaled)
    return None if before is None else {**before, "scaled": after}


def _calibrated(several: Sequence[Predictions]) -> dict[str, float] | None:
    measures = [measure for measure in map(calibration.measure, several) if measure is not None]
    if len(measures) < len(several):
        return None
    return {name: _mean([getattr(measure, name) for measure in measures]) for name in ("ece", "brier", "nll")}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _few(speakers: int) -> str:
    return ": too few for an interval" if speakers < FEW_SPEAKERS else ""


def group_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return a line each for the figures of ``summarise`` by gender, of the worst speaker and of calibration, where
    known.
    """
    lines = []
    gender, worst, measured = figures["gender"], figures["worst_speaker"], figures["calibration"]
    if gender is not None:
        each = "   ".join(f"{name} {group['uar']:.3f}{span(group['interval'])} ({group['speakers']}"
                          f"{_few(group['speakers'])})" for name, group in gender.items() if name in fairness.GENDERS)
        lines.append(f"UAR (a) by gender (speakers)   {each}   gap f - m {gender['gap']:+.3f}"
                     + span(gender["gap_interval"], "+"))
    if worst is not None:
        few = worst["clips"] < FEW_CLIPS
        says = "too few to judge by" if few else "95 % over clips"
        lines.append(f"worst speaker   {worst['speaker']}: UAR {worst['uar']:.3f}"
                     f"{'' if few else span(worst['interval'])}, {counted(worst['clips'], 'clip')} ({says})")
    if measured is not None:
        after = measured["scaled"]
        then = ("   no temperature was fitted" if after is None else f"   after temperature scaling: ECE "
                f"{after['ece']:.3f}, Brier {after['brier']:.3f}, NLL {after['nll']:.3f}")
        lines.append(f"calibration   ECE {measured['ece']:.3f}, Brier {measured['brier']:.3f}, "
                     f"NLL {measured['nll']:.3f}{then}")
    return lines


def dimension_lines(ccc: Mapping[str, Any]) -> list[str]:
    """Return the figures of ``concordances`` in a line."""
    each = "   ".join(f"{name} {'-' if values['pooled'] is None else format(values['pooled'], '.3f')}"
                      f"{span(values['interval'])}" for name, values in ccc.items())
    return [f"CCC over all clips   {each}"]
