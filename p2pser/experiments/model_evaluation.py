"""One model on a corpus: which clips are tested, how they are scaled, and who of their speakers it was
trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, ModelError
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.labels import merged, with_labels
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.targets import dimensions, with_dimensions
from p2pser.evaluation.calibration import fit_temperature
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.metrics import Predictions, uar_folds
from p2pser.evaluation.outputs import Outputs
from p2pser.evaluation.report import Report
from p2pser.features.extraction import extract
from p2pser.features.federation import Examples
from p2pser.features.normalisation import Statistics, by_speaker
from p2pser.inference.predictor import Predictor, enrolled
from p2pser.models.directory import Card, Origin
from p2pser.models.inference import logits

ENROLMENTS = (1, 5, 10)
"""Numbers of clips whose statistics are tried for each test speaker, beside all of them."""


@dataclass(frozen=True)
class Trial:
    """Clips to test, fold by fold (indices into ``corpus.clips``), and what to say of the choice.

    numbers: of the folds, as the split counts them.
    """

    corpus: Corpus
    folds: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    split: str
    overlap: int | None
    notes: tuple[str, ...]


def choose(card: Card, whole: Corpus, *, seed: int = 0, split: str = "auto", fold: int | None = None,
           everything: bool = False, known_labels: bool = False) -> Trial:
    """Return which clips of a corpus test a model.

    Where the corpus is the one that the model was trained on and neither ``split`` nor ``fold`` is given: the
    fold that its training left out. Else fold ``fold`` of the split, or all clips, fold by fold
    (``everything``, and the default for another corpus). ``seed`` is the synthetic corpus's.
    ``known_labels``: leave out clips of emotions that the model does not know.

    Raises CorpusError where it meets such an emotion otherwise, where no clip is left, or the fold does not
    exist; for a model of dimensions alone also where no clip has any.
    """
    said, whole = whole.notes, merged(whole, card.corpus.map, all_known=False)
    known = [clip for clip in whole.clips if clip.emotion in card.labels]
    unknown = sorted({clip.emotion for clip in whole.clips if clip.emotion} - set(card.labels))
    # Of several corpora that a model was trained on, training left the same emotions out.
    left_out = card.corpus.corpora.keys() & {whole.name, *(p.name for p in whole.parts)}
    if unknown and card.labels and not known_labels and not left_out:
        raise CorpusError(f"{whole.name} has emotions that the model does not know ({', '.join(unknown)}; it "
                          f"knows {', '.join(card.labels)}); give --known-labels to leave those clips out")
    rated = bool(card.dimensions) and any(getattr(clip, name) is not None for clip in whole.clips
                                          for name in card.dimensions)
    if card.labels and not known and not rated:
        raise CorpusError(f"{whole.name} has no clip of an emotion that the model knows "
                          f"({', '.join(card.labels)})")
    corpus = with_dimensions(whole, card.labels) if rated or not card.labels else with_labels(whole, card.labels)
    origin, seen = card.corpus.within(corpus, seed)
    if origin is not None and not everything and fold is None and split == "auto" and origin.split != "none":
        split, fold = origin.split, origin.fold
    tested, name = _tested(corpus, split, fold)
    overlap, notes = _overlap(corpus, origin, tested) if origin is not None else (None, [])
    notes += [f"note: {merge}" for merge in whole.notes[len(said):]]
    if seen and origin is None:
        notes.append(f"note: the model was trained on clips of {corpus.name} too, and of which speakers cannot be told "
                     f"from this corpus alone: evaluate on {card.corpus.name}")
    numbers = tuple(range(len(tested))) if fold is None else (fold,)
    return Trial(corpus, tested, numbers, name, overlap, tuple(notes))


def _tested(corpus: Corpus, split: str, fold: int | None) -> tuple[tuple[tuple[int, ...], ...], str]:
    whole = (tuple(range(len(corpus.clips))),)
    if split == "none" or (split == "auto" and fold is None and not _splits(corpus)):
        return whole, "all clips"
    several = folds(corpus, split)
    name = corpus.default_split if split == "auto" else split
    if fold is None:
        return tuple(one.test for one in several), f"{name}, all folds"
    if not 0 <= fold < len(several):
        raise CorpusError(f"fold {fold} does not exist: the split {name} of {corpus.name} has folds 0 to "
                          f"{len(several) - 1}")
    return (several[fold].test,), several[fold].name


def _splits(corpus: Corpus) -> bool:
    """Whether the corpus's default split can be made: it names at least two speakers."""
    return corpus.names_speakers and len(corpus.speakers) > 1


