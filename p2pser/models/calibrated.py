"""The calibration of a model on speakers outside its training, as cards and summaries hold it. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2pser.models.heard import Heard, in_words
from p2pser.models.sets import Sets, sets_in_words


@dataclass(frozen=True)
class Calibrated:
    """The calibration of a model on held-out speakers.

    how : the clips of the calibration, or why there is none, in words; "" where none was asked for.
    temperature : the divisor of the logits; None: not known.
    heard, sets : figures, temperatures and sets of emotions by the number of a speaker's clips that give the
        statistics of their features.
    """

    how: str = ""
    temperature: float | None = None
    heard: tuple[Heard, ...] = ()
    sets: tuple[Sets, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; ``calibration`` is ``how``."""
        return {"calibration": self.how, "temperature": self.temperature,
                "heard": [figures.to_dict() for figures in self.heard], "sets": [sets.to_dict() for sets in self.sets]}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Calibrated:
        """Return what ``to_dict`` holds."""
        return cls(document["calibration"], document["temperature"], Heard.read(document["heard"]),
                   Sets.read(document["sets"]))

    def lines(self) -> Iterator[str]:
        """Yield the calibration in words."""
        if self.temperature is None:
            if self.how:
                yield f"calibration: {self.how}"
            return
        yield f"temperature of the probabilities {self.temperature:.2f}, fitted on {self.how}"
        if self.heard:
            yield "there, UAR and ECE by the number of clips heard of a speaker   " + in_words(self.heard)
        for sets in self.sets:
            yield sets_in_words(sets.to_dict())


NOT_ASKED = Calibrated()
