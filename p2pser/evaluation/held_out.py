"""Calibration by sums: what each peer says of the speakers whom it held out of training adds up over the peers.

Three rows of whole numbers, one after another, as each needs the sums of those before:

1. who is there: 1, the speakers and the clips of a peer that holds speakers out;
2. for each number of a speaker's clips that give the statistics, the negative log-likelihood of the true emotions at
   each temperature of a grid. From the sum follows the temperature of all speakers, and for each speaker that of the
   others: the peer takes its own speaker's part off;
3. at these temperatures the clips and the recognised clips by emotion, the clips, recognised clips and confidence by
   interval of confidence, and the row of ``evaluation.conformal``.

They are whole numbers in small units, so the sum is exact in whatever order and way it is made, and the same at all
peers to the last bit. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pser.evaluation import conformal
from p2pser.evaluation.calibration import BINS, COLDEST, HOTTEST, probabilities, scaled
from p2pser.evaluation.conformal import sets_of
from p2pser.evaluation.metrics import Predictions
from p2pser.models.heard import COUNTS, Heard
from p2pser.models.sets import Sets

Whole: TypeAlias = NDArray[np.int64]

GRID: NDArray[np.float64] = np.linspace(math.log(COLDEST), math.log(HOTTEST), 241)
"""Logarithms of temperatures, 2.5 % apart; between two of them the likelihood is taken for a parabola."""

NAT, SHARE = 2.0**12, 2.0**26
"""The units: parts of a nat of likelihood, and of a share or a clip."""

FEWEST = 2
"""Speakers from whom figures come: the temperature of each is that of the others."""


def who(speakers: int, clips: int) -> Whole:
    """Return the first row (3,): 1, speakers and clips; zeros of a peer that holds none out."""
    return np.array([int(clips > 0), speakers, clips], dtype=np.int64)


def numbers_heard(speakers: int, clips: int) -> tuple[int, ...]:
    """Return the numbers of clips heard of a speaker at which a model is measured: those of ``COUNTS`` below the mean
    number of a speaker's clips, then that mean, which stands for all of a speaker's clips.
    """
    mean = max(1, round(clips / speakers))
    return (*(count for count in COUNTS if count < mean), mean)


def likelihoods(predictions: Predictions) -> tuple[tuple[str, ...], Whole]:
    """Return the speakers, and the negative log-likelihood of each one's emotions at the temperatures of ``GRID``,
    (speakers, GRID) [1 / NAT nat].
    """
    from scipy.special import log_softmax

    raw, rows = np.asarray(predictions.logits, dtype=np.float64), np.arange(len(predictions.targets))
    each = np.stack([-log_softmax(raw / math.exp(log), axis=1)[rows, predictions.targets] for log in GRID], axis=1)
    names, place = np.unique(predictions.speakers, return_inverse=True)
    total = np.zeros((len(names), len(GRID)))
    np.add.at(total, place, each)
    return tuple(map(str, names)), np.rint(NAT * total).astype(np.int64)


def temperature(sums: Whole) -> float:
    """Return the temperature of the largest likelihood, from sums (GRID,) of ``likelihoods``."""
    k = int(np.argmin(sums))
    if k in (0, len(GRID) - 1):
        return math.exp(float(GRID[k]))
    left, middle, right = map(float, sums[k - 1 : k + 2])
    bend = left - 2 * middle + right
    shift = 0.0 if bend <= 0 else (left - right) / (2 * bend)
    return math.exp(float(GRID[k]) + shift * float(GRID[1] - GRID[0]))


def figures(predictions: Predictions, common: float, of_others: Mapping[str, float],
            distances: NDArray[np.float64] | None) -> Whole:
    """Return the third row for one number of clips heard, (``length``,).

    predictions : with logits, not scaled. common : the temperature of all speakers, of the sets. of_others : by speaker
    the temperature of the others. distances : (n,) of the clips (``features.unlike``); None: not known.
    """
    by_clip = np.array([of_others[name] for name in predictions.speakers])
    chances = probabilities(replace(predictions, logits=np.asarray(predictions.logits) / by_clip[:, None]))
    confidence, hit = chances.max(axis=1), chances.argmax(axis=1) == predictions.targets
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return np.concatenate([
        np.bincount(predictions.targets, minlength=predictions.classes),
        np.bincount(predictions.targets[hit], minlength=predictions.classes),
        np.bincount(place, minlength=BINS), np.bincount(place[hit], minlength=BINS),
        np.rint(SHARE * np.bincount(place, confidence, BINS)),
        np.rint(SHARE * conformal.counts(scaled(predictions, common), distances))]).astype(np.int64)


def length(classes: int) -> int:
    """Return the length of a row of ``figures``."""
    return 2 * classes + 3 * BINS + conformal.LENGTH


def read(row: Whole, classes: int, clips_heard: int, common: float, how: str) -> tuple[Heard, Sets | None]:
    """Return what a sum (``length``,) of ``figures`` says, for speakers of whom so many clips were heard."""
    parts = np.split(row, np.cumsum([classes, classes, BINS, BINS, BINS]))
    there, right, clips, hits, confidence = (part.astype(np.float64) for part in parts[:5])
    confidence /= SHARE
    known = there > 0
    heard = Heard(clips_heard, common, float(np.mean(right[known] / there[known])),
                  float(np.abs(hits - confidence).sum() / clips.sum()), float(confidence.sum() / clips.sum()))
    sets = sets_of(parts[5] / SHARE, how)
    return heard, None if sets is None else replace(sets, heard=clips_heard)


def readable(heard: Sequence[Heard], sets: Sequence[Sets]) -> bool:
    """Whether a card with these can be read: a peer that lies can bend the sums to anything."""
    try:
        Heard.read([each.to_dict() for each in heard])
        Sets.read([each.to_dict() for each in sets])
        return True
    except (ValueError, TypeError, KeyError):
        return False
