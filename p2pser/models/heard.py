"""A model's figures for speakers outside its training, by the number of a speaker's clips that give the statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COUNTS = (0, 1, 2, 5, 10)
"""Numbers of a speaker's clips at which a model is measured, beside all of them."""


@dataclass(frozen=True)
class Heard:
    """A model's figures for speakers of whom ``clips`` clips give the statistics of their features.

    Attributes
    ----------
    clips : number of the speaker's clips; 0: the training statistics scale the features.
    temperature : the divisor of the logits.
    uar : UAR (a), the mean over folds.
    ece : expected calibration error, each speaker's logits scaled by the temperature of the others.
    confidence : the mean probability of the predicted emotion, scaled in the same way.
    """

    clips: int
    temperature: float
    uar: float
    ece: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)

    @classmethod
    def read(cls, documents: Any) -> tuple[Heard, ...]:
        """Return the figures that a card stores. Raises ValueError, TypeError or KeyError for other data."""
        figures = tuple(cls(int(each["clips"]), *(float(each[name]) for name in ("temperature", "uar", "ece",
                                                                                "confidence"))) for each in documents)
        if any(not 0 < each.temperature < math.inf for each in figures):
            raise ValueError("one of its temperatures is not above 0")
        if [each.clips for each in figures] != sorted({each.clips for each in figures}):
            raise ValueError("its numbers of clips heard do not ascend")
        if any(not 0 <= value <= 1 for each in figures for value in (each.uar, each.ece, each.confidence)):
            raise ValueError("its figures by clips heard are not shares")
        return figures


def nearest(known: Sequence[Heard], clips: int) -> Heard | None:
    """Return the figures for the largest number of clips that is not above ``clips``; None where there are none."""
    return max((each for each in known if each.clips <= clips), key=lambda each: each.clips, default=None)


def counts(clips_by_speaker: Mapping[str, int]) -> tuple[int, ...]:
    """Return the numbers of clips at which a model is measured: those of ``COUNTS`` below the median number of a
    speaker's clips, then that median.
    """
    ordered = sorted(clips_by_speaker.values())
    median = ordered[len(ordered) // 2] if ordered else 0
    return (*(count for count in COUNTS if count < median), *([median] if median else []))


def in_words(known: Iterable[Heard]) -> str:
    """Return the figures in one line."""
    return "   ".join(f"{each.clips}: {each.uar:.3f}, ECE {each.ece:.3f}" for each in known)