def _overlap(corpus: Corpus, origin: Origin, tested: Sequence[Sequence[int]]) -> tuple[int | None, list[str]]:
    """Return how many test speakers the model was trained on, None where that cannot be known, and what to
    say.
    """
    try:
        splits: list[Split] = folds(corpus, origin.split)
    except CorpusError:
        return None, []
    if origin.fold >= len(splits) or not corpus.names_speakers:
        return None, []
    trained = {corpus.clips[index].speaker for index in splits[origin.fold].train}
    speakers = {corpus.clips[index].speaker for part in tested for index in part}
    shared = len(trained & speakers)
    if not shared:
        return 0, []
    return shared, [f"note: the model was trained on {shared} of the {len(speakers)} test speakers: the "
                    "figures say nothing about new speakers"]


def evaluate(predictor: Predictor, trial: Trial, *, seed: int = 0, workers: int | None = None,
             progress: bool = False) -> Report:
    """Return the report of a model on the clips of a trial.

    Raises CorpusError where no clip can be used; single bad clips are left out and counted.
    """
    card, corpus = predictor.card, trial.corpus
    wanted = sorted({index for part in trial.folds for index in part})
    extraction = extract([corpus.clips[index].path for index in wanted], card.features, workers=workers,
                         progress=progress)
    left_out = extraction.left_out
    usable = {index: values for index, values in zip(wanted, extraction.features) if values is not None}
    parts = {number: [index for index in part if index in usable] for number, part in zip(trial.numbers, trial.folds)}
    parts = {number: part for number, part in parts.items() if part}
    if not parts:
        raise CorpusError(f"no clip of {corpus.name} can be tested" + (
            f"; the first, {left_out[0][0]}: {left_out[0][1]}" if left_out else ": the split holds none out"))
    speaker = card.normalise == "speaker" and corpus.names_speakers
    said, ratings = _answers(predictor, corpus, parts, usable, None if speaker else 0, seed)
    answered = said or ratings
    if answered is None:
        raise CorpusError(f"no clip of {corpus.name} that can be tested has what the model answers")
    by_enrolment: dict[str, float] = {}
    if speaker and card.statistics is not None and said is not None:
        for count in (*ENROLMENTS, None, 0):
            few = said if count is None else _answers(predictor, corpus, parts, usable, count, seed)[0]
            assert few is not None
            by_enrolment[{None: "all", 0: "none"}.get(count, str(count))] = uar_folds(few)
    peers = card.training.get("peers")
    warning = [f"note: the model was {card.warning}"] if card.warning else []
    return Report(
        corpus=corpus.name, version=corpus.version, synthetic=corpus.synthetic, split=trial.split,
        labels=card.labels, predictions=said, normalise=card.normalise,
        normalise_note=_how(card, answered.speakers, speaker), selection=card.selection,
        peers=peers if isinstance(peers, int) else None, speaker_overlap=trial.overlap,
        uar_by_enrolment=by_enrolment, left_out=len(left_out), temperature=card.temperature, ratings=ratings,
        notes=(*trial.notes, *warning), seed=seed)


