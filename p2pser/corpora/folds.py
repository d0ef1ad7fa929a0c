"""Which clips are held out, and which peer holds which of the others."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, nearest
from p2pser.corpora.adapters.ravdess import ACTORS
from p2pser.corpora.combined import alone
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus

EMOBOX = (("01", "11", "20", "21"), ("04", "10", "12", "14"), ("08", "09", "19", "23"),
          ("03", "05", "07", "24"), ("02", "15", "16", "18"), ("06", "13", "17", "22"))
"""Test actors of the six folds that EmoBox (Ma et al., Interspeech 2024) uses for RAVDESS."""

SPLITS = ("auto", "loso", "emobox", "group:K", "speakers:A+B", "each", "corpus", "corpus:NAME", "language",
          "language:NAME", "clips:K", "none")
PARTITIONS = ("auto", "speaker", "iid", "dirichlet:ALPHA", "dirichlet:ALPHA:LEAST", "corpus", "corpus:even", "language",
              "language:even", "own")


@dataclass(frozen=True)
class Split:
    """A fold: indices into ``corpus.clips``, ascending.

    ``disjoint`` is found from the clips: no speaker is on both sides, and every speaker is named.
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
    ``speakers:A+B`` (one fold that tests on these); ``none`` (all clips train). Of several corpora: ``each``, the
    corpora's own default splits side by side, as many folds as the longest has, where one with fewer begins again;
    ``corpus:NAME`` tests that one and trains on the others, ``corpus`` each in turn; ``language`` likewise. All of
    these are speaker-disjoint. ``clips:K`` deals clips over K folds by label and shares speakers: it has to be asked
    for.

    Raises CorpusError for a split that is not known or does not fit the corpus: a disjoint one where there is
    one speaker or where speakers are not named, more groups than speakers, speakers that are not there.
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
    """Fold k of every corpus together; a corpus with fewer folds than the longest begins again."""
    if not corpus.parts:
        raise CorpusError(f"the split each is of several corpora; {corpus.name} is one: use auto")
    own: list[list[tuple[str, list[int]]]] = []
    for part in corpus.parts:
        sub, places = alone(corpus, part)
        if sub.clips:
            own.append([(f"{part.name} {fold.name}", [places[index] for index in fold.test])
                        for fold in folds(sub, "auto")])
    together = ([ours[number % len(ours)] for ours in own] for number in range(max(map(len, own))))
    return [_fold(corpus, " + ".join(name for name, _ in parts), [index for _, test in parts for index in test])
            for parts in together]


def _held_out(corpus: Corpus, what: str, name: str) -> list[Split]:
    """Test on one corpus or language and train on the others; without a name, on each in turn."""
    groups = _groups_of(corpus.clips, what, f"the split {what}")
    if name and name not in groups:
        raise CorpusError(f"{corpus.name} has no {what} {name!r}{nearest(name, groups)}")
    if len(groups) < 2:
        raise CorpusError(f"the split {what} holds out one {what} of several, and all clips of {corpus.name} are of "
                          f"{next(iter(groups))}")
    return [_fold(corpus, f"{what}:{one}", groups[one]) for one in ([name] if name else groups)]


def _groups_of(clips: Sequence[Clip], what: str, who: str) -> dict[str, list[int]]:
    """Return the clips of each corpus or language, sorted by its name. Raises CorpusError where a clip names none."""
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
    """Deal the speakers over groups, shuffled within gender and language, one stratum after the other."""
    if count > len(corpus.speakers):
        has = len(corpus.speakers)
        raise CorpusError(f"the split {split} needs {count} speakers; {corpus.name} has {has}")
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    of = {clip.speaker: (clip.gender, clip.language) for clip in reversed(corpus.clips)}
    for speaker in corpus.speakers:
        strata[of[speaker]].append(speaker)
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


def partition(clips: Sequence[Clip], how: str, peers: int, seed: int) -> list[list[int]]:
    """Return which clips each peer holds: one ascending list of indices into ``clips`` a peer, none empty.

    ``auto``: ``corpus`` where the clips are of several corpora and there are as many peers, else ``speaker``.
    ``speaker``: whole speakers, the numbers of clips as equal as a greedy deal makes them; peers are in the order of
    their first speaker. With more peers than speakers, the largest speakers are cut into shares that each have as many
    labels as possible. ``corpus``: each peer's clips are of one corpus, dealt by speaker there; the peers are in the
    order of the corpora's names, and each corpus has one and then as many as make the most loaded peer lightest
    (``corpus:even``: all equally many). ``language``, ``language:even``: likewise by language. ``iid``: at random,
    sizes equal. ``dirichlet:ALPHA``: for each label, peers' shares are drawn from Dirichlet(ALPHA) (Hsu et al.,
    arXiv:1909.06335); small ALPHA, few labels a peer. ``dirichlet:ALPHA:LEAST``: with at least so many clips a peer,
    the rest taken from whoever has most (default 1). ``own``: every peer has all of them (they are its own, not dealt).

    Raises CorpusError for a partition that is not known or more peers than clips.
    """
    kind, _, argument = how.partition(":")
    if how == "own":
        return [list(range(len(clips))) for _ in range(peers)]
    if how == "auto":
        kind = how = "corpus" if 1 < len({clip.corpus for clip in clips} - {""}) <= peers else "speaker"
    by_group = kind in ("corpus", "language") and argument in ("", "even")
    if how not in ("speaker", "iid") and kind != "dirichlet" and not by_group:
        raise CorpusError(f"there is no partition {how!r}{nearest(how, PARTITIONS)}")
    if peers < 1:
        raise CorpusError(f"clips cannot be dealt over {peers} peers")
    if peers > len(clips):
        raise CorpusError(
            f"{len(clips)} training clips are too few for {peers} peers: use fewer peers or more recordings"
        )
    if how == "iid":
        order = seeding.generator(seed, "partition iid").permutation(len(clips))
        return [sorted(int(index) for index in share) for share in np.array_split(order, peers)]
    if kind == "dirichlet":
        text, _, least = argument.partition(":")
        return _dirichlet(clips, _alpha(how, text), peers, seed, _least(how, least or "1", len(clips), peers))
    return _by_group(clips, how, peers) if by_group else _by_speaker(clips, peers)


