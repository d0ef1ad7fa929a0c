"""Splits: the clips that are held out for testing, fold by fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, nearest
from p2pser.corpora import by_sentence
from p2pser.corpora.adapters.ravdess import ACTORS
from p2pser.corpora.combined import alone
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus

EMOBOX = (("01", "11", "20", "21"), ("04", "10", "12", "14"), ("08", "09", "19", "23"),
          ("03", "05", "07", "24"), ("02", "15", "16", "18"), ("06", "13", "17", "22"))
"""Test actors of the six folds that EmoBox (Ma et al., Interspeech 2024) uses for RAVDESS."""

SPLITS = ("auto", "loso", "emobox", "group:K", "speakers:A+B", "each", "corpus", "corpus:NAME", "language",
          "language:NAME", "sentence:K", "sentence:K:SPLIT", "clips:K", "none")


@dataclass(frozen=True)
class Split:
    """A fold: indices into ``corpus.clips``, ascending.

    ``disjoint``: every speaker is named, and none is in both the training and the test set.
    """

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    test_speakers: tuple[str, ...]
    disjoint: bool


def folds(corpus: Corpus, split: str) -> list[Split]:
    """Return the folds of a split.

    ``auto`` (the corpus's default); ``loso`` (leave one speaker out); ``emobox`` (RAVDESS); ``group:K`` (K
    groups of speakers, the same on every machine, balanced over gender and language where they are known);
    ``speakers:A+B`` (one fold that tests on these); ``none`` (all clips train). For several corpora: ``each`` combines
    the default splits of all corpora; it has as many folds as the longest of them, and shorter ones repeat;
    ``corpus:NAME`` tests on that corpus and trains on the others, ``corpus`` on each in turn; ``language`` likewise.
    ``sentence:K`` divides each fold of the default split, ``sentence:K:SPLIT`` of another, by K groups of sentences, so
    that neither a test clip's speaker nor its sentence is trained on.
    All of these are speaker-disjoint. ``clips:K`` distributes clips over K folds by label and shares speakers; it is
    never a default.

    Raises CorpusError for an unknown split, or one that does not fit the corpus: a disjoint split with one speaker or
    unnamed speakers, more groups than speakers, speakers that do not exist.
    """
    if split == "auto":
        split = corpus.default_split
    kind, _, argument = split.partition(":")
    if split == "none":
        return [_fold(corpus, "none", [])]
    if kind == "clips":
        return _by_clips(corpus, split, _count(split, argument))
    if split == "each":
        return _each(corpus)
    if kind == "sentence":
        return _by_sentence(corpus, split, argument)
    if split not in ("loso", "emobox") and kind not in ("group", "speakers", "corpus", "language"):
        raise CorpusError(f"there is no split {split!r}{nearest(split, SPLITS)}")
    _can_be_disjoint(corpus, split)
    if split == "loso":
        return [_of_speakers(corpus, f"loso:{speaker}", [speaker]) for speaker in corpus.speakers]
    if split == "emobox":
        return _emobox(corpus)
    if kind in ("corpus", "language"):
        return _held_out(corpus, kind, argument)
    if kind == "speakers":
        return [_of_speakers(corpus, split, _named(corpus, argument))]
    groups = _groups(corpus, split, _count(split, argument))
    return [_of_speakers(corpus, f"{split}/{number}", group) for number, group in enumerate(groups)]


def _each(corpus: Corpus) -> list[Split]:
    """Return the union of fold k of every corpus; a corpus with fewer folds than the longest repeats them."""
    if not corpus.parts:
        raise CorpusError(f"the split each is for several corpora; {corpus.name} is one: use auto")
    by_corpus: list[list[tuple[str, list[int]]]] = []
    for part in corpus.parts:
        single, places = alone(corpus, part)
        if single.clips:
            by_corpus.append([(f"{part.name} {fold.name}", [places[index] for index in fold.test])
                              for fold in folds(single, "auto")])
    combined = ([tests[number % len(tests)] for tests in by_corpus] for number in range(max(map(len, by_corpus))))
    return [_fold(corpus, " + ".join(name for name, _ in parts), [index for _, test in parts for index in test])
            for parts in combined]


def _by_sentence(corpus: Corpus, split: str, argument: str) -> list[Split]:
    """Divide each fold by groups of sentences: a part tests on one group, and trains on the others."""
    number, _, of = argument.partition(":")
    if of.partition(":")[0] in ("sentence", "none"):
        raise CorpusError(f"the split {split!r} divides the folds of a split of speakers: name one, as in "
                          "sentence:2:loso")
    count = _count(split, number)
    group = by_sentence.groups(corpus, split, count)
    parts = []
    for fold in folds(corpus, of or "auto"):
        for k in range(count):
            test = tuple(index for index in fold.test if group[index] == k)
            train = tuple(index for index in fold.train if group[index] != k)
            if test and not train:
                raise CorpusError(f"the split {split} leaves no clip for training in {fold.name}: take fewer groups")
            if test:
                speakers = tuple(sorted({corpus.clips[index].speaker for index in test}))
                parts.append(Split(f"{fold.name}, sentences {k}", train, test, speakers, fold.disjoint))
    return parts


def _held_out(corpus: Corpus, what: str, name: str) -> list[Split]:
    """Test on one corpus or language and train on the others; without a name, on each in turn."""
    groups = groups_of(corpus.clips, what, f"the split {what}")
    if name and name not in groups:
        raise CorpusError(f"{corpus.name} has no {what} {name!r}{nearest(name, groups)}")
    if len(groups) < 2:
        raise CorpusError(f"the split {what} holds out one {what} of several, and all clips of {corpus.name} are of "
                          f"{next(iter(groups))}")
    return [_fold(corpus, f"{what}:{group}", groups[group]) for group in ([name] if name else groups)]


def groups_of(clips: Sequence[Clip], what: str, who: str) -> dict[str, list[int]]:
    """Return the clips of each corpus or language (``what``), sorted by name.

    Raises CorpusError, in which ``who`` is the subject, where a clip has none.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[clip.corpus if what == "corpus" else clip.language].append(index)
    if "" in groups:
        how = ("name several with --corpus A=PATH,B=PATH, or in a manifest's column 'corpus'" if what == "corpus" else
               "name it in a manifest's column 'language'")
        raise CorpusError(f"{who} needs the {what} of every clip, and {len(groups[''])} clips have none: {how}")
    return dict(sorted(groups.items()))


