"""The evaluation of a model on clips of a corpus, and its calibration on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError, ModelError
from p2pser.corpora import by_sentence
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.targets import dimensions
from p2pser.evaluation.calibration import by_clips_heard, fit_temperature
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.conformal import sets_by_clips_heard
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Outputs
from p2pser.evaluation.report import Report
from p2pser.experiments.evaluation_set import EvaluationSet
from p2pser.features import conditions
from p2pser.features.extraction import extract
from p2pser.features.federation import Examples
from p2pser.features.normalisation import Statistics, by_speaker, enrolled
from p2pser.features.public import SOURCE
from p2pser.features.unlike import distances
from p2pser.inference.predictor import MOST, Predictor
from p2pser.inference.words import completed
from p2pser.models.directory import Card
from p2pser.models.heard import counts


def evaluate(predictor: Predictor, clips: EvaluationSet, *, seed: int = 0, workers: int | None = None,
             progress: bool = False) -> Report:
    """Return the report of a model on the clips of an evaluation set.

    Parameters
    ----------
    predictor : the model.
    clips : to test.
    seed : keys the resampling and the choice of enrolment clips.
    workers : number of processes that compute features; default: one per core.
    progress : show a progress bar on standard error.

    Raises
    ------
    CorpusError : where no clip can be used. Single clips that cannot be used are left out and counted.
    """
    card, corpus = predictor.card, clips.corpus
    wanted = sorted({index for part in clips.folds for index in part})
    card.require_recordings()
    extraction = extract([corpus.clips[index].path for index in wanted], card.features, workers=workers,
                         progress=progress, texts=[corpus.clips[index].transcript for index in wanted])
    left_out = extraction.left_out
    usable = {index: completed(values, card) for index, values in zip(wanted, extraction.features)
              if values is not None}
    parts = {number: [index for index in part if index in usable] for number, part in zip(clips.numbers, clips.folds)}
    parts = {number: part for number, part in parts.items() if part}
    if not parts:
        raise CorpusError(f"no clip of {corpus.name} can be tested" + (
            f"; the first, {left_out[0][0]}: {left_out[0][1]}" if left_out else ": the split holds none out"))
    speaker = card.normalise == "speaker" and corpus.names_speakers
    predictions, ratings = _outputs(predictor, corpus, parts, usable, None if speaker else 0, seed)
    known = predictions or ratings
    if known is None:
        raise CorpusError(f"no clip of {corpus.name} that can be tested has a target of the kind that the model "
                          "predicts")
    common = predictor.conditions(np.stack(list(usable.values())[:MOST]))
    by_enrolment: dict[int, Predictions] = {}
    if predictions is not None and (card.statistics is not None or not speaker):
        for count in counts(Counter(predictions.speakers)) if speaker else (0,):
            scored = _outputs(predictor, corpus, parts, usable, count, seed, flattened=True,
                              own=None if count else common)[0]
            if scored is not None:
                by_enrolment[count] = scored
    rated = [index for part in parts.values() for index in part if corpus.clips[index].emotion in card.labels]
    apart = distances(card.statistics.apply(np.stack([usable[index] for index in rated]))) \
        if rated and card.statistics is not None else None
    groups = {"language": [corpus.clips[index].language for index in rated],
              "corpus": [corpus.clips[index].corpus for index in rated]}
    peers = card.training.get("peers")
    warning = [f"note: the model was {card.warning}"] if card.warning else []
    warning += _conditions(card, [corpus.clips[index].path for index in usable])
    warning += [f"note: {each}" for each in by_sentence.notes(corpus, wanted, (), ())] if card.reads_words else []
    return Report(
        corpus=corpus.name, version=corpus.version, synthetic=corpus.synthetic, split=clips.split,
        labels=card.labels, predictions=predictions, normalise=card.normalise,
        normalise_note=_how(card, known.speakers, speaker), selection=card.selection,
        peers=peers if isinstance(peers, int) else None, speaker_overlap=clips.overlap,
        by_enrolment=by_enrolment, heard=card.heard, left_out=len(left_out), temperature=card.temperature,
        ratings=ratings, sets=card.sets, distances=apart, groups=groups, notes=(*clips.notes, *warning), seed=seed,
        unlike=common is not None)


def _conditions(card: Card, paths: Sequence[Path]) -> list[str]:
    """Return a note where the recordings are outside of the conditions of the training."""
    if card.corpus.conditions is None:
        return []
    samples = conditions.sample(paths, card.features.sample_rate)
    outside = Counter(what for _, *values in samples for what in card.corpus.conditions.outside(*values))
    return [f"note: {sentence}" for sentence in [conditions.told(outside, len(samples))] if sentence]


def calibrate(report: Report) -> Report:
    """Return the report with temperatures fitted on its clips, one for each number of clips heard of a speaker.

    Raises CorpusError where the model was trained on their speakers, or where there are fewer than two; ModelError for
    a model without emotions.
    """
    predictions = report.predictions
    if predictions is None or predictions.logits is None:
        raise ModelError("the model knows no emotions, so it has no probabilities to calibrate")
    if report.speaker_overlap:
        raise CorpusError(f"the model was trained on {report.speaker_overlap} of these speakers, for whom it is more "
                          "confident than for others: calibrate on speakers that it does not know")
    if len(set(predictions.speakers)) < 2:
        raise CorpusError(f"{report.corpus} has clips of one speaker only, and a calibration needs two, of whom one "
                          "shows the effect on the other: give clips of more speakers")
    heard = by_clips_heard(report.by_enrolment)
    return replace(
        report, temperature=fit_temperature(predictions.logits, predictions.targets), fitted_here=True, heard=heard,
        sets=sets_by_clips_heard({count: [each] for count, each in report.by_enrolment.items()}, heard,
                                 f"{report.corpus}, {report.split}", [report.distances]))


def _how(card: Card, speakers: Sequence[str], speaker: bool) -> str:
    if card.normalise == "global":
        return "training statistics"
    if card.normalise == "public":
        return f"statistics of {SOURCE}"
    if card.normalise == "none":
        return ""
    if not speaker:
        return "the corpus does not name its speakers: training statistics are used, which costs accuracy"
    counts = np.unique(np.asarray(speakers), return_counts=True)[1]
    return (f"each test speaker's statistics come from all their test clips, {counts.min()} to "
            f"{counts.max()}, without labels: transductive")


def _outputs(predictor: Predictor, corpus: Corpus, parts: Mapping[int, Sequence[int]],
             usable: dict[int, NDArray[np.float32]], enrolment: int | None, seed: int, *, flattened: bool = False,
             own: Statistics | None = None) -> tuple[Predictions | None, Ratings | None]:
    """Return predictions and ratings, fold by fold.

    enrolment: how many clips scale those of a speaker as ``predict`` scales them (``enrolled``); None: all, as in the
    test of the run itself. flattened: whether logits are divided as ``predict`` does for clips that are unlike the
    training's. own: the statistics that scale all clips instead. A fold without clips that have an emotion counts for
    the dimensions alone.
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
        if card.normalise == "speaker" and own is None:
            scaled = by_speaker(examples.features, examples.speakers, card.statistics) if enrolment is None else \
                enrolled(examples.features, examples.speakers, enrolment, card.statistics, seed)
        else:
            scaled = predictor.scale(examples.features, own)
        raw = predictor.run(scaled)
        if flattened:
            raw[:, : len(card.labels)] /= predictor.flattening(scaled)[:, None]
        folded[number] = Outputs.of(raw, examples, card.task, len(card.labels))
    predicted = {number: fold.predictions for number, fold in folded.items() if fold.predictions is not None}
    rated = {number: fold.ratings for number, fold in folded.items() if fold.ratings is not None
             and not np.isnan(fold.ratings.targets).all()}
    return (_numbered(Predictions.concatenate(list(predicted.values())), list(predicted)) if predicted else None,
            _numbered(Ratings.concatenate(list(rated.values())), list(rated)) if rated else None)


Pooled = TypeVar("Pooled", Predictions, Ratings)


def _numbered(pooled: Pooled, numbers: Sequence[int]) -> Pooled:
    """Return what was concatenated with the split's numbers of its folds."""
    return replace(pooled, folds=np.asarray(numbers, dtype=np.int64)[pooled.folds])
