"""Predictions in the shape of Hugging Face's audio-classification pipeline, for programs that are written for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import Any, TypeAlias, TypedDict

from p2pser.base.arguments import is_whole
from p2pser.base.errors import ConfigError, CorpusError, ModelError
from p2pser.inference.answers import Answer, ranked
from p2pser.inference.predictor import Predictor
from p2pser.inference.recordings import Recording

Input: TypeAlias = "Recording | Mapping[str, Any]"
"""A recording, or its samples: ``{"raw": samples, "sampling_rate": rate}``, also ``"array"`` as data sets have it."""


class Score(TypedDict):
    """An emotion and its probability."""

    label: str
    score: float


class Pipeline:
    """Callable as ``transformers.pipeline("audio-classification", …)`` is; ``p2pser.pipeline`` makes one.

    ``top_k``: how many of the most probable emotions an answer has; None: all. Raises ModelError where the model rates
    dimensions only, ConfigError where ``top_k`` is no such number.
    """

    def __init__(self, predictor: Predictor, top_k: int | None = 5) -> None:
        if not predictor.labels:
            raise ModelError("the model rates dimensions, and a pipeline answers with emotions: use p2pser.load")
        self.predictor, self.top_k = predictor, _checked(top_k)

    def __call__(self, inputs: Input | Iterable[Input], *,
                 top_k: int | EllipsisType | None = ...) -> list[Score] | list[list[Score]]:
        """Return the most probable emotions of a recording, most probable first; of several a list of such lists.

        ``top_k``: instead of the pipeline's; None: all. Raises CorpusError where a recording cannot be used,
        ConfigError where ``top_k`` is no such number.
        """
        k = self.top_k if top_k is ... else _checked(top_k)
        if isinstance(inputs, (list, tuple)):
            return [self._scores(each, k) for each in inputs]
        return self._scores(inputs, k)

    def _scores(self, given: Any, top_k: int | None) -> list[Score]:
        answer = self._answer(given)
        return [{"label": label, "score": score} for label, score in ranked(answer.probabilities, top_k)]

    def _answer(self, given: Any) -> Answer:
        if not isinstance(given, Mapping):
            answers = self.predictor.predict(given)
            if len(answers) != 1:
                raise CorpusError(f"{given} holds {len(answers)} recordings: give a list of them")
            return answers[0]
        samples, rate = given.get("raw", given.get("array")), given.get("sampling_rate")
        if samples is None or rate is None:
            raise CorpusError('samples are given as {"raw": samples, "sampling_rate": rate}, or "array" for "raw"')
        return self.predictor.predict_signal(samples, rate)


def _checked(top_k: int | None) -> int | None:
    """Return how many emotions are asked for. Raises ConfigError where it is no number above 0."""
    if top_k is not None and not (is_whole(top_k) and top_k >= 1):
        raise ConfigError(f"top_k is {top_k!r}: give a whole number above 0, or None for all emotions")
    return top_k
