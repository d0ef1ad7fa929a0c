"""Emotion over time: answers for the windows of a long recording or of a stream.

Each window is answered by itself; nothing is smoothed beyond the overlap of the windows. A silent window has no label:
the label that a network gives to silence means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.base.arguments import check
from p2pser.base.errors import CorpusError
from p2pser.base.frames import frame
from p2pser.features import audio
from p2pser.features.normalisation import Statistics, known_by
from p2pser.features.samples import checked_rate, scaled
from p2pser.inference.answers import Answer
from p2pser.inference.predictor import Predictor
from p2pser.inference.windows import Resampler, Window, Windower, windows

if TYPE_CHECKING:
    import pandas

WINDOW, HOP = 3.0, 1.0
"""Length of a window, and time from the beginning of one to that of the next [s]."""

SILENCE = -55.0
"""A window whose loudest 50 ms are below this level is silent [dBFS]."""

SILENT = "silence"

BATCH = 32
"""Windows in one batch of the network."""


@dataclass(frozen=True)
class Segment:
    """The answer for a window from ``start`` to ``end`` [s]; None where it is silent."""

    start: float
    end: float
    answer: Answer | None

    def to_dict(self) -> dict[str, Any]:
        """Return the segment as plain data; the label of a silent one is None."""
        span = {"start": round(self.start, 3), "end": round(self.end, 3)}
        if self.answer is None:
            return {**span, "label": None, "probabilities": {}, "dimensions": {}, "answer": SILENT, "set": None,
                    "coverage": None, "sure": False, "reason": SILENT}
        return {**span, **self.answer.to_dict()}


class Timeline(list[Segment]):
    """The answers for the windows of a recording, in order."""

    def to_frame(self) -> pandas.DataFrame:
        """Return a line per window: ``start``, ``end``, ``label``, ``probabilities.anger``, ….

        Raises ConfigError where pandas is not installed.
        """
        return frame([each.to_dict() for each in self])


def timeline(predictor: Predictor, recording: Path | bytes, *, window: float = WINDOW, hop: float = HOP,
             silence: float = SILENCE, own: Statistics | None = None) -> Iterator[Segment]:
    """Yield a segment for each window of a recording, in order.

    The recording is read block by block: the memory does not grow with its length. A timeline's windows have no words:
    a model that reads words goes by the voice alone.

    Parameters
    ----------
    predictor : the model.
    recording : a file, or the bytes of one.
    window : length of a window [s]; the last one may be shorter.
    hop : time from the beginning of one window to that of the next, 0.1 or more [s].
    silence : a window whose loudest 50 ms are below this level is silent [dBFS].
    own : the speaker's statistics.

    Raises CorpusError where the recording cannot be used, or ``hop`` is longer than ``window``.
    """
    parts = windows(recording, predictor.card.features.sample_rate, window, hop)
    while batch := list(islice(parts, BATCH)):
        features = [_features(predictor, part, silence) for part in batch]
        audible = [values for values in features if values is not None]
        answers = iter(predictor.answers(np.stack(audible), own) if audible else ())
        for part, values in zip(batch, features):
            yield Segment(part.start, part.end,
                          None if values is None else predictor.heard(next(answers), part.samples))


def _features(predictor: Predictor, window: Window, silence: float, text: str = "") -> NDArray[np.float32] | None:
    return None if window.level < silence else predictor.features(window.samples, text)


class Stream:
    """Answers for speech while it comes, in blocks of samples of any length; one speaker is assumed.

    A model that expects a speaker's own statistics begins with those of the training speakers. Each window that is not
    silent and does not overlap the last one counted moves them towards the stream's (``known_by``).

    Parameters
    ----------
    predictor : the model.
    rate : samples per second of the stream [Hz].
    window, hop : length of a window, and time from the beginning of one to that of the next [s].
    silence : a window whose loudest 50 ms are below this level is silent [dBFS].
    own : the speaker's statistics, which then do not adapt.
    adapt : whether the statistics adapt to the stream.

    Raises CorpusError where ``rate`` is not that of a recording, or ``hop`` is longer than ``window``.
    """

    MEMORY = 200
    """Number of the latest windows that the speaker's statistics are computed from."""

    def __init__(self, predictor: Predictor, rate: float, *, window: float = WINDOW, hop: float = HOP,
                 silence: float = SILENCE, own: Statistics | None = None, adapt: bool = True) -> None:
        self._predictor, self._silence, self.own = predictor, silence, own
        self._adapts = adapt and own is None and predictor.card.normalise == "speaker"
        model_rate = predictor.card.features.sample_rate
        self._windower, self._resampler = Windower(model_rate, window, hop), Resampler(checked_rate(rate), model_rate)
        self._cut, self._text = False, ""
        self._counted: list[NDArray[np.float32]] = []
        self._until = 0.0

    def hear(self, window: Window) -> Segment:
        """Return the answer for a window; a silent one has none."""
        values = _features(self._predictor, window, self._silence, self._text)
        if values is None:
            return Segment(window.start, window.end, None)
        if self._adapts and window.start >= self._until:
            self._until = window.end
            self._counted = [*self._counted, values][-self.MEMORY :]
            self.own = known_by(np.stack(self._counted), self._predictor.card.statistics)
        answer = self._predictor.answers(values[None], self.own)[0]
        return Segment(window.start, window.end, self._predictor.heard(answer, window.samples))

    def push(self, samples: ArrayLike) -> list[Segment]:
        """Take the next samples, as ``Predictor.predict_signal`` does, or none, and return the answers for the windows
        that are complete now.

        Raises CorpusError where they are no samples, or not finite; they are then not part of the stream.
        """
        if isinstance(samples, Sized) and len(samples) == 0:
            return []
        return [self.hear(window) for window in self.cut(scaled(samples))]

    def close(self) -> list[Segment]:
        """Return the answers for the rest of the stream, which has ended."""
        return [self.hear(window) for window in self.rest()]

    def say(self, text: str) -> None:
        """Set what is said from now on: the model reads it beside the voice in each window that is completed later,
        until the next call; "" is not known.

        Raises CorpusError where the model reads no words.
        """
        check(Stream.say, locals())
        if not self._predictor.card.reads_words:
            raise CorpusError("the model reads no words: give it samples only")
        self._text = text

    def cut(self, samples: NDArray[np.float32]) -> list[Window]:
        """Take samples (n,) or (n, channels), full scale 1; return the windows that are complete now, for ``hear``.

        Raises CorpusError where one is not finite.
        """
        if not np.isfinite(samples).all():
            raise CorpusError(audio.NOT_FINITE)
        complete = self._windower.push(self._resampler.push(audio.mono(samples)))
        self._cut |= bool(complete)
        return complete

    def rest(self) -> list[Window]:
        """Return the windows that the end of the stream completes; of a stream shorter than a window the whole."""
        complete = self._windower.push(self._resampler.push(np.zeros(0, dtype=np.float32), last=True))
        rest = None if self._cut or complete else self._windower.rest()
        return complete if rest is None else [rest]
