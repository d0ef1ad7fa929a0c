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
from p2pser.features.normalisation import Statistics, statistics
from p2pser.models.directory import Card

if TYPE_CHECKING:
    from torch import nn

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

PRIOR_MEAN, PRIOR_VARIANCE = 1.0, 5.0
"""How many clips' worth of trust the training statistics keep beside a speaker's own mean and variance."""


@dataclass(frozen=True)
class Answer:
    """What a model says of some speech.

    label: the most probable emotion; of a model that rates dimensions only, the emotion whose usual place is nearest
    (for display). probabilities: of each emotion, sum 1, in the model's order; empty where it knows none. dimensions:
    arousal, valence and dominance, from -1 to 1; empty where it does not rate them.
    """

    label: str
    probabilities: dict[str, float]
    dimensions: dict[str, float]

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the ``k`` most probable emotions with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class Prediction(Answer):
    """An answer for one recording."""

    path: Path


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
        self.warn(enrol is not None)
        own = None if enrol is None else self.enrol(enrol)
        return list(self.each(files(paths), own, errors))

    def each(self, paths: Iterable[Path], own: Statistics | None = None,
             errors: list[tuple[Path, str]] | None = None) -> Iterator[Prediction]:
        """Yield the predictions one by one, as they are found; ``own``: the speaker's statistics (``enrol``)."""
        for path in paths:
            values = self._one(path, errors)
            if values is not None:
                answer = self.answers(values[None], own)[0]
                yield Prediction(answer.label, answer.probabilities, answer.dimensions, path)

    def predict_signal(self, samples: NDArray[np.floating], rate: int, own: Statistics | None = None) -> Answer:
        """Return the answer for samples (n,) or (n, channels) at ``rate`` [Hz], full scale 1.

        own: the speaker's statistics. Raises CorpusError where they are too short, silent or not finite.
        """
        from p2pser.features import audio

        self.warn(own is not None)
        signal = audio.usable(np.asarray(samples, dtype=np.float32), rate, self.card.features.sample_rate)
        return self.answers(self.features(signal)[None], own)[0]

    def warn(self, enrolled: bool) -> None:
        """Warn (UserWarning), the first time, of what ``note`` says."""
        note = self.note(enrolled)
        if note and not self._warned:
            self._warned = True
            warnings.warn(note, stacklevel=3)

    def enrol(self, paths: Paths) -> Statistics | None:
        """Return a speaker's statistics from recordings of theirs; None where the model does not use any.

        Raises CorpusError where a recording cannot be used.
        """
        if self.card.normalise != "speaker":
            return None
        known = [values for path in files(paths) if (values := self._one(path, None)) is not None]
        return enrolled(np.stack(known), self.card.statistics)

    def answers(self, features: NDArray[np.float32], own: Statistics | None = None) -> list[Answer]:
        """Return an answer for each of n clips: features (n, ...) as computed, not normalised; ``own``: the speaker's
        statistics.
        """
        from scipy.special import softmax

        outputs = self.outputs(features, own).astype(np.float64)
        chances = softmax(outputs[:, : len(self.labels)] / (self.card.temperature or 1.0), axis=1) if self.labels \
            else None
        names = self.card.dimensions
        found = []
        for place, row in enumerate(outputs):
            ratings = dict(zip(names, map(float, np.clip(row[len(row) - len(names) :], -1, 1))))
            if chances is None:
                found.append(Answer(nearest_emotion(*ratings.values()), {}, ratings))
            else:
                own_chances = dict(zip(self.labels, map(float, chances[place])))
                found.append(Answer(self.labels[int(chances[place].argmax())], own_chances, ratings))
        return found

    def outputs(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return what the model puts out for features (n, ...) as computed: (n, ·), logits, then dimensions."""
        from p2pser.models.inference import logits

        return logits(self.module, self.scale(features, own))

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

    def features(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features of samples (n,) at the card's rate. Raises ModelError where they do not fit the model."""
        from p2pser.features import clip_features

        values = clip_features.compute(signal, self.card.features)
        if values.shape != self.card.shape:
            raise ModelError(f"the model takes features of shape {self.card.shape}, not {values.shape}; "
                             "use the version of p2pser that trained it")
        return values

    def _one(self, path: Path, errors: list[tuple[Path, str]] | None) -> NDArray[np.float32] | None:
        from p2pser.features import audio

        try:
            return self.features(audio.read(path, self.card.features.sample_rate))
        except CorpusError as error:
            if errors is None:
                raise
            errors.append((path, str(error).removeprefix(f"{path}: ")))
            return None


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


LISTS = (".txt", ".lst", ".csv", ".tsv")
"""Endings of files that name recordings: a path a line, or a manifest."""


def files(paths: Paths) -> list[Path]:
    """Return the recordings that ``paths`` name, in order: folders stand for the recordings below them, lists (a text
    file with a path a line, relative to it, or a manifest CSV) for what they name.

    Raises CorpusError where a folder holds none, a list cannot be read or nothing is named.
    """
    from p2pser.corpora.files import recordings
    from p2pser.corpora.manifest import read_manifest

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: list[Path] = []
    for path in map(Path, several):
        if path.is_dir():
            found += recordings(path)
        elif path.suffix.lower() in (".csv", ".tsv"):
            listed = read_manifest(path)
            # Those that are left out too: whoever reads them says why.
            found += [*(clip.path for clip in listed.clips), *(left for left, _ in listed.left_out)]
        elif path.suffix.lower() in LISTS:
            found += _listed(path)
        else:
            found.append(path)
    if not found:
        raise CorpusError("no recording is named; give files, folders or lists of recordings")
    return found


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise CorpusError(f"cannot read the list of recordings {path}: {said}") from None
    return [path.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the predictor of a model directory. Raises ModelError where it cannot be used."""
    from p2pser.models import directory

    return Predictor(*directory.load(Path(path)))
