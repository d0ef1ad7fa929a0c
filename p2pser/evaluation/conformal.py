"""The thresholds of prediction sets (``models.sets``), from speakers whom the model was not trained on.

A threshold comes from the probabilities that the model gave to these speakers' true emotions: least ambiguous sets
(Sadinle, Lei and Wasserman, JASA 2019), by split conformal prediction.

Clips of one speaker are not exchangeable with those of another; speakers are. So each speaker counts alike, whatever
the number of clips: covered is the mean over speakers of the share of their clips whose set holds the true emotion.
What that mean may be too high by, as it is of few speakers, is taken off: Student's t times the standard error, which
is too little in one case of six. That is an estimate. A bound that holds whatever the distribution (Lee, Barber and
Willett, "Distribution-free inference with hierarchical data", 2023) counts one more speaker who is never covered: with
9 speakers its sets at 90 % hold nearly all emotions (docs/results.md).

What the thresholds follow from is a row of numbers that adds up over peers: for all speakers, the women and the men
their number, their clips, and at each edge of a fixed grid the sum over speakers of the share of clips above it, and of
its square; then the share of clips beyond each of some distances. No clip and no speaker is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.evaluation.calibration import probabilities, scaled
from p2pser.evaluation.metrics import Predictions
from p2pser.models.heard import Heard, nearest
from p2pser.models.sets import LEVELS, Sets

GROUPS = ("", "f", "m")
"""The groups that a row counts: all speakers, women, men."""

EDGES: NDArray[np.float64] = 1 / (1 + np.exp(-np.linspace(-8, 8, 257)))
"""The grid of probabilities: equal steps of log-odds, .06 apart."""

DISTANCES: NDArray[np.float64] = np.geomspace(0.5, 8.0, 129)
"""The grid of distances, 2 % apart."""

WIDTH = 2 + 2 * len(EDGES)
LENGTH = len(GROUPS) * WIDTH + len(DISTANCES)
"""Length of a group's part of a row, and of a row."""

SURE = 0.84
"""One-sided confidence of the mean over speakers: one standard error, of many speakers."""

BEYOND, MARGIN = 0.005, 1.118
"""So large a share of the clips of new speakers may be beyond a distance; this many times that is unlike them."""

ROUNDED = 1e-7
"""So much may a share lack of a limit: rows that peers add up are rounded (``evaluation.held_out``)."""

Float64 = NDArray[np.float64]


def counts(predictions: Predictions, distances: Float64 | None = None) -> Float64:
    """Return a row (LENGTH,) that adds up over peers with other speakers.

    distances : (n,) of the clips (``features.unlike``); None: not known. Raises ValueError where the predictions have
    no logits.
    """
    chances = probabilities(predictions)[np.arange(len(predictions.targets)), predictions.targets]
    _, first, names = np.unique(predictions.speakers, return_index=True, return_inverse=True)
    above, clips = _above(chances, EDGES, names), np.bincount(names)
    genders = np.asarray([predictions.genders[index] for index in first] if predictions.genders else [""] * len(clips))
    row = [np.concatenate([[own.sum(), clips[own].sum()], above[own].sum(axis=0), (above[own] ** 2).sum(axis=0)])
           for own in (np.full(len(clips), True) if not group else genders == group for group in GROUPS)]
    beyond = np.zeros(len(DISTANCES)) if distances is None else _above(distances, DISTANCES, names).sum(axis=0)
    return np.concatenate([*row, beyond])


def _above(values: Float64, edges: Float64, names: NDArray[np.int64]) -> Float64:
    """Return the share of each speaker's values that are at or above each edge, (speakers, edges)."""
    clips = np.bincount(names)
    table = np.zeros((len(clips), len(edges) + 1))
    np.add.at(table, (names, np.searchsorted(edges, values, side="right")), 1 / clips[names])
    return np.asarray(np.cumsum(table[:, ::-1], axis=1)[:, ::-1][:, 1:])


