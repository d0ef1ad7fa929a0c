"""How often sets of emotions hold the right one, how large they are, and what is left unanswered: overall, by group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.wording import counted, span
from p2pser.evaluation import conformal
from p2pser.evaluation.calibration import by_others, probabilities
from p2pser.evaluation.metrics import Predictions
from p2pser.models.sets import FEWEST, LEVELS, USUAL, Sets, members, most

Thresholds = Mapping[float, NDArray[np.float64]]
"""By level the threshold of each clip's set, (n,)."""


def thresholds(sets: Sets, clips: int) -> Thresholds:
    """Return the thresholds of so many clips, all of one model."""
    return {level: np.full(clips, sets.threshold(level)) for level in LEVELS}


def by_other_speakers(predictions: Predictions) -> tuple[Predictions, Thresholds]:
    """Return the predictions and thresholds as calibration on the other speakers makes them, for each speaker.

    So the clips of a calibration can also show its effect. Raises ValueError where the predictions have no logits or
    one speaker.
    """
    scaled, names = by_others(predictions), np.asarray(predictions.speakers)
    least = {level: np.zeros(len(names)) for level in LEVELS}
    rows = {name: conformal.counts(scaled.take(np.flatnonzero(names == name))) for name in np.unique(names)}
    whole = np.sum(list(rows.values()), axis=0)
    for name, row in rows.items():
        sets = conformal.sets_of(whole - row, "")
        for level in LEVELS:
            least[level][names == name] = sets.threshold(level) if sets is not None else 0.0
    return scaled, least


def coverage(predictions: Predictions, least: Thresholds, *, unlike: NDArray[np.bool_] | None = None,
             groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Return the figures of sets, as plain data.

    ``levels``: for each level ``covered`` (mean over speakers, with its interval), mean ``size``, the shares answered
    by ``one`` label and ``unsure``, and the accuracy of the label where it is ``right_one`` of one, or
    ``right_answered`` of any answer that is not unsure (None where there is none). ``groups``: covered at 90 %.

    Parameters
    ----------
    predictions : with logits that are scaled as the model's probabilities are.
    least : the threshold of each clip's set, by level.
    unlike : (n,) whether a clip is unlike those of the training; None: none is.
    groups : names to the group of each clip, () or "" where it is not known; beside the sex.
    """
    chances, rows = probabilities(predictions), np.arange(len(predictions.targets))
    hit = chances.argmax(axis=1) == predictions.targets
    far = np.zeros(len(rows), dtype=bool) if unlike is None else unlike
    levels, held = {}, {}
    for level in LEVELS:
        inside = members(chances, least[level][:, None])
        size = inside.sum(axis=1)
        unsure = far | (size > most(predictions.classes))
        single = ~unsure & (size == 1)
        held[level] = inside[rows, predictions.targets]
        levels[f"{level:g}"] = {
            **over_speakers(held[level], predictions.speakers), "size": float(size.mean()), "one": float(single.mean()),
            "unsure": float(unsure.mean()), "right_one": _share(hit[single]), "right_answered": _share(hit[~unsure])}
    named = {"sex": predictions.genders, **(groups or {})}
    return {"levels": levels, "accuracy": float(hit.mean()),
            "groups": {name: figures for name, values in named.items()
                       if (figures := _by_group(held[USUAL], predictions.speakers, values))}}


def over_speakers(held: NDArray[np.bool_], speakers: Sequence[str]) -> dict[str, Any]:
    """Return the mean over speakers of the share of their clips that are held, with its 95 % interval over speakers."""
    names = np.unique(speakers, return_inverse=True)[1]
    shares = np.bincount(names, held) / np.bincount(names)
    error = float(shares.std(ddof=1) / math.sqrt(len(shares))) if len(shares) > 1 else math.nan
    return {**conformal.around(float(shares.mean()), error, len(shares)), "clips": len(held)}


def _by_group(held: NDArray[np.bool_], speakers: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    names = sorted(set(values) - {""})
    places = {name: np.flatnonzero(np.asarray(values) == name) for name in names}
    return {name: over_speakers(held[own], [speakers[int(place)] for place in own]) for name, own in places.items()}


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of ``coverage`` as text."""
    for level, sets in figures["levels"].items():
        right = "" if sets["right_answered"] is None else f", accuracy of the others {sets['right_answered']:.3f}"
        yield (f"sets at {100 * float(level):g} %   hold the right emotion {_covered(sets)}, {sets['size']:.2f} "
               f"emotions, one {sets['one']:.2f}, not sure {sets['unsure']:.2f}{right}")
    for name, groups in figures["groups"].items():
        each = "   ".join(f"{group} {_covered(share)} ({share['speakers']} speakers)"
                          if share["speakers"] >= FEWEST else
                          f"{group} {share['covered']:.3f} ({counted(share['speakers'], 'speaker')}: too "
                          "few for an interval)" for group, share in groups.items())
        yield f"sets at 90 % by {name}   {each}"


def _covered(share: Mapping[str, Any]) -> str:
    return f"{share['covered']:.3f}{span(share['interval'])}"
