"""Prediction sets of emotions in a model's card, and the distance of clips that are unlike the training. numpy only.

``evaluation.conformal`` computes the thresholds. A set holds each emotion whose probability is at least a threshold,
and always the most probable emotion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.base.wording import counted, span

LEVELS = (0.8, 0.9, 0.95)
"""The levels (shares of sets that hold the true emotion) for which a card has thresholds."""

USUAL = 0.9
"""The default level of predictions."""

FEWEST = 5
"""Number of speakers of the calibration below which the levels are unreliable."""


@dataclass(frozen=True)
class Sets:
    """The calibration of prediction sets.

    Attributes
    ----------
    thresholds : by level: an emotion is in the set where its probability is at least this; 0 where the speakers of the
        calibration do not show the level, so that all emotions are.
    speakers, clips : numbers of the calibration's speakers and clips.
    how : the origin of these clips, in words.
    far : the distance from the training's clips beyond which a clip is unlike them, as the training's statistics scale
        it (``features.unlike.distances``); None: not known.
    covered : the share of clips whose set held the true emotion, by group (all, f, m) and level.
    heard : number of a speaker's clips that gave the statistics (``models.heard``).
    """

    thresholds: Mapping[float, float]
    speakers: int
    clips: int
    how: str = ""
    far: float | None = None
    covered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heard: int = 0

    def threshold(self, level: float) -> float:
        """Return the threshold of a level; for a level between two known ones, that of the higher."""
        return self.thresholds[min(known for known in self.thresholds if known >= level - 1e-9)]

    def note(self) -> str:
        """Return a sentence on the validity of the levels."""
        speakers = f"{counted(self.speakers, 'speaker')} ({counted(self.clips, 'clip')})"
        if lost := [f"{100 * level:g} %" for level in LEVELS if not self.thresholds[level]]:
            return f"calibrated on {speakers}, too few to show {' and '.join(lost)}: these sets hold every emotion"
        few = f"; with fewer than {FEWEST} speakers they are unreliable" if self.speakers < FEWEST else ""
        return (f"calibrated on {speakers}, each speaker counting alike; the levels are of new speakers recorded "
                f"alike{few}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for a card."""
        return {"heard": self.heard, "thresholds": {f"{level:g}": value for level, value in self.thresholds.items()},
                "speakers": self.speakers, "clips": self.clips, "how": self.how, "furthest": self.far,
                "covered": dict(self.covered), "note": self.note()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Sets:
        """Return the sets of ``to_dict``. Raises ValueError, KeyError, TypeError or AttributeError for other data."""
        thresholds = {float(level): float(value) for level, value in document["thresholds"].items()}
        if not set(LEVELS) <= set(thresholds) or not all(0 < k < 1 and 0 <= v <= 1 for k, v in thresholds.items()):
            raise ValueError("the thresholds of its prediction sets are no probabilities")
        far = None if document.get("furthest") is None else float(document["furthest"])
        if document.get("far") is not None:  # written before, as the square of a distance
            far = math.sqrt(max(0.0, float(document["far"])))
        if far is not None and not 0 < far < math.inf:
            raise ValueError(f"its largest usual distance is {far}")
        return cls(thresholds, int(document["speakers"]), int(document["clips"]), str(document.get("how", "")), far,
                   dict(document.get("covered", {})), int(document.get("heard", 0)))

    @classmethod
    def read(cls, documents: Any) -> tuple[Sets, ...]:
        """Return the sets that a card stores; raises as ``from_dict``."""
        return tuple(cls.from_dict(document) for document in documents)


def sets_in_words(document: Mapping[str, Any]) -> str:
    """Return a line on the coverage of the calibration's clips; ``document`` is that of ``Sets.to_dict``."""
    levels = "   ".join(f"{100 * float(level):g} %: {share['covered']:.3f}{span(share['interval'])}"
                        for level, share in document["covered"].get("all", {}).items())
    heard = counted(document["heard"], "clip")
    return f"sets of emotions that hold the right one, {heard} heard   {levels}; {document['note']}"


def members(chances: ArrayLike, least: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the members of prediction sets, (n, classes) bool: the emotions whose probability in ``chances``
    (n, classes) is at least ``least``, a number or (n, 1), and the most probable one.
    """
    values = np.asarray(chances, dtype=np.float64)
    inside: NDArray[np.bool_] = values >= least
    inside[np.arange(len(values)), values.argmax(axis=1)] = True
    return inside


def most(classes: int) -> int:
    """Return the largest number of emotions in a set for which the answer is not "not sure": half of all."""
    return max(1, classes // 2)


def why_unsure(possible: int, classes: int, coverage: float, distance: float, far: float | None) -> str:
    """Return why an answer is not to be relied on: of so many possible emotions, at this distance; "" where it is."""
    if far is not None and distance > far:
        return f"unlike the recordings of the training (distance {distance:.1f}, usual up to {far:.1f})"
    return f"{possible} of {classes} emotions are possible at {100 * coverage:g} %" if possible > most(classes) else ""
