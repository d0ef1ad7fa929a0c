"""Labels and probabilities for recordings, from a model directory alone.

    >>> import p2pser
    >>> model = p2pser.load("model/")                            # doctest: +SKIP
    >>> model.predict("clip.wav")[0].label                       # doctest: +SKIP
    'anger'

torch is imported when the model is loaded, the feature code when the first clip is read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pser.errors import CorpusError, ModelError
from p2pser.models.directory import Card
from p2pser.speech.normalise import Statistics, statistics

if TYPE_CHECKING:
    from torch import nn

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

PRIOR_MEAN, PRIOR_VARIANCE = 1.0, 5.0
"""How many clips' worth of trust the training statistics keep beside a speaker's own mean and variance."""


@dataclass(frozen=True)
class Prediction:
    """The most probable emotion of a recording, and the probability of each (sum 1, in the model's order)."""

    path: Path
    label: str
    probabilities: dict[str, float]


class Predictor:
    """A trained model that hears recordings. Make one with ``load``."""

    def __init__(self, module: nn.Module, card: Card) -> None:
        self.module = module
        self.card = card
        self._warned = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions that it tells apart, in the order of its outputs."""
        return self.card.labels

    def note(self, enrolled: bool = False) -> str:
        """Return what the user of a prediction must know of this model, as sentences; ``""`` where nothing.
        """
        notes = [f"the model was {self.card.warning}"] if self.card.warning else []
        if self.card.normalise == "speaker" and not enrolled:
            notes.append("the model expects each speaker's own feature statistics; without recordings to "
                         "enrol the speaker the training speakers' serve, and it errs more often")
        return "; ".join(notes)

    def predict(self, paths: Paths, enrol: Paths | None = None,
                errors: list[tuple[Path, str]] | None = None) -> list[Prediction]:
        """Return a prediction for each recording: a path, several, or folders (all recordings below them).

        enrol: recordings of the same speaker (a few clips, of any emotion, better of all), which give the
        speaker's statistics for models trained with speaker normalisation. errors: where given, a clip that
        cannot be used is added as (path, reason) and the others go on; else it raises CorpusError. Warns once
        (UserWarning) where the model's answers are worth less than usual: see ``note``.
        """
        note = self.note(enrol is not None)
        if note and not self._warned:
            self._warned = True
            warnings.warn(note, stacklevel=2)
        own = None if enrol is None else self.enrol(enrol)
        kept, features = self._features(files(paths), errors)
        if not kept:
            return []
        chances = self.probabilities(np.stack(features), own)
        return [Prediction(path, self.labels[int(row.argmax())], dict(zip(self.labels, map(float, row))))
                for path, row in zip(kept, chances)]

    def enrol(self, paths: Paths) -> Statistics | None:
        """Return a speaker's statistics from recordings of theirs; None where the model does not use any.

        Raises CorpusError where a recording cannot be used.
        """
        if self.card.normalise != "speaker":
            return None
        return enrolled(np.stack(self._features(files(paths), None)[1]), self.card.statistics)

    def probabilities(self, features: NDArray[np.float32],
                      own: Statistics | None = None) -> NDArray[np.float64]:
        """Return (n, classes) for features (n, ...) as computed, not normalised; ``own``: the speaker's
        statistics.
        """
        from p2pser.learning.inference import logits, softmax

        return softmax(logits(self.module, self.scale(features, own)))

    def scale(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return features scaled as the model expects: by ``own`` statistics, the training ones, or not at
        all.
        """
        if self.card.normalise == "none":
            return features.astype(np.float32, copy=False)
        chosen = own or self.card.statistics
        if chosen is None:
            raise ModelError("the model's card has no training statistics; enrol the speaker with recordings")
        return chosen.apply(features)

    def _features(self, paths: Sequence[Path], errors: list[tuple[Path, str]] | None,
                  ) -> tuple[list[Path], list[NDArray[np.float32]]]:
        kept, found = [], []
        for path in paths:
            values = self._one(path, errors)
            if values is not None:
                kept.append(path)
                found.append(values)
        return kept, found

    def _one(self, path: Path, errors: list[tuple[Path, str]] | None) -> NDArray[np.float32] | None:
        from p2pser.speech import audio
        from p2pser.speech import features as speech_features

        try:
            signal = audio.read(path, self.card.features.sample_rate)
            values = speech_features.compute(signal, self.card.features)
        except CorpusError as error:
            if errors is None:
                raise
            errors.append((path, str(error).removeprefix(f"{path}: ")))
            return None
        if values.shape != self.card.shape:
            raise ModelError(f"the model takes features of shape {self.card.shape}, not {values.shape}; "
                             "use the version of p2pser that trained it")
        return values


def enrolled(features: NDArray[np.floating], training: Statistics | None) -> Statistics:
    """Return a speaker's statistics from k of their clips, features (k, ...), steadied by the training
    statistics.

    With few clips a speaker's own variance is next to nothing (and 0 for one clip), so the training mean and
    variance count as ``PRIOR_MEAN`` and ``PRIOR_VARIANCE`` further clips (the posterior mean under conjugate
    priors).
    """
    own = statistics(features)
    if training is None:
        return own
    k = len(features)
    mean = (k * own.mean + PRIOR_MEAN * training.mean) / (k + PRIOR_MEAN)
    variance = (k * own.std**2 + PRIOR_VARIANCE * training.std**2) / (k + PRIOR_VARIANCE)
    return Statistics(own.count, mean, np.sqrt(variance))


def files(paths: Paths) -> list[Path]:
    """Return the recordings that ``paths`` name, folders replaced by the recordings below them, in order.

    Raises CorpusError where a folder holds none or nothing is named.
    """
    from p2pser.speech.corpora.files import recordings

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: list[Path] = []
    for path in map(Path, several):
        found += recordings(path) if path.is_dir() else [path]
    if not found:
        raise CorpusError("no recording is named; give files or folders of recordings")
    return found


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the predictor of a model directory. Raises ModelError where it cannot be used."""
    from p2pser.models import directory

    return Predictor(*directory.load(Path(path)))
