"""The evaluation of one model on a corpus: the tested clips, their normalisation, and the speakers that the model was
trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError, ModelError
from p2pser.base.registries import CORPORA
from p2pser.base.wording import are
from p2pser.corpora import by_sentence
from p2pser.corpora.consent import Consent
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.labels import merged, with_labels
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.targets import dimensions, with_dimensions
from p2pser.evaluation.calibration import by_clips_heard, fit_temperature
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.conformal import sets_by_clips_heard
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Outputs
from p2pser.evaluation.report import Report
from p2pser.features import conditions
from p2pser.features.extraction import extract
from p2pser.features.federation import Examples
from p2pser.features.normalisation import Statistics, enrolled
from p2pser.features.public import SOURCE
from p2pser.features.unlike import distances
from p2pser.inference.predictor import MOST, Predictor
from p2pser.inference.words import completed
from p2pser.models.directory import Card
from p2pser.models.heard import counts
from p2pser.models.origin import Origin


@dataclass(frozen=True)
class Trial:
    """Clips to test, fold by fold (indices into ``corpus.clips``).

    numbers: of the folds, as the split counts them. overlap: number of test speakers that the model was trained on;
    None: unknown. notes: lines for the report.
    """

    corpus: Corpus
    folds: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    split: str
    overlap: int | None
    notes: tuple[str, ...]


def choose(card: Card, whole: Corpus, *, seed: int = 0, split: str = "auto", fold: int | None = None,
           everything: bool = False, known_labels: bool = False) -> Trial:
    """Return the clips of a corpus that test a model.

    On the corpus of the model's training, without ``split`` and ``fold``, they are the fold that training left out.

    Parameters
    ----------
    card : of the model.
    whole : the corpus.
    seed : of the synthetic corpus.
    split, fold : test this fold of this split; without a fold all clips, fold by fold (the default for another corpus).
    everything : test all clips, fold by fold, on the corpus of the training too.
    known_labels : leave out clips of emotions that the model does not know.

    Raises
    ------
    CorpusError : where the corpus has emotions that the model does not know (without ``known_labels``), where no clip
        is left, where the fold does not exist, and where a model of dimensions meets a corpus without dimensions.
    """
    notes_before, whole = len(whole.notes), merged(whole, card.corpus.map, all_known=False)
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
    tested, without = _with_consent(card, corpus, tested)
    overlap, notes = _overlap(corpus, origin, tested) if origin is not None else (None, [])
    if origin is None and not seen and _elsewhere(card, corpus):
        overlap = 0
        notes.append(f"note: {corpus.name} is not among the corpora that the card names, so the model knows none of "
                     "its speakers")
    notes += [*_languages(card, corpus, tested), *without]
    notes += [f"note: {merge}" for merge in whole.notes[notes_before:]]
    if seen and origin is None:
        notes.append(f"note: the model was trained on clips of {corpus.name} too, and this corpus alone does not show "
                     f"of which speakers: evaluate on {card.corpus.name}")
    numbers = tuple(range(len(tested))) if fold is None else (fold,)
    return Trial(corpus, tested, numbers, name, overlap, tuple(notes))


def _tested(corpus: Corpus, split: str, fold: int | None) -> tuple[tuple[tuple[int, ...], ...], str]:
    whole = (tuple(range(len(corpus.clips))),)
    if split == "none" or (split == "auto" and fold is None and not _splits(corpus)):
        return whole, "all clips"
    several = folds(corpus, split)
    name = corpus.default_split if split == "auto" else split
    if fold is None:
        return tuple(part.test for part in several), f"{name}, all folds"
    if not 0 <= fold < len(several):
        raise CorpusError(f"fold {fold} does not exist: the split {name} of {corpus.name} has folds 0 to "
                          f"{len(several) - 1}")
    return (several[fold].test,), several[fold].name


def _with_consent(card: Card, corpus: Corpus, tested: Sequence[Sequence[int]]
                  ) -> tuple[tuple[tuple[int, ...], ...], list[str]]:
    """Return the clips of each fold that may be used today, for the purpose that the card names, and a note on the
    others.
    """
    consent = Consent(str(card.training.get("purpose") or ""), date.today())
    refused = {index: why for part in tested for index in part if (why := consent.objection(corpus.clips[index]))}
    each = "; ".join(f"{count} × {why}" for why, count in Counter(refused.values()).most_common())
    notes = [f"note: {are(len(refused), 'clip')} left out: {each}"] if refused else []
    return tuple(tuple(index for index in part if index not in refused) for part in tested), notes


def _elsewhere(card: Card, corpus: Corpus) -> bool:
    """Whether the card names the corpora of the training, of those that p2pser knows by name, and this is another."""
    trained = {*card.corpus.corpora} or {card.corpus.name}
    return not card.corpus.own and trained | {corpus.name} <= {*CORPORA} and corpus.name not in trained


def _languages(card: Card, corpus: Corpus, tested: Sequence[Sequence[int]]) -> list[str]:
    spoken = {corpus.clips[index].language for part in tested for index in part} - {""}
    foreign = sorted(spoken - {*card.corpus.languages})
    if not card.corpus.languages or not foreign:
        return []
    return [f"note: these clips are in {', '.join(foreign)}, and the model was trained on "
            f"{', '.join(card.corpus.languages)}: it errs more often on other languages"]


def _splits(corpus: Corpus) -> bool:
    """Whether the corpus's default split can be made: it names at least two speakers."""
    return corpus.names_speakers and len(corpus.speakers) > 1


