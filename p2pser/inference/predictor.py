"""Labels, sets of labels and probabilities for recordings, from a model directory alone.

    >>> import p2pser
    >>> model = p2pser.load("model/")                            # doctest: +SKIP
    >>> model.predict("clip.wav")[0].label                       # doctest: +SKIP
    'anger'

torch is imported when the model is loaded, the feature code when the first clip is read. Without torch ONNX Runtime
answers (``models.onnx_network``).
"""

from __future__ import annotations

import copy
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.arguments import check
from p2pser.base.errors import ConfigError, CorpusError, ModelError, in_one_line
from p2pser.base.wording import counted
from p2pser.corpora.emotions import nearest_emotion
from p2pser.features import audio, clip_features, conditions, unlike, voice
from p2pser.features.ends import early
from p2pser.features.kinds.words import plain
from p2pser.features.normalisation import Statistics, known_by
from p2pser.features.samples import checked_rate, scaled
from p2pser.inference.answers import Answer, Prediction, Predictions, ranked
from p2pser.inference.recordings import Recordings, sources
from p2pser.inference.words import completed, given_texts, unread
from p2pser.models import directory, onnx_network
from p2pser.models.directory import Card
from p2pser.models.heard import nearest
from p2pser.models.onnx_network import OnnxNetwork
from p2pser.models.sets import LEVELS, USUAL, Sets, members, why_unsure

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import nn

LONGEST = 120.0
"""The longest recording that has one answer [s]."""

LITTLE = ", and one label says little of so much speech: ask for a timeline (--window 3; in Python p2pser.timeline)"
"""What is said of longer ones."""

MOST = 200
"""Recordings of a call from which its conditions are judged at most: the first."""

SHIFTED = "these recordings are unlike those of the training (another microphone, room or language)"
"""The beginning of the remark that the common statistics serve."""


