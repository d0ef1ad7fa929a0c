"""Partitions: the clips that each peer holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, nearest
from p2pser.base.wording import are, positive
from p2pser.corpora.folds import groups_of
from p2pser.corpora.manifest import Clip

PARTITIONS = ("auto", "speaker", "iid", "dirichlet:ALPHA", "dirichlet:ALPHA:LEAST", "corpus", "corpus:even", "language",
              "language:even", "own")


def partition(clips: Sequence[Clip], how: str, peers: int, seed: int) -> list[list[int]]:
    """Return the clips of each peer: one ascending list of indices into ``clips`` for each peer, none empty.

    Parameters
    ----------
    clips : the training clips.
    how : the rule.

        - ``auto``: ``corpus`` where the clips are of several corpora and there are at least as many peers, else
          ``speaker``.
        - ``speaker``: whole speakers, assigned greedily to make the numbers of clips equal; peers are in the order of
          their first speaker. With more peers than speakers, the largest speakers are cut into shares that each have as
          many labels as possible.
        - ``corpus``: each peer's clips are of one corpus, partitioned there by speaker; the peers are in the order of
          the corpora's names. Each corpus has one peer, and further peers go where the clips per peer are most
          (``corpus:even``: equally many for each). ``language``, ``language:even``: likewise by language.
        - ``iid``: at random, sizes equal.
        - ``dirichlet:ALPHA``: for each label, the peers' shares are drawn from Dirichlet(ALPHA) (Hsu et al.,
          arXiv:1909.06335); with a small ALPHA a peer has few labels. ``dirichlet:ALPHA:LEAST``: at least LEAST clips
          a peer (default 1), taken from the largest peers.
        - ``own``: every peer has all clips, which are its own.
    peers : the number of peers.
    seed : the seed of ``iid`` and ``dirichlet``.

    Raises CorpusError for an unknown rule, or more peers than clips.
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
        raise CorpusError(f"clips cannot be partitioned over {peers} peers")
    if peers > len(clips):
        raise CorpusError(
            f"{are(len(clips), 'training clip')} too few for {peers} peers: use fewer peers or more recordings"
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
    groups = groups_of(clips, what, f"the partition {how}")
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
    if (alpha := positive(argument)) is None:
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
    spoken: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        spoken[clip.speaker].append(index)
    if peers > len(spoken):
        return _shares(clips, spoken, peers)
    loads: list[list[str]] = [[] for _ in range(peers)]
    sizes = [0] * peers
    for speaker in sorted(spoken, key=lambda speaker: (-len(spoken[speaker]), speaker)):
        smallest = min(range(peers), key=lambda peer: (sizes[peer], peer))
        loads[smallest].append(speaker)
        sizes[smallest] += len(spoken[speaker])
    return [sorted(index for speaker in load for index in spoken[speaker]) for load in sorted(loads, key=min)]


def _shares(clips: Sequence[Clip], spoken: dict[str, list[int]], peers: int) -> list[list[int]]:
    """Cut speakers into shares, each time the speaker whose shares are largest, and distribute their clips by label."""
    count = dict.fromkeys(sorted(spoken), 1)
    for _ in range(peers - len(spoken)):
        largest: Callable[[str], float] = lambda speaker: len(spoken[speaker]) / count[speaker]  # noqa: E731
        count[max(count, key=largest)] += 1
    return [sorted(_by_label(clips, spoken[speaker])[share::number])
            for speaker, number in count.items() for share in range(number)]


def _dirichlet(clips: Sequence[Clip], alpha: float, peers: int, seed: int, least: int) -> list[list[int]]:
    random = seeding.generator(seed, "partition dirichlet")
    held: list[list[int]] = [[] for _ in range(peers)]
    for label in sorted({clip.emotion or "" for clip in clips}):
        labelled = [index for index, clip in enumerate(clips) if (clip.emotion or "") == label]
        order = random.permutation(labelled)
        shares = _proportions(random, alpha, peers)
        cuts = np.round(np.cumsum(shares)[:-1] * len(labelled)).astype(int)
        for peer, share in enumerate(np.split(order, cuts)):
            held[peer] += [int(index) for index in share]
    for peer in range(peers):  # a peer with too few clips takes some from the largest peer
        while len(held[peer]) < least:
            most = max(range(peers), key=lambda other: (len(held[other]), -other))
            held[peer].append(held[most].pop())
    return [sorted(share) for share in held]


def _proportions(random: np.random.Generator, alpha: float, peers: int) -> np.ndarray:
    """Draw from Dirichlet(alpha); where alpha is so small that the draw underflows, one peer has all."""
    gammas = random.standard_gamma(alpha, peers)
    total = gammas.sum()
    if total > 0 and np.isfinite(total):
        return np.asarray(gammas / total)
    shares = np.zeros(peers)
    shares[random.integers(peers)] = 1.0
    return shares
