"""Labels and probabilities for recordings, from a model directory alone.

    >>> import p2pser
    >>> model = p2pser.load("model/")                            # doctest: +SKIP
    >>> model.predict("clip.wav")[0].label                       # doctest: +SKIP
    'anger'

torch is imported when the model is loaded, the feature code when the first clip is read. Without torch ONNX Runtime
answers (``models.onnx_network``).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError, ModelError
from p2pser.base.frames import frame
from p2pser.corpora.emotions import nearest_emotion
from p2pser.features import unlike
from p2pser.features.normalisation import Statistics, known_by
from p2pser.inference.recordings import Paths, Recording, files, sources
from p2pser.models import directory, onnx_network
from p2pser.models.directory import Card
from p2pser.models.heard import nearest
from p2pser.models.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike
    from torch import nn


LONGEST = 120.0
"""The longest recording that has one answer [s]."""

MOST = 200
"""Recordings of a call from which its conditions are judged at most: the first."""

SHIFTED = "these recordings are unlike those of the training (another microphone, room or language)"
"""The beginning of the remark that the common statistics serve."""


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

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data."""
        return {"label": self.label, "probabilities": self.probabilities, "dimensions": self.dimensions}

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the ``k`` most probable emotions with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class Prediction(Answer):
    """The answer for one recording; ``path`` is None where it is no file."""

    path: Path | None


class Predictions(list[Prediction]):
    """The answers for several recordings."""

    def to_frame(self) -> pandas.DataFrame:
        """Return a line per recording: ``path``, ``label``, ``probabilities.anger``, …, ``dimensions.arousal``, ….

        Raises ConfigError where pandas is not installed.
        """
        return frame([{"path": each.path and str(each.path), **each.to_dict()} for each in self])


