"""Who holds what: from a corpus to the features and labels of each peer and of the held-out speakers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError, nearest
from p2pser.config import Config
from p2pser.corpora import targets
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.partitioning import deal
from p2pser.features import clip_features
from p2pser.features import recording_copies as augment
from p2pser.features.extraction import extract
from p2pser.features.normalisation import Statistics, by_speaker


@dataclass(frozen=True)
class Examples:
    """n clips: features ``(n, D)`` or ``(n, bands, frames)`` float32, not normalised; labels ``(n,)`` int64.

    Labels are places in ``Federation.labels``, -1 where unknown; ``paths`` are relative to the corpus; ``genders`` are
    ``"f"``, ``"m"`` or ``""``, and () where nobody gave them.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    paths: tuple[str, ...]
    genders: tuple[str, ...] = ()
    soft: NDArray[np.float32] | None = None
    """Shares of each label ``(n, C)``, each row summing to 1; None where the labels are all that is learned."""
    dimensions: NDArray[np.float32] | None = None
    """``(n, 3)`` arousal, valence, dominance from -1 to 1, NaN where unknown; None where they are not learned."""
    copies: NDArray[np.float32] | None = None
    """Features of varied copies of each clip, ``(copies, n, …)``; None where there are none."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64]) -> Examples:
        """Return the clips at these places, (k,), in their order."""
        def chosen(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[place] for place in places) if values else ()

        return Examples(self.features[places], self.labels[places], chosen(self.speakers), chosen(self.paths),
                        chosen(self.genders), None if self.soft is None else self.soft[places],
                        None if self.dimensions is None else self.dimensions[places],
                        None if self.copies is None else self.copies[:, places])


@dataclass(frozen=True)
class Federation:
    """A fold, dealt over peers.

    ``train`` holds the peers asked for (a hub with no clips); ``held[i]`` are all peers' training clips as indices into
    ``corpus.clips`` (of usable labels, the unreadable ones included), ``test`` the held-out clips (None where
    nothing is held out). ``normalise`` is resolved: none, global or speaker. ``left_out`` says which clips
    serve nothing, and why; ``notes`` what a reader of the results should know; ``speaker_overlap`` how many
    speakers are on both sides.
    """

    labels: tuple[str, ...]
    train: Mapping[int, Examples]
    test: Examples | None
    split: Split
    corpus: Corpus
    normalise: str
    left_out: list[tuple[Path, str]]
    speaker_overlap: int
    held: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


def federate(
    config: Config,
    peers: int,
    only: int | None = None,
    *,
    hub: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Federation:
    """Return fold ``config.corpus.fold`` of the corpus, dealt over ``peers`` peers, with its features.

    ``only=i`` computes the features of peer i's clips and of the test clips, no others: what a peer's process
    needs. ``hub`` is a peer that holds no clips: the corpus is dealt over the others, and where each has its own
    (partition ``own``) the hub needs none, but to be told what it cannot see in them. ``workers`` and ``progress`` as
    in ``features.extract``.

    Raises CorpusError where the corpus, the split or the partition does not fit, fewer than 2 labels are
    left, the fold does not exist, a peer has no usable clip, or ``speaker`` statistics are asked for and
    speakers are not named.
    """
    if only is not None and not 0 <= only < peers:
        raise CorpusError(f"there is no peer {only}: the {peers} peers are 0 to {peers - 1}")
    if only is not None and only == hub and config.corpus.partition == "own":
        return _without_recordings(config, peers, only)
    dealt = deal(config, peers, hub=hub)
    corpus, labels, split, held = dealt.corpus, dealt.labels, dealt.split, dealt.held
    hosted = range(peers) if only is None else (only,)
    wanted = sorted({index for peer in hosted for index in held[peer]} | set(split.test))
    extraction = extract([corpus.clips[index].path for index in wanted], config.features, workers=workers,
                         progress=progress)
    by_index, unusable = dict(zip(wanted, extraction.features)), extraction.left_out
    train = {}
    for peer in hosted:
        if peer == hub:
            train[peer] = nothing(clip_features.shape(config.features))
            continue
        examples = _examples(config, corpus, labels, held[peer], by_index)
        if examples is None:
            what = f"peer {peer} has no usable training clip"
            raise CorpusError(_no_clips(what, held[peer], corpus, unusable))
        train[peer] = examples
    if config.augment.copies:
        for peer in hosted:
            paths = [corpus.clips[index].path for index in held[peer] if by_index[index] is not None]
            train[peer] = _with_copies(config, train[peer], paths, workers, progress)
    test = _examples(config, corpus, labels, split.test, by_index)
    if test is None and split.test:
        what = f"the test set {split.name} has no usable clip"
        raise CorpusError(_no_clips(what, split.test, corpus, unusable))
    return Federation(
        labels=labels, train=train, test=test, split=split, corpus=corpus, normalise=dealt.normalise,
        left_out=[*corpus.left_out, *unusable], speaker_overlap=dealt.speaker_overlap, held=held, notes=dealt.notes,
    )


def _without_recordings(config: Config, peers: int, hub: int) -> Federation:
    """Return what a hub has whose clients train on recordings of their own."""
    labels, normalise = config.corpus.labels, config.features.normalise
    if labels is None or normalise == "auto":
        raise CorpusError("a hub sees no recordings, so it must be told what is in its clients': set corpus.labels and "
                          "features.normalise (none, global or speaker), equal at the hub and at all clients")
    return Federation(
        labels=labels, train={hub: nothing(clip_features.shape(config.features))}, test=None,
        split=Split("none", (), (), (), False), corpus=Corpus("own", "", ()), normalise=normalise, left_out=[],
        speaker_overlap=0, held=((),) * peers,
    )


def nothing(shape: tuple[int, ...]) -> Examples:
    """Return the examples of a peer that holds no clips, a hub's; ``shape`` is of one clip's features."""
    return Examples(np.zeros((0, *shape), dtype=np.float32), np.zeros(0, dtype=np.int64), (), ())


def normalised(examples: Examples, how: str, training: Statistics | None) -> NDArray[np.float32]:
    """Return the examples' features scaled: ``none``, ``global`` (by ``training``) or ``speaker``.

    Raises CorpusError for another word, or ``global`` without statistics.
    """
    if how == "none":
        return examples.features
    if how == "speaker":
        return by_speaker(examples.features, examples.speakers)
    if how != "global":
        raise CorpusError(f"there is no normalisation {how!r}{nearest(how, ('none', 'global', 'speaker'))}")
    if training is None:
        raise CorpusError("global normalisation needs the training statistics of all peers")
    return training.apply(examples.features)


def normalised_copies(examples: Examples, how: str, training: Statistics | None) -> NDArray[np.float32] | None:
    """Return the copies (copies, n, …) scaled as ``normalised`` scales the clips, by the clips' statistics; or None."""
    if examples.copies is None or how == "none":
        return examples.copies
    if how == "speaker":
        return np.stack([by_speaker(copy, examples.speakers, examples.features) for copy in examples.copies])
    return np.stack([normalised(dataclasses.replace(examples, features=copy), how, training)
                     for copy in examples.copies])