def calibrate(report: Report) -> Report:
    """Return the report of a model with the temperature that suits the report's clips (``learning.calibration``).

    Raises CorpusError where the model was trained on their speakers, or where there are less than two; ModelError where
    it knows no emotions.
    """
    said = report.predictions
    if said is None or said.logits is None:
        raise ModelError("the model knows no emotions, so it has no probabilities to calibrate")
    if report.speaker_overlap:
        raise CorpusError(f"the model was trained on {report.speaker_overlap} of these speakers, of whom it is surer "
                          "than of others: calibrate on speakers that it does not know")
    if len(set(said.speakers)) < 2:
        raise CorpusError(f"{report.corpus} has clips of one speaker to calibrate on; at least two are needed, to tell "
                          "what it gives for others")
    return replace(report, temperature=fit_temperature(said.logits, said.targets), fitted_here=True)


def _how(card: Card, speakers: Sequence[str], speaker: bool) -> str:
    if card.normalise == "global":
        return "training statistics"
    if card.normalise == "none":
        return ""
    if not speaker:
        return "the corpus does not name its speakers: training statistics serve, which costs accuracy"
    counts = np.unique(np.asarray(speakers), return_counts=True)[1]
    return (f"each test speaker's statistics come from all their test clips, {counts.min()} to "
            f"{counts.max()}, without labels: transductive")


def _answers(predictor: Predictor, corpus: Corpus, parts: Mapping[int, Sequence[int]],
             usable: dict[int, NDArray[np.float32]], enrolment: int | None,
             seed: int) -> tuple[Predictions | None, Ratings | None]:
    """Predict fold by fold. enrolment: how many of a speaker's clips give their statistics (None: all; 0: none).

    A fold of which no clip has an emotion counts for the dimensions alone.
    """
    card = predictor.card
    places = {label: k for k, label in enumerate(card.labels)}
    folded = {}
    for number, part in parts.items():
        clips = [corpus.clips[index] for index in part]
        examples = Examples(
            np.stack([usable[index] for index in part]),
            np.array([places.get(clip.emotion or "", -1) for clip in clips], dtype=np.int64),
            tuple(clip.speaker for clip in clips), tuple(corpus.relative(clip) for clip in clips),
            tuple(clip.gender for clip in clips), dimensions=dimensions(clips) if card.dimensions else None)
        if card.normalise == "speaker":
            scaled = scale(examples.features, examples.speakers, enrolment, card.statistics, seed)
        else:
            scaled = predictor.scale(examples.features)
        folded[number] = Outputs.of(logits(predictor.module, scaled), examples, card.task, len(card.labels))
    said = {number: one.predictions for number, one in folded.items() if one.predictions is not None}
    rated = {number: one.ratings for number, one in folded.items() if one.ratings is not None
             and not np.isnan(one.ratings.targets).all()}
    return (_numbered(Predictions.concatenate(list(said.values())), list(said)) if said else None,
            _numbered(Ratings.concatenate(list(rated.values())), list(rated)) if rated else None)


Answered = TypeVar("Answered", Predictions, Ratings)


def _numbered(pooled: Answered, numbers: Sequence[int]) -> Answered:
    """What was concatenated, its folds called by their numbers."""
    return replace(pooled, folds=np.asarray(numbers, dtype=np.int64)[pooled.folds])


def scale(values: NDArray[np.float32], speakers: Sequence[str], enrolment: int | None, training: Statistics | None,
          seed: int) -> NDArray[np.float32]:
    """Return features (n, ...) as a model trained on each speaker's own statistics is to have them.

    enrolment: how many of a speaker's clips, drawn by (seed, speaker), give that speaker's statistics, steadied by the
    ``training`` ones; None: all of them; 0: none, the training statistics serve. Raises ModelError where those are
    needed and not there.
    """
    if enrolment is None:
        return by_speaker(values, speakers)
    if enrolment == 0:
        if training is None:
            raise ModelError("the model's card has no training statistics; enrol the speaker with recordings")
        return training.apply(values)
    names = np.asarray(speakers)
    scaled = np.empty(values.shape, dtype=np.float32)
    for speaker in np.unique(names):
        own = np.flatnonzero(names == speaker)
        chosen = seeding.generator(seed, f"enrolment {speaker}").permutation(own)[:enrolment]
        scaled[own] = enrolled(values[chosen], training).apply(values[own])
    return scaled
