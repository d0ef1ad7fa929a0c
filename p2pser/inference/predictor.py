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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError, ModelError
from p2pser.corpora.emotions import nearest_emotion
from p2pser.features.normalisation import Statistics, steadied
from p2pser.models.directory import Card

if TYPE_CHECKING:
    from torch import nn

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"


@dataclass(frozen=True)
class Answer:
    """The emotion of some speech, as a model rates it.

    Attributes
    ----------
    label : the most probable emotion; of a model that rates dimensions only, the emotion with the nearest dimensions
        (for display).
    probabilities : of each emotion, sum 1, in the model's order; empty where the model has no emotions.
    dimensions : arousal, valence and dominance, from -1 to 1; empty where the model does not rate them.
    """

    label: str
    probabilities: dict[str, float]
    dimensions: dict[str, float]

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the ``k`` most probable emotions with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class Prediction(Answer):
    """The answer for one recording."""

    path: Path


class Predictor:
    """A trained model that rates recordings. ``load`` makes one from a model directory."""

    def __init__(self, module: nn.Module, card: Card) -> None:
        self.module = module
        self.card = card
        self._warned = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of the model's outputs."""
        return self.card.labels

    def note(self, enrolled: bool = False) -> str:
        """Return the model's limits that the user of a prediction must know, as sentences; ``""`` if there are none."""
        notes = [f"the model was {self.card.warning}"] if self.card.warning else []
        if self.card.normalise == "speaker" and not enrolled:
            whose = self.card.training.get("statistics_of", "the training speakers")
            notes.append("the model expects each speaker's own feature statistics; without recordings to enrol the "
                         f"speaker it uses those of {whose}, and it errs more often")
        return "; ".join(notes)

    def predict(self, paths: Paths, enrol: Paths | None = None,
                errors: list[tuple[Path, str]] | None = None) -> list[Prediction]:
        """Return a prediction for each recording.

        Warns once (UserWarning) where the model has limits that the user must know (``note``).

        Parameters
        ----------
        paths : a path, several, or folders (all recordings below them).
        enrol : recordings of the same speaker (a few clips, of any emotion, better of all), which give the speaker's
            statistics to models trained with speaker normalisation.
        errors : a list to which (path, reason) of each clip that cannot be used is added; without it, the first such
            clip raises CorpusError.

        Example
        -------
        >>> model = load("model/")                                                          # doctest: +SKIP
        >>> model.predict(["a.wav", "b.wav"], enrol="speaker/")[0].probabilities            # doctest: +SKIP
        {'anger': 0.83, 'sadness': 0.17}
        """
        self.warn(enrol is not None)
        own = None if enrol is None else self.enrol(enrol)
        return list(self.each(files(paths), own, errors))

    def each(self, paths: Iterable[Path], own: Statistics | None = None,
             errors: list[tuple[Path, str]] | None = None) -> Iterator[Prediction]:
        """Yield the predictions one by one.

        Parameters
        ----------
        paths : the recordings.
        own : the speaker's statistics (``enrol``).
        errors : as in ``predict``.
        """
        for path in paths:
            values = self._features_of(path, errors)
            if values is not None:
                answer = self.answers(values[None], own)[0]
                yield Prediction(answer.label, answer.probabilities, answer.dimensions, path)

    def predict_signal(self, samples: NDArray[np.floating], rate: int, own: Statistics | None = None) -> Answer:
        """Return the answer for samples.

        Parameters
        ----------
        samples : (n,) or (n, channels), full scale 1.
        rate : samples per second [Hz].
        own : the speaker's statistics (``enrol``).

        Raises
        ------
        CorpusError
            Where the samples are too short, silent or not finite.
        """
        from p2pser.features import audio

        self.warn(own is not None)
        signal = audio.usable(np.asarray(samples, dtype=np.float32), rate, self.card.features.sample_rate)
        return self.answers(self.features(signal)[None], own)[0]

    def warn(self, enrolled: bool) -> None:
        """Warn (UserWarning) of the limits in ``note``, the first time."""
        note = self.note(enrolled)
        if note and not self._warned:
            self._warned = True
            warnings.warn(note, stacklevel=3)

    def enrol(self, paths: Paths) -> Statistics | None:
        """Return a speaker's statistics from their recordings; None where the model does not use any.

        Raises CorpusError where a recording cannot be used.
        """
        if self.card.normalise != "speaker":
            return None
        known = [values for path in files(paths) if (values := self._features_of(path, None)) is not None]
        return steadied(np.stack(known), self.card.statistics)

    def answers(self, features: NDArray[np.float32], own: Statistics | None = None) -> list[Answer]:
        """Return an answer for each of n clips.

        ``features`` (n, …) are not scaled; ``own`` are the speaker's statistics.
        """
        from scipy.special import softmax

        outputs = self.outputs(features, own).astype(np.float64)
        chances = softmax(outputs[:, : len(self.labels)] / (self.card.temperature or 1.0), axis=1) if self.labels \
            else None
        names = self.card.dimensions
        answers = []
        for index, row in enumerate(outputs):
            ratings = dict(zip(names, map(float, np.clip(row[len(row) - len(names) :], -1, 1))))
            if chances is None:
                answers.append(Answer(nearest_emotion(*ratings.values()), {}, ratings))
            else:
                probabilities = dict(zip(self.labels, map(float, chances[index])))
                answers.append(Answer(self.labels[int(chances[index].argmax())], probabilities, ratings))
        return answers

    def outputs(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return the model's outputs (n, ·), logits, then dimensions, for features (n, …) that are not scaled."""
        from p2pser.models.inference import logits

        return logits(self.module, self.scale(features, own))

    def scale(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return features scaled as the model expects: by ``own`` or the training statistics, or not at all."""
        if self.card.normalise == "none":
            return features.astype(np.float32, copy=False)
        statistics = own or self.card.statistics
        if statistics is None:
            raise ModelError("the model's card has no training statistics; enrol the speaker with recordings")
        return statistics.apply(features)

    def features(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features of samples (n,) at the card's rate. Raises ModelError where they do not fit the model."""
        from p2pser.features import clip_features

        self.card.require_recordings()
        values = clip_features.compute(signal, self.card.features)
        if values.shape != self.card.shape:
            raise ModelError(f"the model takes features of shape {self.card.shape}, not {values.shape}; "
                             "use the version of p2pser that trained it")
        return values

    def _features_of(self, path: Path, errors: list[tuple[Path, str]] | None) -> NDArray[np.float32] | None:
        from p2pser.features import audio

        try:
            return self.features(audio.read(path, self.card.features.sample_rate))
        except CorpusError as error:
            if errors is None:
                raise
            errors.append((path, str(error).removeprefix(f"{path}: ")))
            return None


LISTS = (".txt", ".lst", ".csv", ".tsv")
"""Suffixes of files that list recordings: a path on each line, or a manifest."""


def files(paths: Paths) -> list[Path]:
    """Return the recordings that ``paths`` name, in order.

    A folder stands for the recordings below it, a list (a text file with a path on each line, relative to its folder,
    or a manifest CSV) for the recordings in it. Raises CorpusError where a folder holds none, a list cannot be read or
    no recording is named.
    """
    from p2pser.corpora.files import recordings
    from p2pser.corpora.manifest import read_manifest

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    result: list[Path] = []
    for path in map(Path, several):
        if path.is_dir():
            result += recordings(path)
        elif path.suffix.lower() in (".csv", ".tsv"):
            listed = read_manifest(path)
            # Left-out clips too: the caller reads them and reports the reason.
            result += [*(clip.path for clip in listed.clips), *(left for left, _ in listed.left_out)]
        elif path.suffix.lower() in LISTS:
            result += _listed(path)
        else:
            result.append(path)
    if not result:
        raise CorpusError("no recording is named; give files, folders or lists of recordings")
    return result


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise CorpusError(f"cannot read the list of recordings {path}: {reason}") from None
    return [path.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the predictor of a model directory. Raises ModelError where it cannot be used."""
    from p2pser.models import directory

    return Predictor(*directory.load(Path(path)))