def _fold(corpus: Corpus, name: str, test: Sequence[int]) -> Split:
    held_out = set(test)
    train = [index for index in range(len(corpus.clips)) if index not in held_out]
    test_speakers = {corpus.clips[index].speaker for index in held_out}
    train_speakers = {corpus.clips[index].speaker for index in train}
    unnamed = {"", UNKNOWN} & (test_speakers | train_speakers)
    disjoint = not held_out or not (test_speakers & train_speakers or unnamed)
    return Split(name, tuple(train), tuple(sorted(held_out)), tuple(sorted(test_speakers)), disjoint)


def _of_speakers(corpus: Corpus, name: str, speakers: Sequence[str]) -> Split:
    chosen = set(speakers)
    return _fold(corpus, name, [index for index, clip in enumerate(corpus.clips) if clip.speaker in chosen])


def _count(split: str, argument: str) -> int:
    if not argument.isdecimal() or int(argument) < 2:
        kind = split.partition(":")[0]
        raise CorpusError(f"the split {split!r} needs a number of folds of at least 2, e.g. {kind}:4")
    return int(argument)


def _can_be_disjoint(corpus: Corpus, split: str) -> None:
    if not corpus.names_speakers:
        why = "not every clip has a named speaker; name them (EMOTION/SPEAKER/clip.wav, or a manifest)"
    elif len(corpus.speakers) < 2:
        why = f"all clips are of one speaker ({corpus.speakers[0]}); add speakers"
    else:
        return
    raise CorpusError(
        f"the split {split} of {corpus.name} cannot be speaker-disjoint: {why}, or ask for clips:K, which "
        "shares speakers, or none"
    )


def _emobox(corpus: Corpus) -> list[Split]:
    if corpus.name != "ravdess":
        raise CorpusError(f"the split emobox is RAVDESS's; for {corpus.name} use loso or group:K")
    missing = sorted(set(ACTORS) - set(corpus.speakers))
    if missing:
        lacking = ", ".join(missing)
        raise CorpusError(f"the split emobox needs the 24 actors of RAVDESS: {lacking} lacks; use group:K")
    return [_of_speakers(corpus, f"emobox:{number}", test) for number, test in enumerate(EMOBOX)]


def _named(corpus: Corpus, argument: str) -> list[str]:
    speakers = argument.split("+")
    for speaker in speakers:
        if speaker not in corpus.speakers:
            raise CorpusError(f"{corpus.name} has no speaker {speaker!r}{nearest(speaker, corpus.speakers)}")
    if len(set(speakers)) == len(corpus.speakers):
        raise CorpusError(f"the split speakers:{argument} of {corpus.name} leaves no speaker for training")
    return speakers


def _groups(corpus: Corpus, split: str, count: int) -> list[list[str]]:
    """Distribute the speakers over groups in turn, shuffled within gender and language."""
    if count > len(corpus.speakers):
        has = len(corpus.speakers)
        raise CorpusError(f"the split {split} needs {count} speakers; {corpus.name} has {has}")
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    traits = {clip.speaker: (clip.gender, clip.language) for clip in reversed(corpus.clips)}
    for speaker in corpus.speakers:
        strata[traits[speaker]].append(speaker)
    random = seeding.generator(0, "groups of speakers")
    order: list[str] = []
    for _, stratum in sorted(strata.items()):
        order += [stratum[int(index)] for index in random.permutation(len(stratum))]
    return [sorted(order[number::count]) for number in range(count)]


def _by_clips(corpus: Corpus, split: str, count: int) -> list[Split]:
    if count > len(corpus.clips):
        raise CorpusError(f"the split {split} needs {count} clips; {corpus.name} has {len(corpus.clips)}")
    random = seeding.generator(0, "clips of folds")
    shuffled = [int(index) for index in random.permutation(len(corpus.clips))]
    order = sorted(shuffled, key=lambda index: corpus.clips[index].emotion or "")
    return [_fold(corpus, f"{split}/{number}", order[number::count]) for number in range(count)]
