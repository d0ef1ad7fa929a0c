"""Whom a model serves worse: UAR by gender, the gap between them, and the worst served speaker. numpy only.

All figures are means over several predictions (of several seeds, or of several peers' models) where there are.
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
    """The speaker with the lowest UAR over the emotions that they have, with the 95 % interval under resampling of
    that speaker's clips within each emotion. It was chosen for being the lowest: on new clips it would be higher.
    """

    speaker: str
    uar: float
    interval: Interval
    clips: int


def by_gender(several: Sequence[Predictions], *, resamples: int = RESAMPLES, seed: int = 0) -> Gender | None:
    """Return UAR (a) by gender and the gap; None where genders are not known or only one is there."""
    first = several[0]
    genders = np.asarray(first.genders)
    if not set(GENDERS) <= set(first.genders):
        return None
    groups, draws = {}, {}
    for gender in GENDERS:
        places = np.flatnonzero(genders == gender)
        parts = [one.take(places) for one in several]
        # Keyed apart: with as many women as men they would otherwise be drawn in step.
        draws[gender] = metrics.resampled(parts, resamples=resamples, seed=seed, purpose=f"bootstrap {gender}")
        groups[gender] = Group(float(np.mean([metrics.uar_folds(one) for one in parts])),
                               metrics.interval(draws[gender]), len(set(parts[0].speakers)), len(places))
    one, other = (draws[gender] for gender in GENDERS)
    # One speaker of a gender: nothing to resample there, so the gap has no interval either.
    gap = one - other if len(one) and len(other) else np.zeros(0)
    return Gender(groups, groups["f"].uar - groups["m"].uar, metrics.interval(gap))


def by_speaker(several: Sequence[Predictions]) -> dict[str, float]:
    """Return each speaker's UAR over the emotions that they have, speakers sorted."""
    names = np.asarray(several[0].speakers)
    return {str(speaker): float(np.mean([metrics.uar_pooled(one.take(np.flatnonzero(names == speaker)))
                                         for one in several]))
            for speaker in np.unique(names)}


def worst(several: Sequence[Predictions], *, resamples: int = RESAMPLES, seed: int = 0) -> Worst:
    """Return the speaker whom the model serves worst; the first in order of equals."""
    scores = by_speaker(several)
    speaker = min(scores, key=lambda name: scores[name])
    places = np.flatnonzero(np.asarray(several[0].speakers) == speaker)
    targets = several[0].targets[places]
    hit = np.mean([one.predicted[places] == targets for one in several], axis=0)
    generator = seeding.generator(seed, f"clips of {speaker}")
    recalls = []
    for label in np.unique(targets):
        own = hit[targets == label]
        recalls.append(own[generator.integers(0, len(own), (resamples, len(own)))].mean(axis=1))
    return Worst(speaker, scores[speaker], metrics.interval(np.mean(recalls, axis=0)), len(places))
