"""Emotion over time: a long recording or a stream, answered window by window.

Each window is answered by itself: nothing is smoothed, and neighbouring windows share what they overlap. A window
without sound has no label: a network asked of silence would say its favourite emotion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.features.normalisation import Statistics
from p2pser.inference.predictor import Answer, Predictor, enrolled
from p2pser.inference.windows import Window, windows

WINDOW, HOP = 3.0, 1.0
"""Length of a window and time from one to the next [s]."""

SILENCE = -55.0
"""A window whose loudest 50 ms stay below this is silence [dBFS]."""

BATCH = 32
"""Windows that go through the network together."""


@dataclass(frozen=True)
class Segment:
    """What was said of a window from ``start`` to ``end`` [s]; ``answer`` is None where it is silent."""

    start: float
    end: float
    answer: Answer | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data; a silent one has the label None."""
        said = self.answer
        return {"start": round(self.start, 3), "end": round(self.end, 3), "label": None if said is None else said.label,
                "probabilities": {} if said is None else said.probabilities,
                "dimensions": {} if said is None else said.dimensions}


def timeline(predictor: Predictor, path: Path, *, window: float = WINDOW, hop: float = HOP,
             silence: float = SILENCE, own: Statistics | None = None) -> Iterator[Segment]:
    """Yield a segment for each window of a recording, in order, read block by block: hours need no more memory.

    window, hop: [s]; the last window may be shorter. silence: [dBFS]. own: the speaker's statistics. Raises
    CorpusError where the recording cannot be used or the lengths make no window.
    """
    for batch in _batches(windows(path, predictor.card.features.sample_rate, window, hop)):
        features = [_features(predictor, one, silence) for one in batch]
        heard = [values for values in features if values is not None]
        answers = iter(predictor.answers(np.stack(heard), own) if heard else ())
        for one, values in zip(batch, features):
            yield Segment(one.start, one.end, None if values is None else next(answers))


def _batches(several: Iterable[Window]) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for one in several:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _features(predictor: Predictor, window: Window, silence: float) -> NDArray[np.float32] | None:
    return None if window.level < silence else predictor.features(window.samples)


@dataclass
class Listener:
    """Answers windows of a stream one by one, and gets to know the speaker as they speak.

    For models that expect a speaker's own statistics these are the training speakers' at first and move to the
    stream's own with each window that is not silent and shares nothing with the one counted before (``enrolled``
    says how fast); one speaker is assumed. adapt: False keeps to ``own``, or the training speakers'.
    """

    predictor: Predictor
    silence: float = SILENCE
    own: Statistics | None = None
    adapt: bool = True
    _heard: list[NDArray[np.float32]] = field(default_factory=list)
    _until: float = 0.0

    LONGEST = 200
    """Windows of which the speaker's statistics are made, the latest ones."""

    def hear(self, window: Window) -> Segment:
        """Return what is said of a window; silence has no answer."""
        values = _features(self.predictor, window, self.silence)
        if values is None:
            return Segment(window.start, window.end, None)
        if self.adapt and self.predictor.card.normalise == "speaker" and window.start >= self._until:
            self._until = window.end
            self._heard = [*self._heard, values][-self.LONGEST :]
            self.own = enrolled(np.stack(self._heard), self.predictor.card.statistics)
        return Segment(window.start, window.end, self.predictor.answers(values[None], self.own)[0])
