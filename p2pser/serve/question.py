"""What a client may ask of a recording, and what its answer may cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.base.wording import positive
from p2pser.features import decoding
from p2pser.inference import timeline
from p2pser.inference.predictor import LONGEST, Predictor, most_probable

HIGHEST_RATE = 192_000
"""Rate up to which a recording may last as long as the limit says [Hz]; beyond, its samples are limited."""

SHORTEST_HOP, OVERLAP = 0.1, 20
"""The shortest hop [s], and in how many windows a sample may be: they bound the work for one recording."""


@dataclass(frozen=True)
class Question:
    """What a client asks of a recording: windows of ``window`` every ``hop`` seconds, or, where both are None, one
    answer; of each the ``top_k`` most probable emotions, or all.
    """

    top_k: int | None = None
    window: float | None = None
    hop: float | None = None

    def __post_init__(self) -> None:
        if self.hop is not None and self.window is not None and self.hop < max(SHORTEST_HOP, self.window / OVERLAP):
            raise CorpusError(f"a hop of {self.hop:g} s is too short here: give {SHORTEST_HOP:g} s or more, and a "
                              f"{OVERLAP}th of the window or more")

    def answer(self, predictor: Predictor, recording: bytes, longest: float) -> dict[str, Any]:
        """Return the answer for a recording. Raises CorpusError where it cannot be used or is longer than that [s]."""
        if self.window is None and longest > LONGEST:
            _require_length(recording, LONGEST, "one label says little of so much speech: ask for windows (window=3)")
        else:
            _require_length(recording, longest, "cut it into parts")
        shorten = functools.partial(most_probable, top_k=self.top_k)
        if self.window is not None and self.hop is not None:
            segments = timeline.timeline(predictor, recording, window=self.window, hop=self.hop)
            return {"note": predictor.note(), "segments": [shorten(segment.to_dict()) for segment in segments]}
        errors: list[tuple[Path, str]] = []
        for prediction in predictor.each([recording], errors=errors):
            return {**shorten(prediction.to_dict()), "note": predictor.note()}
        raise CorpusError(errors[0][1])


def _require_length(recording: bytes, longest: float, advice: str) -> None:
    """Raise CorpusError where a recording is longer than that [s]: decoded, since a header may say anything."""
    with decoding.opened(recording) as decoder:
        frames, most = 0, longest * min(decoder.rate, HIGHEST_RATE)
        for block in decoder.blocks:
            frames += len(block)
            if frames > most:
                raise CorpusError(f"it is longer than {longest:g} s: {advice}")


def asked(query: Mapping[str, str]) -> Question:
    """Return the question that a query asks. Raises CorpusError where a parameter is unknown or no such number."""
    unknown = sorted(query.keys() - {"top_k", "window", "hop"})
    if unknown:
        raise CorpusError(f"there is no parameter {unknown[0][:40]!r}: there are top_k, window and hop")
    numbers = {name: number(name, text) for name, text in query.items()}
    top_k, window, hop = numbers.get("top_k"), numbers.get("window"), numbers.get("hop")
    if top_k is not None and top_k != int(top_k):
        raise CorpusError("top_k is a whole number")
    if window is not None or hop is not None:
        window = timeline.WINDOW if window is None else window
        hop = max(min(timeline.HOP, window), window / OVERLAP) if hop is None else hop
    return Question(None if top_k is None else int(top_k), window, hop)


def number(name: str, text: str) -> float:
    """Return the number that a parameter gives. Raises CorpusError where it is none, or not above 0."""
    if (value := positive(text)) is None:
        raise CorpusError(f"{name} is a number above 0")
    return value
