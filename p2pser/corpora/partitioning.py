"""From a run's settings to labels, fold and each peer's clips. No recording is opened."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from p2pser.base.errors import CorpusError, nearest
from p2pser.base.wording import are, shown
from p2pser.config import Config
from p2pser.corpora import combined as several
from p2pser.corpora import targets
from p2pser.corpora.consent import Consent
from p2pser.corpora.copies import apart
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.holding_out import hold_out, note_of
from p2pser.corpora.labels import absent_note, choose_labels, label_notes, unknown_note, with_labels
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.partitions import partition
from p2pser.corpora.spread import AUTO, Scaling, by_all, by_speakers, chosen

MATRICES, BUDGET = "they are matrices", "a budget allows no statistics of all peers"
"""Why features are scaled as they are."""
SHOWN = 3
"""Reasons why files are left out that a note names."""


@dataclass(frozen=True)
class Partitioning:
    """A fold, partitioned over peers; fields as in ``federation.Federation``. ``corpus`` holds the usable clips,
    ``held_out`` for each peer the clips that it calibrates the model on.
    """

    corpus: Corpus
    labels: tuple[str, ...]
    split: Split
    held: tuple[tuple[int, ...], ...]
    scaling: Scaling
    speaker_overlap: int
    notes: tuple[str, ...]
    held_out: tuple[tuple[int, ...], ...] = ()


def partition_corpus(config: Config, peers: int, *, hub: int | None = None, forgotten: Collection[str] = (),
                     today: date | None = None) -> Partitioning:
    """Return fold ``config.corpus.fold`` of the run's corpora, partitioned over ``peers`` peers; ``hub`` has no clips.

    Clips that may not be used are left out of a peer's share after the partition, which so is the same at all peers.

    Parameters
    ----------
    config, peers, hub : the run's.
    forgotten : speakers whose clips are left out.
    today : the day up to which consents must last; default: this one.

    Raises CorpusError where the corpus, the split or the partition does not fit, too few labels are left, the fold
    does not exist, or a clip's purpose is banned.
    """
    settings = config.corpus
    whole = several.load(settings)
    labels, corpus = to_learn(config, whole)
    several_folds = folds(corpus, settings.split)
    _require(settings.fold, several_folds, corpus, settings.split)
    split, again = apart(corpus, _trained_on(corpus, several_folds[settings.fold], settings.train))
    holders = [peer for peer in range(peers) if peer != hub]
    whole_share = [corpus.clips[index] for index in split.train]
    shares = dict(zip(holders, partition(whole_share, settings.partition, len(holders), config.seed)))
    held = tuple(tuple(split.train[place] for place in shares.get(peer, ())) for peer in range(peers))
    away: tuple[tuple[int, ...], ...] = ((),) * peers
    if share := config.training.held_out:
        held, away = hold_out(corpus.clips, held, share, config.seed, own=settings.partition == "own",
                              named=corpus.names_speakers)
    consent = Consent(config.privacy.purpose, today or date.today(), forgotten)
    # Of all clips: what one peer has left out must not change what is equal at all peers.
    scaled = scaling(config, corpus, whole_share)
    corpus, split, both = consent.applied(corpus, split, (*held, *away))
    held, away = both[:peers], both[peers:]
    training = [corpus.clips[index] for index in split.train]
    overlap = len({clip.speaker for clip in training} & {corpus.clips[index].speaker for index in split.test})
    notes = (*whole.notes, *(unknown_note(corpus) if settings.labels is None and labels else ()), *again,
             *label_notes(whole, labels), *absent_note(corpus, labels),
             *_repeated(corpus, settings.split), *notes_of(corpus, held, split, scaled, overlap, settings.partition),
             *note_of(corpus.clips, held, away))
    return Partitioning(corpus, labels, split, held, scaled, overlap, tuple(map(shown, notes)), away)


def _repeated(corpus: Corpus, split: str) -> tuple[str, ...]:
    """Return a note that names the corpora with fewer folds than the longest, whose folds repeat."""
    if not corpus.parts or split not in ("auto", "each"):
        return ()
    counts = {part.name: len(folds(several.alone(corpus, part)[0], "auto")) for part in corpus.parts}
    most = max(counts.values())
    again = ", ".join(f"{name} {count}" for name, count in counts.items() if count < most)
    return (f"of the {most} folds, corpora with fewer ({again}) repeat theirs",) if again else ()


def splits(config: Config, numbers: Iterable[int] = ()) -> list[Split]:
    """Return all folds of a run.

    Raises CorpusError where the corpus or the split does not fit, or there is no fold of one of these ``numbers``.
    """
    corpus = to_learn(config, several.load(config.corpus))[1]
    several_folds = folds(corpus, config.corpus.split)
    for number in numbers:
        _require(number, several_folds, corpus, config.corpus.split)
    return several_folds


def _require(number: int, several_folds: Sequence[Split], corpus: Corpus, split: str) -> None:
    if not 0 <= number < len(several_folds):
        has = f"folds 0 to {len(several_folds) - 1}" if len(several_folds) > 1 else "fold 0 only"
        raise CorpusError(f"there is no fold {number}: {corpus.name}, split {split}, has {has}")


def _trained_on(corpus: Corpus, split: Split, names: Sequence[str] | None) -> Split:
    """Return the fold with the training clips of these corpora only."""
    if names is None:
        return split
    known = [part.name for part in corpus.parts]
    for name in names:
        if name not in known:
            given = ", ".join(known) or f"there is only {corpus.name}"
            raise CorpusError(f"corpus.train names {name!r}, which is none of several corpora ({given})"
                              f"{nearest(name, known)}")
    return dataclasses.replace(split, train=tuple(i for i in split.train if corpus.clips[i].corpus in names))


def to_learn(config: Config, whole: Corpus) -> tuple[tuple[str, ...], Corpus]:
    """Return the emotions to learn (none where only dimensions are learnt), and the corpus with the clips that have a
    target of ``training.task``; the others go to ``left_out``.

    Raises CorpusError as ``choose_labels`` and ``targets.with_dimensions`` do, and where ``training.soft_labels`` is
    set for a corpus without votes (a peer's own clips may have none while other peers' have them).
    """
    task = config.training.task
    whole_corpus = config.corpus.partition != "own"
    if config.training.soft_labels and whole_corpus and not any(clip.votes for clip in whole.clips):
        raise CorpusError(f"{whole.name} has no listeners' votes, which training.soft_labels learns: "
                          "take crema-d with its table of votes, emodb with its table of judgements, or a manifest "
                          "with columns votes.EMOTION, or set training.soft_labels=false")
    labels = () if task == "dimensions" else choose_labels(whole, config.corpus.labels, all_known=whole_corpus)
    if task == "classes":
        return labels, with_labels(whole, labels)
    return labels, targets.with_dimensions(whole, labels, config.corpus.scale)


def scaling(config: Config, corpus: Corpus, training: Sequence[Clip]) -> Scaling:
    """Return how features are scaled: what ``features.normalise`` says, for ``auto`` what ``training`` asks for.

    Matrices are scaled by all peers' statistics by default, and so are clips whose speakers are divided over peers or
    are not named. Under a budget each speaker's own serve. Else the spread of each speaker's emotions decides
    (``p2pser.corpora.spread``); where each peer has recordings of its own, the peers agree.

    Raises CorpusError for ``speaker`` where speakers are not named.
    """
    own = scaling_of_sites(config) if config.corpus.partition == "own" else None
    how = config.features.normalise if own is None else own.how
    if how == "speaker" and not corpus.names_speakers:
        raise CorpusError(f"speaker statistics need the speaker of every clip, and {corpus.name} does not "
                          "name all: name them in a manifest, or set features.normalise to global")
    if own is not None:
        return own
    if how != "auto":
        return Scaling(how)
    if not config.features.vector:
        return by_all(MATRICES)
    if not corpus.names_speakers:
        return by_all(f"{corpus.name} does not name the speaker of every clip")
    if config.corpus.partition.partition(":")[0] not in ("auto", "speaker", "corpus", "language"):
        return by_all("the partition divides the clips of a speaker over peers")
    here = chosen(training)
    return by_speakers(BUDGET) if here.how == "global" and config.privacy.epsilon is not None else here


def scaling_of_sites(config: Config) -> Scaling:
    """Return how features are scaled where each peer has recordings of its own: it follows from what is equal at all
    peers, or the peers agree on it in the roll call."""
    if config.features.normalise != "auto":
        return Scaling(config.features.normalise)
    if not config.features.vector:
        return by_all(MATRICES)
    return Scaling(AUTO) if config.privacy.epsilon is None else by_speakers(BUDGET)


def without_line(reason: str) -> str:
    """Return why a file is left out, without the line of the manifest that names it."""
    return re.sub(r"^line \d+ of [^:]*: ", "", reason)


def left_out_note(left_out: Sequence[tuple[Path, str]]) -> tuple[str, ...]:
    """Return a note on the files that are left out, if any: how many, and how many for each of the main reasons."""
    if not left_out:
        return ()
    reasons = Counter(without_line(reason) for _, reason in left_out).most_common()
    shown = "; ".join(f"{count} × {reason}" for reason, count in reasons[:SHOWN])
    rest = sum(count for _, count in reasons[SHOWN:])
    more = f"; {rest} × another reason" if rest else ""
    return (f"{are(len(left_out), 'file')} left out: {shown}{more}",)


def notes_of(
    corpus: Corpus,
    held: Sequence[Sequence[int]],
    split: Split,
    scaling: Scaling,
    overlap: int,
    how: str,
) -> tuple[str, ...]:
    """Return notes for a reader of results on a partitioning, as sentences.

    Parameters
    ----------
    corpus : the usable clips.
    held : each peer's training clips, as indices into the corpus.
    split : the fold.
    scaling : how features are scaled.
    overlap : the number of speakers in both the training and the test set.
    how : the rule of the partition.
    """
    notes = [scaling.reason] if scaling.reason else []
    synthetic = [part.name for part in corpus.parts if part.synthetic]
    if synthetic and not corpus.synthetic:
        notes.append(f"{', '.join(synthetic)} is synthetic: for trying the system only")
    if overlap:
        notes.append(f"{are(overlap, 'speaker')} in training and in the test set: "
                     "the results do not hold for new speakers")
    elif split.test and not split.disjoint:
        notes.append("not every clip has a named speaker: test speakers may be in the training set")
    if scaling.how == "speaker":
        per_peer = ({corpus.clips[index].speaker for index in share} for share in held)
        holders = Counter(speaker for speakers in per_peer for speaker in speakers)
        cut = [speaker for speaker, count in holders.items() if count > 1]
        if cut and how != "own":
            notes.append(f"{len(cut)} of {len(holders)} training speakers are divided over several peers: speaker "
                         "statistics are those of a peer's share")
        if split.test:
            notes.append("each test speaker's statistics are those of all their test clips, without labels "
                         "(transductive)")
    if scaling.how == "global" and corpus.parts:
        notes.append("the training statistics are those of all corpora together, so the features keep each corpus's "
                     "recording conditions: features.normalise=speaker removes them")
    return tuple(notes)