def _with_copies(
    config: Config, examples: Examples, paths: Sequence[Path], workers: int | None, progress: bool
) -> Examples:
    """Return the examples, whose recordings lie at ``paths``, with the varied copies that ``augment`` asks for.

    A copy that cannot be used is its clip.
    """
    if not paths:
        return examples
    copies = []
    for variant in augment.variants(config.augment):
        extraction = extract(paths, config.features, variant=variant, workers=workers, progress=progress)
        copies.append(np.stack([clip if copy is None else copy
                                for copy, clip in zip(extraction.features, examples.features)]))
    return dataclasses.replace(examples, copies=np.stack(copies))


def _examples(
    config: Config,
    corpus: Corpus,
    labels: tuple[str, ...],
    indices: Sequence[int],
    by_index: Mapping[int, NDArray[np.float32] | None],
) -> Examples | None:
    """Return the usable ones of these clips, or None."""
    usable = [(corpus.clips[index], found) for index in indices if (found := by_index[index]) is not None]
    if not usable:
        return None
    return Examples(
        features=np.stack([found for _, found in usable]),
        labels=np.array([labels.index(clip.emotion) if clip.emotion in labels else -1 for clip, _ in usable],
                        dtype=np.int64),
        speakers=tuple(clip.speaker for clip, _ in usable),
        paths=tuple(corpus.relative(clip) for clip, _ in usable),
        genders=tuple(clip.gender for clip, _ in usable),
        soft=targets.shares([clip for clip, _ in usable], labels)
        if config.training.soft_labels and config.training.task != "dimensions" else None,
        dimensions=targets.dimensions([clip for clip, _ in usable]) if config.training.task != "classes" else None,
    )


def _no_clips(what: str, indices: Sequence[int], corpus: Corpus, unusable: Sequence[tuple[Path, str]]) -> str:
    ours = {corpus.clips[index].path for index in indices}
    first = next(((path, why) for path, why in unusable if path in ours), None)
    return what + (f": all {len(ours)} are left out, the first, {first[0]}: {first[1]}" if first else "")