def _overlap(corpus: Corpus, origin: Origin, tested: Sequence[Sequence[int]]) -> tuple[int | None, list[str]]:
    """Return the number of test speakers that the model was trained on, None where it is unknown, and notes."""
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

    Parameters
    ----------
    predictor : the model.
    trial : the clips.
    seed : keys the resampling and the choice of enrolment clips.
    workers : processes that compute features; default: one per core.
    progress : whether to show a progress bar.

    Raises
    ------
    CorpusError : where no clip can be used. Single clips that cannot be used are left out and counted.
    """
    card, corpus = predictor.card, trial.corpus
    wanted = sorted({index for part in trial.folds for index in part})
    card.require_recordings()
    extraction = extract([corpus.clips[index].path for index in wanted], card.features, workers=workers,
                         progress=progress, texts=[corpus.clips[index].transcript for index in wanted])
    left_out = extraction.left_out
    usable = {index: completed(values, card) for index, values in zip(wanted, extraction.features)
              if values is not None}
    parts = {number: [index for index in part if index in usable] for number, part in zip(trial.numbers, trial.folds)}
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
        corpus=corpus.name, version=corpus.version, synthetic=corpus.synthetic, split=trial.split,
        labels=card.labels, predictions=predictions, normalise=card.normalise,
        normalise_note=_how(card, known.speakers, speaker), selection=card.selection,
        peers=peers if isinstance(peers, int) else None, speaker_overlap=trial.overlap,
        by_enrolment=by_enrolment, heard=card.heard, left_out=len(left_out), temperature=card.temperature,
        ratings=ratings, sets=card.sets, distances=apart, groups=groups, notes=(*trial.notes, *warning), seed=seed,
        unlike=common is not None)


def _conditions(card: Card, paths: Sequence[Path]) -> list[str]:
    """Return a note where the recordings are outside of the conditions of the training."""
    if card.corpus.conditions is None:
        return []
    found = conditions.sample(paths, card.features.sample_rate)
    outside = Counter(what for _, *values in found for what in card.corpus.conditions.outside(*values))
    return [f"note: {said}" for said in [conditions.told(outside, len(found))] if said]


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
        raise CorpusError(f"{report.corpus} has clips of one speaker to calibrate on; at least two are needed, to show "
                          "the effect on other speakers")
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
    """Return predictions and ratings, fold by fold. enrolment: as ``clips`` of ``enrolled``.

    flattened: whether logits are divided as ``predict`` does for clips that are unlike the training's. own: the
    statistics that scale all clips instead. A fold without clips that have an emotion counts for the dimensions alone.
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
            scaled = enrolled(examples.features, examples.speakers, enrolment, card.statistics, seed)
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
