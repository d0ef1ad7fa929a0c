"""Answers: the emotion of some speech, and whether it is to be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pser.base.arguments import check
from p2pser.base.frames import frame

if TYPE_CHECKING:
    import pandas

NOT_SURE = "not sure"


@dataclass(frozen=True)
class Answer:
    """The emotion of some speech, as a model rates it, and whether it is to be relied on.

    Attributes
    ----------
    label : the most probable emotion; of a model that rates dimensions only, the emotion with the nearest dimensions
        (for display).
    probabilities : of each emotion, sum 1, in the model's order; empty where the model has no emotions.
    dimensions : arousal, valence and dominance, from -1 to 1; empty where the model does not rate them.
    emotions : those among which the right one is at ``coverage``, most probable first; empty where the model was not
        calibrated for it.
    coverage : in so large a share of clips of new speakers the right emotion is among ``emotions``.
    unsure : why the label is not to be relied on, in words: there is no speech, the recording is unlike those of the
        training, or too many emotions are possible; "" where it is.
    """

    label: str
    probabilities: dict[str, float]
    dimensions: dict[str, float]
    emotions: tuple[str, ...] = ()
    coverage: float | None = None
    unsure: str = ""

    @property
    def sure(self) -> bool:
        """Whether there is no reason to distrust the label, or the set of emotions."""
        return not self.unsure

    @property
    def answer(self) -> str:
        """What to tell a person: the label, the set ("anger or fear"), or "not sure"."""
        return NOT_SURE if self.unsure else " or ".join(self.emotions or (self.label,))

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data."""
        return {"label": self.label, "probabilities": self.probabilities, "dimensions": self.dimensions,
                "answer": self.answer, "set": list(self.emotions) or None, "coverage": self.coverage,
                "sure": self.sure, "reason": self.unsure or None}

    def refused(self, reason: str | None) -> Answer:
        """Return the answer, unsure where there is a reason to think that the recording holds no speech."""
        return self if reason is None else replace(self, emotions=(), coverage=None, unsure=f"no speech: {reason}")

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the ``k`` most probable emotions with their probabilities, most probable first."""
        check(Answer.top, locals(), k=(0, None))
        return ranked(self.probabilities, k)


def ranked(probabilities: Mapping[str, float], k: int | None) -> list[tuple[str, float]]:
    """Return the ``k`` most probable emotions with their probabilities, most probable first; all if None."""
    return sorted(probabilities.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class Prediction(Answer):
    """The answer for one recording; ``path`` is None where it is no file."""

    path: Path | None = None


class Predictions(list[Prediction]):
    """The answers for several recordings."""

    def to_frame(self) -> pandas.DataFrame:
        """Return a line per recording: ``path``, ``label``, ``probabilities.anger``, …, ``dimensions.arousal``, ….

        Raises ConfigError where pandas is not installed.
        """
        return frame([{"path": each.path and str(each.path), **each.to_dict()} for each in self])
