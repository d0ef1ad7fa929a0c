"""Which clips of a corpus test a model, and whether the model was trained on their speakers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.base.wording import are
from p2pser.corpora.consent import Consent
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.labels import merged, with_labels
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.targets import with_dimensions
from p2pser.models.directory import Card
from p2pser.models.origin import Origin


@dataclass(frozen=True)
class EvaluationSet:
    """Clips that test a model, fold by fold (indices into ``corpus.clips``).

    numbers : of the folds, as the split counts them. overlap : number of test speakers on which the model was trained;
    None where it is unknown. notes : lines for the report.
    """

    corpus: Corpus
    folds: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    split: str
    overlap: int | None
    notes: tuple[str, ...]


def choose(card: Card, whole: Corpus, *, seed: int = 0, split: str = "auto", fold: int | None = None,
           everything: bool = False, known_labels: bool = False) -> EvaluationSet:
    """Return the clips of a corpus that test a model.

    On the corpus of the model's training, without ``split`` and ``fold``, they are the fold that training held out.

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
    CorpusError : the corpus has emotions that the model does not know (without ``known_labels``), no clip is left, the
        fold does not exist, or a model of dimensions meets a corpus without dimensions.
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
    return EvaluationSet(corpus, tested, numbers, name, overlap, tuple(notes))


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
