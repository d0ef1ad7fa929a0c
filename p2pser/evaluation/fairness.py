"""Fairness: UAR by gender, the gap between the genders, and the speaker with the lowest UAR. numpy only.

Given several predictions (of several seeds, or of several peers' models) all figures are means over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pser.base import seeding
from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import RESAMPLES, Interval, Predictions

GENDERS = ("f", "m")


@dataclass(frozen=True)
class Group:
    """UAR (a) of a group of speakers, its 95 % interval over them, and how many speakers and clips there are."""

    uar: float
    interval: Interval
    speakers: int
    clips: int


@dataclass(frozen=True)
class Gender:
    """The two genders of a corpus. gap: UAR of women minus UAR of men, with its interval (speakers of either gender
    resampled apart).
    """

    groups: dict[str, Group]
    gap: float
    gap_interval: Interval


@dataclass(frozen=True)
class Worst:
    """The speaker with the lowest UAR over the emotions that the speaker has, with the 95 % interval under resampling
    of that speaker's clips within each emotion. As the lowest of several, the UAR would be higher on new clips.
    """

    speaker: str
    uar: float
    interval: Interval
    clips: int


def by_gender(several: Sequence[Predictions], *, seed: int = 0) -> Gender | None:
    """Return UAR (a) by gender and the gap; None where genders are not known or there is only one."""
    first = several[0]
    genders = np.asarray(first.genders)
    if not set(GENDERS) <= set(first.genders):
        return None
    groups, draws = {}, {}
    for gender in GENDERS:
        places = np.flatnonzero(genders == gender)
        parts = [predictions.take(places) for predictions in several]
        # With one key and as many women as men, both would be drawn in step.
        draws[gender] = metrics.resampled(parts, seed=seed, purpose=f"bootstrap {gender}")
        groups[gender] = Group(float(np.mean([metrics.uar_folds(part) for part in parts])),
                               metrics.interval(draws[gender]), len(set(parts[0].speakers)), len(places))
    women, men = (draws[gender] for gender in GENDERS)
    # A gender with one speaker has nothing to resample, so the gap has no interval either.
    gap = women - men if len(women) and len(men) else np.zeros(0)
    return Gender(groups, groups["f"].uar - groups["m"].uar, metrics.interval(gap))


def by_speaker(several: Sequence[Predictions]) -> dict[str, float]:
    """Return each speaker's UAR over the emotions that the speaker has, speakers sorted."""
    names = np.asarray(several[0].speakers)
    return {str(speaker): float(np.mean([metrics.uar_pooled(predictions.take(np.flatnonzero(names == speaker)))
                                         for predictions in several]))
            for speaker in np.unique(names)}


def worst(several: Sequence[Predictions], *, seed: int = 0) -> Worst:
    """Return the speaker with the lowest UAR; the first by name of equals."""
    scores = by_speaker(several)
    speaker = min(scores, key=lambda name: scores[name])
    places = np.flatnonzero(np.asarray(several[0].speakers) == speaker)
    targets = several[0].targets[places]
    hit = np.mean([predictions.predicted[places] == targets for predictions in several], axis=0)
    generator = seeding.generator(seed, f"clips of {speaker}")
    recalls = []
    for label in np.unique(targets):
        own = hit[targets == label]
        recalls.append(own[generator.integers(0, len(own), (RESAMPLES, len(own)))].mean(axis=1))
    return Worst(speaker, scores[speaker], metrics.interval(np.mean(recalls, axis=0)), len(places))