class Predictor:
    """A trained model that rates recordings. ``load`` makes one from a model directory."""

    def __init__(self, module: nn.Module | OnnxNetwork, card: Card) -> None:
        self.module = module
        self.card = card
        self._warned = False
        self.remarks: tuple[str, ...] = ()
        """What a user must know of the recordings that were answered last, as sentences."""

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
                         f"speaker it uses those of {whose}, and it errs more often{self._worse()}")
        return "; ".join(notes)

    def _worse(self) -> str:
        strange = nearest(self.card.heard, 0)
        if strange is None:
            return ""
        known = self.card.heard[-1]
        return (f": UAR {strange.uar:.2f}, instead of {known.uar:.2f} after {known.clips} clips, for speakers outside "
                "its training")

    def predict(self, recordings: Recording | Iterable[Recording], enrol: Paths | None = None,
                errors: list[tuple[Path, str]] | None = None, *, together: bool = True) -> Predictions:
        """Return a prediction for each recording.

        Warns once (UserWarning) where the model has limits that the user must know (``note``), and where the recordings
        are so unlike those of its training that their common statistics serve; ``remarks`` holds all there is to say.

        Parameters
        ----------
        recordings : a recording, several, folders (all recordings below them) or lists (``files``).
        enrol : recordings of the same speaker (a few clips, of any emotion, better of all), which give the speaker's
            statistics to models trained with speaker normalisation.
        errors : a list to which (path, reason) of each recording that cannot be used is added; without it, the first
            such recording raises CorpusError.
        together : where several recordings without ``enrol`` are unlike those of the training, scale them by their own
            common statistics (``conditions``), which supposes that they hold various emotions. Without it each is
            answered as if it were alone.

        Example
        -------
        >>> model = load("model/")                                                          # doctest: +SKIP
        >>> model.predict(["a.wav", "b.wav"], enrol="speaker/")[0].probabilities            # doctest: +SKIP
        {'anger': 0.83, 'sadness': 0.17}
        >>> model.predict(request.files["clip"].read())[0].label                            # doctest: +SKIP
        'anger'
        """
        self.warn(enrol is not None)
        own = None if enrol is None else self.enrol(enrol)
        answers = Predictions(self.each(sources(recordings), own, errors, together=together))
        for remark in self.remarks:
            if remark.startswith(SHIFTED):
                warnings.warn(remark, stacklevel=2)
        return answers

    def each(self, recordings: Iterable[Path | bytes], own: Statistics | None = None,
             errors: list[tuple[Path, str]] | None = None, *, together: bool = False) -> Iterator[Prediction]:
        """Yield the predictions one by one; ``remarks`` is complete after the last.

        Parameters
        ----------
        recordings : paths, or the bytes of recordings.
        own : the speaker's statistics (``enrol``).
        errors : as in ``predict``; recordings without a path are ``<recording 1>``, ….
        together : as in ``predict``; the first ``MOST`` recordings are read before the first is answered.
        """
        self.remarks = ()
        read = self._read(recordings, errors)
        first = list(islice(read, MOST)) if together and own is None else []
        if first:
            own = self.conditions(np.stack([values for _, values in first]))
        shifted = "" if own is None or own.heard else \
            (f"{SHIFTED}: the common statistics of {len(first)} of them scale their features, which supposes that they "
             "hold various emotions")
        self.remarks = (shifted,) if shifted else ()
        far = count = 0
        for path, values in chain(first, read):
            count += 1
            far += bool(self.flattening(self.scale(values[None], own))[0] > unlike.FAR**unlike.FLATTENING)
            answer = self.answers(values[None], own)[0]
            yield Prediction(answer.label, answer.probabilities, answer.dimensions, path)
        if 4 * far > count:
            self.remarks += (f"the model knows little about {far} of {count} recordings, which are unlike those of its "
                             "training: their probabilities are flattened",)

    def conditions(self, features: NDArray[np.float32]) -> Statistics | None:
        """Return the common statistics of several recordings (n, …) where they are unlike those of the training; None
        where they are not, where they are few, or where features are matrices or not scaled.
        """
        if self.card.statistics is None or self.card.normalise == "none":
            return None
        return unlike.conditions(features, self.card.statistics)

    def _read(self, recordings: Iterable[Path | bytes],
              errors: list[tuple[Path, str]] | None) -> Iterator[tuple[Path | None, NDArray[np.float32]]]:
        """Yield the path, None where there is none, and the features of each recording that can be used."""
        for number, recording in enumerate(recordings, 1):
            path = recording if isinstance(recording, Path) else None
            try:
                values = self._features_of(recording, LONGEST)
            except CorpusError as error:
                name = path or Path(f"<recording {number}>")
                reason = str(error).removeprefix(f"{name}: ")
                if errors is None:
                    raise CorpusError(f"{name}: {reason}") from None
                errors.append((name, reason))
                continue
            yield path, values

    def predict_signal(self, samples: ArrayLike, rate: float, own: Statistics | None = None) -> Answer:
        """Return the answer for samples.

        Parameters
        ----------
        samples : (n,), (n, channels) or (channels, n); floats of full scale 1, or integers of the full scale of their
            type (``features.samples.scaled``).
        rate : samples per second [Hz].
        own : the speaker's statistics (``enrol``).

        Raises
        ------
        CorpusError
            Where the samples or the rate are not those of a recording, too short, silent or not finite.
        """
        from p2pser.features import audio
        from p2pser.features.samples import checked_rate, scaled

        self.warn(own is not None)
        signal = audio.usable(scaled(samples), checked_rate(rate), self.card.features.sample_rate)
        return self.answers(self.features(signal)[None], own)[0]

    def warn(self, enrolled: bool) -> None:
        """Warn (UserWarning) of the limits in ``note``, the first time."""
        note = self.note(enrolled)
        if note and not self._warned:
            self._warned = True
            warnings.warn(note, stacklevel=3)

    def warm(self, seconds: float = 1.0) -> None:
        """Answer for noise once: the first clip imports libraries and makes filter banks, which delays its answer."""
        from p2pser.base import seeding

        size = round(seconds * self.card.features.sample_rate)
        signal = seeding.generator(0, "warming up").standard_normal(size).astype(np.float32) * 0.1
        self.answers(self.features(signal)[None])

    def enrol(self, paths: Paths) -> Statistics | None:
        """Return a speaker's statistics from their recordings; None where the model does not use any.

        Raises CorpusError where a recording cannot be used.
        """
        if self.card.normalise != "speaker":
            return None
        known = [self._features_of(path) for path in files(paths)]
        return known_by(np.stack(known), self.card.statistics)

    def answers(self, features: NDArray[np.float32], own: Statistics | None = None) -> list[Answer]:
        """Return an answer for each of n clips.

        ``features`` (n, …) are not scaled; ``own`` are the speaker's statistics.
        """
        scaled = self.scale(features, own)
        outputs = self.run(scaled).astype(np.float64)
        temperatures = self.temperatures(scaled, own)
        chances = softmax(outputs[:, : len(self.labels)] / temperatures[:, None]) if self.labels else None
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

    def temperatures(self, scaled: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float64]:
        """Return what the logits of n clips are divided by: the card's temperature for what was heard of the speaker,
        and more where a clip is unlike those of the training (``features.unlike``).
        """
        known = self.card.temperature_for(0 if own is None else own.heard)
        if own is not None and not own.heard:
            known = max(known, 1.0)  # it was fitted under the conditions of the training
        return known * self.flattening(scaled)

    def flattening(self, scaled: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the logits of n clips are divided by beside the card's temperature (``unlike.flattening``)."""
        return np.ones(len(scaled)) if self.card.normalise == "none" else unlike.flattening(scaled)

    def outputs(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return the model's outputs (n, ·), logits, then dimensions, for features (n, …) that are not scaled."""
        return self.run(self.scale(features, own))

    def run(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's outputs (n, ·) for features (n, …) that are scaled."""
        if isinstance(self.module, OnnxNetwork):
            return self.module.outputs(scaled)
        from p2pser.models.inference import logits

        return logits(self.module, scaled)

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

    def _features_of(self, recording: Path | bytes, longest: float = np.inf) -> NDArray[np.float32]:
        from p2pser.features import audio

        rate = self.card.features.sample_rate
        signal = audio.read(recording, rate)
        if len(signal) > longest * rate:
            raise CorpusError(f"it lasts {len(signal) / rate / 60:.1f} minutes, and one label says little of so much "
                              "speech: ask for a timeline (--window 3; in Python p2pser.timeline)")
        return self.features(signal)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities (n, classes) of logits (n, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def most_probable(row: dict[str, Any], top_k: int | None) -> dict[str, Any]:
    """Return an answer's plain data with its ``top_k`` most probable emotions, in order; with all where it is None."""
    if top_k is None:
        return row
    ranked = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:top_k]
    return {**row, "probabilities": dict(ranked)}


def load(path: str | os.PathLike[str], encoder: str | None = None) -> Predictor:
    """Return the predictor of a model directory. Raises ModelError where it cannot be used.

    ``encoder``: the folder or Hugging Face name of its speech encoder, where this machine does not find it by itself.
    """
    path = Path(path)
    if onnx_network.stands_in(path):
        card, _ = directory.read_card(path, encoder)
        return Predictor(onnx_network.load(path, card), card)
    return Predictor(*directory.load(path, encoder))
