"""What speakers outside its training say of a model's probabilities, as cards and summaries hold it. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2pser.models.heard import Heard, in_words
from p2pser.models.sets import Sets, sets_in_words


@dataclass(frozen=True)
class Calibrated:
    """What the held-out speakers say of a model.

    how : whose clips these were, or why there are none, in words; "" where no calibration was asked for.
    temperature : what logits are divided by; None: it is not known.
    heard, sets : figures, temperatures and sets of emotions by the number of clips heard of a speaker.
    """

    how: str = ""
    temperature: float | None = None
    heard: tuple[Heard, ...] = ()
    sets: tuple[Sets, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; ``calibration`` is ``how``."""
        return {"calibration": self.how, "temperature": self.temperature,
                "heard": [each.to_dict() for each in self.heard], "sets": [each.to_dict() for each in self.sets]}

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