def sets_of(row: ArrayLike, how: str) -> Sets | None:
    """Return the sets of a row of ``counts``, or of a sum of such rows; None where it counts no speaker.

    how : whose clips these were, in words.
    """
    values = np.asarray(row, dtype=np.float64)
    parts, beyond = values[: len(GROUPS) * WIDTH].reshape(len(GROUPS), WIDTH), values[len(GROUPS) * WIDTH :]
    speakers = round(float(parts[0, 0]))
    if speakers < 1:
        return None
    thresholds = {level: _threshold(parts[0], level) for level in LEVELS}
    groups = {group or "all": part for group, part in zip(GROUPS, parts) if round(float(part[0])) > 0}
    covered = {group: {f"{level:g}": _covered(part, least) for level, least in thresholds.items()}
               for group, part in groups.items()}
    few = np.flatnonzero(beyond <= (BEYOND + ROUNDED) * speakers)
    far = MARGIN * float(DISTANCES[few[0]]) if beyond.any() and len(few) else None
    return Sets(thresholds, speakers, round(float(parts[0, 1])), how, far, covered)


def calibrated(several: Sequence[Float64], how: str) -> Sets | None:
    """Return the sets of rows of ``counts`` of different speakers."""
    return sets_of(np.sum(several, axis=0), how) if len(several) else None


def sets_by_clips_heard(by_count: Mapping[int, Sequence[Predictions]], heard: Sequence[Heard], how: str,
                        apart: Sequence[Float64 | None]) -> tuple[Sets, ...]:
    """Return the sets for each number of a speaker's clips that give the statistics.

    Parameters
    ----------
    by_count : by that number, predictions for different speakers whom the model was not trained on, with logits.
    heard : the temperatures by the same numbers.
    how : whose clips these are, in words.
    apart : how far the clips of each of these predictions are from the training's; None: not known.
    """
    result = []
    for count, several in sorted(by_count.items()):
        known = nearest(heard, count)
        rows = [counts(scaled(each, 1.0 if known is None else known.temperature), far)
                for each, far in zip(several, apart)]
        if (sets := calibrated(rows, how)) is not None:
            result.append(replace(sets, heard=count))
    return tuple(result)


def _threshold(part: Float64, level: float) -> float:
    """Return the largest edge above which the speakers' mean share, less its possible error, is at least ``level``."""
    from scipy.special import stdtrit

    speakers = round(float(part[0]))
    if speakers < 2:
        return 0.0
    mean, error = _mean(part)
    enough = np.flatnonzero(mean - float(stdtrit(speakers - 1, SURE)) * error >= level - ROUNDED)
    return float(EDGES[enough[-1]]) if len(enough) else 0.0


def _mean(part: Float64) -> tuple[Float64, Float64]:
    """Return the mean over speakers of the share above each edge, and its standard error."""
    speakers, size = float(part[0]), len(EDGES)
    mean = part[2 : 2 + size] / speakers
    spread = np.maximum(part[2 + size :] / speakers - mean**2, 0)
    return mean, np.sqrt(spread / max(speakers - 1, 1.0))


def _covered(part: Float64, least: float) -> dict[str, Any]:
    speakers = round(float(part[0]))
    if least <= 0:
        return around(1.0, math.nan, speakers)
    mean, error = _mean(part)
    place = int(np.argmin(np.abs(EDGES - least)))
    return around(float(mean[place]), float(error[place]), speakers)


def around(share: float, error: float, speakers: int) -> dict[str, Any]:
    """Return a share, mean over speakers, with its 95 % interval over them (Student's t, cut to 0 .. 1), as plain data;
    the interval is None where there is one speaker or the error is not known.
    """
    from scipy.special import stdtrit

    interval = None
    if speakers > 1 and math.isfinite(error):
        reach = float(stdtrit(speakers - 1, 0.975)) * error
        interval = [max(0.0, share - reach), min(1.0, share + reach)]
    return {"covered": share, "interval": interval, "speakers": speakers}