def _by_group(clips: Sequence[Clip], how: str, peers: int) -> list[list[int]]:
    what, _, even = how.partition(":")
    groups = _groups_of(clips, what, f"the partition {how}")
    if peers < len(groups):
        raise CorpusError(f"the partition {how} needs a peer for each {what} ({', '.join(groups)}), and there are "
                          f"{peers}: take more peers, or the partition speaker")
    count = dict.fromkeys(groups, 1)
    for number in range(peers - len(groups)):
        most: Callable[[str], float] = lambda name: len(groups[name]) / count[name]  # noqa: E731
        count[list(groups)[number % len(groups)] if even else max(groups, key=most)] += 1
    for name, indices in groups.items():
        if count[name] > len(indices):
            raise CorpusError(f"{len(indices)} training clips of {name} are too few for {count[name]} peers: use fewer "
                              f"peers, or the partition {what}")
    return [[indices[place] for place in share] for name, indices in groups.items()
            for share in _by_speaker([clips[index] for index in indices], count[name])]


def _alpha(how: str, argument: str) -> float:
    try:
        alpha = float(argument)
    except ValueError:
        alpha = math.nan
    if not 0 < alpha < math.inf:
        raise CorpusError(f"the partition {how!r} needs a positive number, e.g. dirichlet:0.5")
    return alpha


def _least(how: str, argument: str, clips: int, peers: int) -> int:
    if not argument.isdecimal() or not 1 <= int(argument) <= clips // peers:
        raise CorpusError(f"the partition {how!r} needs a number of clips after its second colon, at most "
                          f"{clips // peers}: there are {clips} training clips for {peers} peers")
    return int(argument)


def _by_label(clips: Sequence[Clip], indices: Sequence[int]) -> list[int]:
    return sorted(indices, key=lambda index: (clips[index].emotion or "", index))


def _by_speaker(clips: Sequence[Clip], peers: int) -> list[list[int]]:
    of: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        of[clip.speaker].append(index)
    if peers > len(of):
        return _shares(clips, of, peers)
    loads: list[list[str]] = [[] for _ in range(peers)]
    sizes = [0] * peers
    for speaker in sorted(of, key=lambda speaker: (-len(of[speaker]), speaker)):
        least = min(range(peers), key=lambda peer: (sizes[peer], peer))
        loads[least].append(speaker)
        sizes[least] += len(of[speaker])
    return [sorted(index for speaker in load for index in of[speaker]) for load in sorted(loads, key=min)]


def _shares(clips: Sequence[Clip], of: dict[str, list[int]], peers: int) -> list[list[int]]:
    """Cut speakers into shares, always the one whose shares are largest, and deal their clips by label."""
    count = dict.fromkeys(sorted(of), 1)
    for _ in range(peers - len(of)):
        largest: Callable[[str], float] = lambda speaker: len(of[speaker]) / count[speaker]  # noqa: E731
        count[max(count, key=largest)] += 1
    return [sorted(_by_label(clips, of[speaker])[share::number])
            for speaker, number in count.items() for share in range(number)]


def _dirichlet(clips: Sequence[Clip], alpha: float, peers: int, seed: int, least: int) -> list[list[int]]:
    random = seeding.generator(seed, "partition dirichlet")
    held: list[list[int]] = [[] for _ in range(peers)]
    for label in sorted({clip.emotion or "" for clip in clips}):
        ours = [index for index, clip in enumerate(clips) if (clip.emotion or "") == label]
        order = random.permutation(ours)
        shares = _proportions(random, alpha, peers)
        cuts = np.round(np.cumsum(shares)[:-1] * len(ours)).astype(int)
        for peer, share in enumerate(np.split(order, cuts)):
            held[peer] += [int(index) for index in share]
    for peer in range(peers):  # a peer with too few takes from who has most then
        while len(held[peer]) < least:
            most = max(range(peers), key=lambda other: (len(held[other]), -other))
            held[peer].append(held[most].pop())
    return [sorted(share) for share in held]


def _proportions(random: np.random.Generator, alpha: float, peers: int) -> np.ndarray:
    """Draw from Dirichlet(alpha); in the limit of tiny alpha, where the draw underflows, one peer has all."""
    gammas = random.standard_gamma(alpha, peers)
    total = gammas.sum()
    if total > 0 and np.isfinite(total):
        return np.asarray(gammas / total)
    shares = np.zeros(peers)
    shares[random.integers(peers)] = 1.0
    return shares
