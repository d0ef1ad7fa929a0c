"""What a client may ask of a recording, and what its answer may cost."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.base.wording import positive
from p2pser.features import decoding
from p2pser.inference import timeline
from p2pser.inference.predictor import LONGEST, Predictor, most_probable
from p2pser.inference.windows import SHORTEST_HOP
from p2pser.inference.words import unread, without_words
from p2pser.serve.forms import Body
from p2pser.serve.work import wanted

HIGHEST_RATE = 192_000
"""Rate up to which a recording may last as long as the limit says [Hz]; beyond, its samples are limited."""

OVERLAP = 20
"""In how many windows a sample may be: it bounds the work for one recording, as the shortest hop does."""

ONE_LABEL = "one label says little of so much speech: ask for windows (window=3)"
SHORTER = "cut it into parts"


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

    def answer(self, predictor: Predictor, body: Body, longest: float, left: threading.Event) -> dict[str, Any]:
        """Return the answer for a recording, or those for several, which are judged together as ``predict`` does.

        Raises CorpusError where it cannot be used or is longer than that [s], Gone soon after the event is set.
        """
        if self.window is not None and self.hop is not None:
            return self._windows(predictor, body, longest, left)
        predictor = copy.copy(predictor)  # its remarks are those of this question
        answers: list[dict[str, Any]] = [{} for _ in body.recordings]
        usable: list[int] = []
        for number, recording in enumerate(wanted(body.recordings, left)):
            try:
                _require_length(recording, min(longest, LONGEST), ONE_LABEL if longest > LONGEST else SHORTER, left)
                usable.append(number)
            except CorpusError as error:
                answers[number] = {"error": str(error)}
        errors: list[tuple[Path, str]] = []
        results = [most_probable(each.to_dict(), self.top_k) for each in predictor.each(
            wanted([body.recordings[number] for number in usable], left), errors=errors, together=body.several,
            texts=[body.texts[number] for number in usable])]
        for name, reason in errors:  # <recording 1>, …
            answers[usable[int(str(name)[len("<recording "):-1]) - 1]] = {"error": reason}
        for answer in answers:
            answer.update({} if answer else results.pop(0))
        if body.several:
            return {"note": predictor.note(), "remarks": [*predictor.remarks, *unread(predictor.card, body.texts)],
                    "predictions": answers}
        if "error" in answers[0]:
            raise CorpusError(answers[0]["error"])
        return {**answers[0], "note": _notes(predictor.note(), without_words(predictor.card, body.texts[0]),
                                             *unread(predictor.card, body.texts))}

    def _windows(self, predictor: Predictor, body: Body, longest: float, left: threading.Event) -> dict[str, Any]:
        if body.several or body.texts[0].strip():
            raise CorpusError("windows are of one recording, and which words are in which window is not known: send "
                              "one without a text, or leave window and hop out")
        assert self.window is not None
        assert self.hop is not None
        _require_length(body.recordings[0], longest, SHORTER, left)
        segments = timeline.timeline(predictor, body.recordings[0], window=self.window, hop=self.hop)
        return {"note": _notes(predictor.note(), without_words(predictor.card, windows=True)),
                "segments": [most_probable(each.to_dict(), self.top_k) for each in wanted(segments, left)]}


def _notes(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


def _require_length(recording: bytes, longest: float, advice: str, left: threading.Event) -> None:
    """Raise CorpusError where a recording is longer than that [s]: decoded, since a header may say anything."""
    with decoding.opened(recording) as decoder:
        frames, most = 0, longest * min(decoder.rate, HIGHEST_RATE)
        for block in wanted(decoder.blocks, left):
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