class Predictor:
    """A trained model that rates recordings. ``load`` makes one from a model directory.

    ``coverage``: of the sets of emotions, where the card knows how to make them.
    """

    def __init__(self, module: nn.Module | OnnxNetwork, card: Card, coverage: float = USUAL) -> None:
        if not 0 < coverage <= max(LEVELS):
            raise ConfigError(f"a coverage of {coverage:g}: give one above 0 and up to {max(LEVELS):g}")
        self.module = module
        self.card = card
        self.coverage = coverage
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
        return (f": UAR {strange.uar:.2f}, instead of {known.uar:.2f} after {counted(known.clips, 'clip')}, for "
                "speakers outside its training")

    def predict(self, recordings: Recordings, enrol: Recordings | None = None,
                errors: list[tuple[Path, str]] | None = None, *, together: bool = True,
                texts: str | Sequence[str] | None = None) -> Predictions:
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
        texts : what is said in each recording, "" where that is not known, for models that read words; default: the
            column ``transcript`` of manifests.

        Example
        -------
        >>> model = load("model/")                                                          # doctest: +SKIP
        >>> model.predict(["a.wav", "b.wav"], enrol="speaker/")[0].probabilities            # doctest: +SKIP
        {'anger': 0.83, 'sadness': 0.17}
        >>> model.predict(request.files["clip"].read())[0].label                            # doctest: +SKIP
        'anger'
        """
        check(Predictor.predict, locals())
        self.warn(enrol is not None)
        own = None if enrol is None else self.enrol(enrol)
        given = sources(recordings)
        sentences = given_texts(texts, given, recordings)
        asked = copy.copy(self)  # other threads may ask too: its remarks are those of this call
        answers = Predictions(asked.each(given, own, errors, together=together, texts=sentences))
        self.remarks = (*asked.remarks, *unread(self.card, texts))
        for remark in asked.remarks:
            if remark.startswith(SHIFTED):
                warnings.warn(remark, stacklevel=2)
        return answers

    def each(self, recordings: Iterable[Path | bytes], own: Statistics | None = None,
             errors: list[tuple[Path, str]] | None = None, *, together: bool = False,
             texts: Iterable[str] = ()) -> Iterator[Prediction]:
        """Yield the predictions one by one; ``remarks`` is complete after the last.

        Parameters
        ----------
        recordings : paths, or the bytes of recordings.
        own : the speaker's statistics (``enrol``).
        errors : as in ``predict``; recordings without a path are ``<recording 1>``, ….
        together : as in ``predict``; the first ``MOST`` recordings are read before the first is answered.
        texts : what is said in each; "" from where they end.
        """
        check(Predictor.each, locals())
        self.remarks = ()
        lacking, outside = Counter[str](), Counter[str]()
        read = self._read(recordings, errors, chain(texts, repeat("")), lacking, outside)
        first = list(islice(read, MOST)) if together and own is None else []
        if first:
            own = self.conditions(np.stack([values for _, values, _ in first]))
        shifted = "" if own is None or own.heard else \
            (f"{SHIFTED}: the common statistics of {len(first)} of them scale their features, which supposes that they "
             "hold various emotions")
        self.remarks = (shifted,) if shifted else ()
        far = count = 0
        for path, values, reason in chain(first, read):
            count += 1
            far += bool(self.flattening(self.scale(values[None], own))[0] > unlike.FAR**unlike.FLATTENING)
            yield Prediction(**vars(self.answers(values[None], own)[0].refused(reason)), path=path)
        self.remarks += tuple(filter(None, [conditions.told(outside, count)]))
        if 4 * far > count:
            self.remarks += (f"the model knows little about {far} of {count} recordings, which are unlike those of its "
                             "training: their probabilities are flattened",)
        if lacking["end"]:
            self.remarks += (f"{lacking['end']} of {count} recordings end early (a cut transfer, a full disk): they "
                             "were answered by what there is",)
        if lacking["words"]:
            self.remarks += (f"the model reads words too, and {lacking['words']} of {count} recordings have no "
                             "transcript: there it goes by the voice alone (give --text, or a manifest with a "
                             "column transcript)",)

    def conditions(self, features: NDArray[np.float32]) -> Statistics | None:
        """Return the common statistics of several recordings (n, …) where they are unlike those of the training; None
        where they are not, where they are few, or where features are matrices or not scaled.
        """
        if self.card.statistics is None or self.card.normalise == "none":
            return None
        return unlike.conditions(features, self.card.statistics)

    def _read(self, recordings: Iterable[Path | bytes], errors: list[tuple[Path, str]] | None, texts: Iterable[str],
              lacking: Counter[str], outside: Counter[str],
              ) -> Iterator[tuple[Path | None, NDArray[np.float32], str | None]]:
        """Yield the path, None where there is none, the features, and why it is no speech, of each recording that can
        be used. ``lacking`` counts those without ``words`` that the model would read, and without an ``end``;
        ``outside`` those that are outside of the training's recording conditions.
        """
        for number, (recording, text) in enumerate(zip(recordings, texts), 1):
            path = recording if isinstance(recording, Path) else None
            try:
                signal = audio.read(recording, self.card.features.sample_rate, longest=LONGEST, advice=LITTLE)
                values, reason = self.features(signal, text), voice.no_speech(signal, self.card.features.sample_rate)
            except CorpusError as error:
                name = path or Path(f"<recording {number}>")
                reason = str(error).removeprefix(f"{name}: ")
                if errors is None:
                    raise CorpusError(f"{name}: {reason}") from None
                errors.append((name, reason))
                continue
            lacking["words"] += self.card.reads_words and not plain(text)
            lacking["end"] += early(recording) is not None
            if (known := self.card.corpus.conditions) is not None:
                outside.update(known.outside(*conditions.measured(signal, self.card.features.sample_rate)))
            yield path, values, reason

    def predict_signal(self, samples: ArrayLike, rate: float, own: Statistics | None = None, text: str = "") -> Answer:
        """Return the answer for samples.

        Parameters
        ----------
        samples : (n,), (n, channels) or (channels, n); floats of full scale 1, or integers of the full scale of their
            type (``features.samples.scaled``).
        rate : samples per second [Hz].
        own : the speaker's statistics (``enrol``).
        text : what is said, for models that read words.

        Raises
        ------
        CorpusError : where the samples or the rate are not those of a recording, too short, silent or not finite.
        """
        check(Predictor.predict_signal, {"own": own, "text": text})
        self.warn(own is not None)
        return self.answer(audio.usable(scaled(samples), checked_rate(rate), self.card.features.sample_rate), own, text)

    def warn(self, enrolled: bool) -> None:
        """Warn (UserWarning) of the limits in ``note``, the first time."""
        note = self.note(enrolled)
        if note and not self._warned:
            self._warned = True
            warnings.warn(note, stacklevel=3)

    def warm(self, seconds: float = 1.0) -> None:
        """Answer for noise once: the first clip imports libraries and makes filter banks, which delays its answer."""
        check(Predictor.warm, locals(), seconds=(0, LONGEST))
        from p2pser.base import seeding

        size = round(seconds * self.card.features.sample_rate)
        signal = seeding.generator(0, "warming up").standard_normal(size).astype(np.float32) * 0.1
        self.answers(self.features(signal, "warming up")[None])

    def enrol(self, recordings: Recordings, errors: list[tuple[Path, str]] | None = None) -> Statistics | None:
        """Return a speaker's statistics from their recordings; None where the model does not use any.

        errors : as in ``predict``. CorpusError is raised all the same where no recording is left.
        """
        check(Predictor.enrol, locals())
        if self.card.normalise != "speaker":
            return None
        known, reason = [], ""
        for number, recording in enumerate(sources(recordings), 1):
            try:
                known.append(self.features(audio.read(recording, self.card.features.sample_rate)))
            except CorpusError as error:
                path = recording if isinstance(recording, Path) else Path(f"<recording {number}>")
                reason = f"{path} cannot be enrolled: {str(error).removeprefix(f'{path}: ')}"
                if errors is None:
                    raise CorpusError(reason) from None
                errors.append((path, reason.removeprefix(f"{path} ")))
        if not known:
            raise CorpusError(f"no recording is left to enrol: {reason}")
        return known_by(np.stack(known), self.card.statistics)

    def answer(self, signal: NDArray[np.float32], own: Statistics | None = None, text: str = "") -> Answer:
        """Return the answer for samples (n,) at the card's rate, in which ``text`` is said."""
        return self.heard(self.answers(self.features(signal, text)[None], own)[0], signal)

    def heard(self, answer: Answer, signal: NDArray[np.float32]) -> Answer:
        """Return the answer for samples (n,) at the card's rate, unsure where they are no speech."""
        return answer.refused(voice.no_speech(signal, self.card.features.sample_rate))

    def answers(self, features: NDArray[np.float32], own: Statistics | None = None) -> list[Answer]:
        """Return an answer for each of n clips.

        ``features`` (n, …) are not scaled; ``own`` are the speaker's statistics. Others raise ModelError.
        """
        if not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.shape[1:] != self.card.shape:
            shape = ", ".join(map(str, self.card.shape))
            raise ModelError(f"the model takes floats of shape (n, {shape}), not {in_one_line(repr(features), 80)}")
        scaled = self.scale(features, own)
        outputs = self.run(scaled).astype(np.float64)
        names = self.card.dimensions
        ratings = [dict(zip(names, map(float, np.clip(row[len(row) - len(names) :], -1, 1)))) for row in outputs]
        if not self.labels:
            return [Answer(nearest_emotion(*each.values()), {}, each) for each in ratings]
        clips = 0 if own is None else own.heard
        chances = softmax(outputs[:, : len(self.labels)] / self.temperatures(scaled, own)[:, None])
        answers = [Answer(self.labels[int(row.argmax())], dict(zip(self.labels, map(float, row))), each)
                   for row, each in zip(chances, ratings)]
        return self._with_sets(answers, chances, features, self.card.sets_for(clips))

    def _with_sets(self, answers: list[Answer], chances: NDArray[np.float64], features: NDArray[np.float32],
                   sets: Sets | None) -> list[Answer]:
        """Return the answers with their sets of emotions, and whether they are to be relied on."""
        if sets is None:
            return answers
        statistics = self.card.statistics
        inside = members(chances, sets.threshold(self.coverage))
        apart = np.zeros(len(answers)) if sets.far is None or statistics is None else \
            unlike.distances(statistics.apply(features))
        return [replace(answer, emotions=tuple(name for name, _ in answer.top(int(row.sum()))), coverage=self.coverage,
                        unsure=why_unsure(int(row.sum()), len(row), self.coverage, float(distance), sets.far))
                for answer, row, distance in zip(answers, inside, apart)]

    def temperatures(self, scaled: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float64]:
        """Return what the logits of n clips are divided by: the card's temperature for what was heard of the speaker,
        and more where a clip is unlike those of the training (``features.unlike``).
        """
        known = self.card.temperature_for(0 if own is None else own.heard)
        if own is not None and known < 1:  # it sharpens only what is like the training
            known **= 1 - unlike.doubt(own)
        return known * self.flattening(scaled)

    def flattening(self, scaled: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the logits of n clips are divided by beside the card's temperature (``unlike.flattening``)."""
        return np.ones(len(scaled)) if self.card.normalise == "none" else unlike.flattening(scaled)

    def run(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's outputs (n, ·) for features (n, …) that are scaled."""
        if isinstance(self.module, OnnxNetwork):
            return self.module.outputs(scaled)
        from p2pser.models.inference import logits

        return _finite(logits(self.module, scaled))

    def scale(self, features: NDArray[np.float32], own: Statistics | None = None) -> NDArray[np.float32]:
        """Return features scaled as the model expects: by ``own`` or the training statistics, or not at all."""
        if self.card.normalise == "none":
            return features.astype(np.float32, copy=False)
        statistics = own or self.card.statistics
        if statistics is None:
            raise ModelError("the model's card has no training statistics; enrol the speaker with recordings")
        return statistics.apply(features)

    def features(self, signal: NDArray[np.float32], text: str = "") -> NDArray[np.float32]:
        """Return the features of samples (n,) at the card's rate, in which ``text`` is said.

        Raises ModelError where they do not fit the model, CorpusError where it reads words alone and there are none.
        """
        self.card.require_recordings()
        if clip_features.of_sound(self.card.features) is None and not plain(text):
            raise CorpusError("the model reads words alone: give what is said (--text, or a manifest with a column "
                              "transcript; in Python texts=)")
        values = clip_features.compute(signal, self.card.features, text)
        if values.shape != self.card.shape:
            raise ModelError(f"the model takes features of shape {self.card.shape}, not {values.shape}; "
                             "use the version of p2pser that trained it")
        return completed(values, self.card)


def _finite(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outputs. Raises ModelError where they are not finite: their most probable emotion means nothing."""
    if not np.isfinite(outputs).all():
        raise ModelError("the model's answers are no finite numbers: its parameters are damaged, or its training "
                         "diverged; copy the model again, or train anew")
    return outputs


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities (n, classes) of logits (n, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def most_probable(row: dict[str, Any], top_k: int | None) -> dict[str, Any]:
    """Return an answer's plain data with its ``top_k`` most probable emotions, in order; with all where it is None."""
    return row if top_k is None else {**row, "probabilities": dict(ranked(row["probabilities"], top_k))}


def load(path: str | os.PathLike[str], encoder: str | None = None, coverage: float = USUAL) -> Predictor:
    """Return the predictor of a model directory. Raises ModelError where it cannot be used.

    Parameters
    ----------
    path : the directory.
    encoder : the folder or Hugging Face name of its encoder, of speech or text, where this machine does not find it.
    coverage : of the sets of emotions that the answers have, where the model was calibrated for them.
    """
    path = Path(path)
    if onnx_network.stands_in(path):
        card, _ = directory.read_card(path, encoder)
        return Predictor(onnx_network.load(path, card), card, coverage)
    predictor = Predictor(*directory.load(path, encoder), coverage)
    from p2pser.models.inference import forks_with_one_thread

    forks_with_one_thread()
    return predictor
