"""From a corpus to the features and labels of each peer and of the held-out clips."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, nearest
from p2pser.base.wording import are, shown
from p2pser.config import Config
from p2pser.corpora import by_sentence, targets
from p2pser.corpora.emotions import canonical
from p2pser.corpora.folds import Split
from p2pser.corpora.labels import NO_CLIPS
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.partitioning import Partitioning, left_out_note, partition_corpus, scaling_of_sites
from p2pser.corpora.spread import AUTO, after_agreement, chosen, in_parts
from p2pser.features import clip_features
from p2pser.features import recording_copies as augment
from p2pser.features.audio import long_note
from p2pser.features.ends import early_note
from p2pser.features.extraction import extract
from p2pser.features.normalisation import Statistics, by_speaker


@dataclass(frozen=True)
class Examples:
    """The features and targets of n clips.

    Attributes
    ----------
    features : (n, D) or (n, bands, frames) float32, not scaled.
    labels : (n,) int64, indices into ``Federation.labels``, -1 where a clip has none.
    speakers : the speaker of each clip.
    paths : the path of each clip, relative to its corpus.
    genders : ``"f"``, ``"m"`` or ``""`` for each clip; () where the corpus names none.
    soft : (n, C) float32, the share of each label, each row summing to 1; None where the labels are the target.
    dimensions : (n, 3) float32, arousal, valence and dominance from -1 to 1, NaN where unknown; None where they are
        not a target.
    copies : (copies, n, …) float32, the features of varied copies of each clip; None where there are none.
    languages : of each clip, an ISO 639-1 code or ""; () where none is known.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    paths: tuple[str, ...]
    genders: tuple[str, ...] = ()
    soft: NDArray[np.float32] | None = None
    dimensions: NDArray[np.float32] | None = None
    copies: NDArray[np.float32] | None = None
    languages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """Return the clips with these indices (k,), in their order."""
        def chosen(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[index] for index in indices) if values else ()

        return Examples(self.features[indices], self.labels[indices], chosen(self.speakers), chosen(self.paths),
                        chosen(self.genders), None if self.soft is None else self.soft[indices],
                        None if self.dimensions is None else self.dimensions[indices],
                        None if self.copies is None else self.copies[:, indices], chosen(self.languages))


@dataclass(frozen=True)
class Federation:
    """The clips of each peer and the held-out clips, of one fold of a corpus.

    Attributes
    ----------
    labels : the emotions, in the order of the model's outputs.
    train : the training clips of each of the peers asked for; a hub holds none.
    test : the held-out clips; None where none are held out.
    split : the fold, as indices into ``corpus.clips``.
    corpus : the corpus, with the clips that can serve as examples.
    normalise : none, global, speaker or public; ``auto`` until the peers of a run have agreed on one.
    left_out : (path, reason) of the clips that are not used.
    speaker_overlap : number of speakers with clips both in training and in the test set.
    held : for each peer, its training clips as indices into ``corpus.clips``, unusable ones included.
    notes : sentences that a reader of the results needs.
    why_normalised : why features are normalised as they are; "" where the settings say how.
    held_out : the clips of speakers whom each of the peers asked for holds out of training, to calibrate the model on
        them (``training.held_out``); a peer that holds none out is not in it.
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
    why_normalised: str = ""
    held_out: Mapping[int, Examples] = field(default_factory=dict)

    def spread(self, peer: int) -> int | None:
        """Return what a peer says of its clips where the peers agree on ``normalise``; None where it has none."""
        clips = [self.corpus.clips[index] for index in self.held[peer]]
        return in_parts(clips, self.corpus.names_speakers) if clips else None

    def scaled(self, how: str) -> Federation:
        """Return the federation with the scaling on which its peers have agreed."""
        scaling = after_agreement(how)
        return dataclasses.replace(self, normalise=scaling.how, why_normalised=scaling.reason)

    def relabelled(self, labels: tuple[str, ...], soft: bool) -> Federation:
        """Return the federation with other emotions, among which are all of its own.

        soft : whether the shares of listeners' votes are learned (``Examples.soft``).
        """
        place = np.array([*(labels.index(label) for label in self.labels), -1], dtype=np.int64)  # -1 stays -1
        clips = {self.corpus.relative(clip): clip for clip in self.corpus.clips} if soft else {}

        def renamed(examples: Examples) -> Examples:
            shares = targets.shares([clips[path] for path in examples.paths], labels) if soft else None
            return dataclasses.replace(examples, labels=place[examples.labels], soft=shares)

        return dataclasses.replace(self, labels=labels, train={i: renamed(each) for i, each in self.train.items()},
                                   test=None if self.test is None else renamed(self.test),
                                   held_out={i: renamed(each) for i, each in self.held_out.items()})

    def of_peer(self, peer: int) -> Federation:
        """Return what one peer's process needs: its own clips and the held-out test clips."""
        return dataclasses.replace(self, train={peer: self.train[peer]},
                                   held_out={i: each for i, each in self.held_out.items() if i == peer})


def federate(
    config: Config, peers: int, only: int | None = None, *, hub: int | None = None, workers: int | None = None,
    progress: bool = False, forgotten: Collection[str] = (),
) -> Federation:
    """Return one fold of the run's corpus, partitioned over peers, with its features.

    Parameters
    ----------
    config : the settings; ``config.corpus`` names the corpus, the split, the fold and the partition.
    peers : number of peers.
    only : compute the features of this peer's clips and of the test clips alone, as a peer's process needs them.
    hub : a peer that holds no clips; the corpus is partitioned over the others. Where each peer has recordings of
        its own (partition ``own``), the hub needs no corpus, but its settings must name the labels.
    workers : number of processes that compute features, as in ``extract``.
    progress : whether to show a bar on standard error.
    forgotten : speakers whose clips are left out.

    Raises CorpusError where the corpus, the split or the partition does not fit, fewer than 2 labels are left, the fold
    does not exist, a peer has no usable clip, or ``speaker`` statistics are asked for and speakers are not named.

    Example
    -------
    >>> federation = federate(Config().with_settings(["corpus.name=synthetic"]), peers=4)    # doctest: +SKIP
    >>> federation.train[0].features.shape                                                   # doctest: +SKIP
    (60, 554)
    """
    if only is not None and not 0 <= only < peers:
        raise CorpusError(f"there is no peer {only}: the {peers} peers are 0 to {peers - 1}")
    if only is not None and (config.corpus.name == NO_CLIPS or (only == hub and config.corpus.partition == "own")):
        return _without_recordings(config, peers, only, hub=only == hub)
    dealt = partition_corpus(config, peers, hub=hub, forgotten=forgotten)
    corpus, labels, split, held, away = dealt.corpus, dealt.labels, dealt.split, dealt.held, dealt.held_out
    hosted = range(peers) if only is None else (only,)
    wanted = sorted({index for peer in hosted for index in (*held[peer], *away[peer])} | set(split.test))
    extraction = extract([corpus.clips[index].path for index in wanted], config.features, workers=workers,
                         progress=progress, texts=[corpus.clips[index].transcript for index in wanted])
    by_index, unusable = dict(zip(wanted, extraction.features)), extraction.left_out
    train = {}
    held_out = {i: each for i in hosted if (each := _examples(config, corpus, labels, away[i], by_index)) is not None}
    for peer in hosted:
        examples = _examples(config, corpus, labels, held[peer], by_index)
        if examples is None and peer != hub and peer not in held_out:
            raise CorpusError(_no_clips(f"peer {peer} has no usable training clip", held[peer], corpus, unusable))
        train[peer] = no_examples(clip_features.shape(config.features)) if examples is None else examples
        if config.augment.copies:
            usable = [corpus.clips[index] for index in held[peer] if by_index[index] is not None]
            train[peer] = _with_copies(config, train[peer], usable, workers, progress)
    if config.privacy.record:
        train = {peer: halves(examples, config.seed, peer)[0] for peer, examples in train.items()}
    test = _examples(config, corpus, labels, split.test, by_index)
    if test is None and split.test:
        raise CorpusError(_no_clips(f"the test set {split.name} has no usable clip", split.test, corpus, unusable))
    left_out = [*corpus.left_out, *unusable]
    notes, scaled = _notes(config, dealt, wanted, left_out, train, test), dealt.scaling
    if scaled.how == AUTO and only is None:
        scaled = chosen(corpus.clips)  # one process has the clips of all peers, which need not agree
        notes = (scaled.reason, *notes)
    return Federation(labels, train, test, split, corpus, scaled.how, left_out, dealt.speaker_overlap, held,
                      tuple(map(shown, notes)), scaled.reason, held_out)


def _notes(config: Config, partitioning: Partitioning, wanted: Sequence[int],
           left_out: Sequence[tuple[Path, str]], train: Mapping[int, Examples], test: Examples | None
           ) -> tuple[str, ...]:
    notes = (*partitioning.notes, *left_out_note(left_out))
    if clip_features.of_sound(config.features):  # equal words are no equal recordings
        lost = {path for path, _ in left_out}
        used = [path for index in wanted if (path := partitioning.corpus.clips[index].path) not in lost]
        notes += (*early_note(used), *long_note(used))
        notes += _copies_note(train, test)
    if clip_features.of_words(config.features).any():
        split = partitioning.split
        places = sorted({*split.test, *(index for peer in train for index in partitioning.held[peer])})
        notes += by_sentence.notes(partitioning.corpus, places, split.train, split.test)
    return notes


def _without_recordings(config: Config, peers: int, me: int, *, hub: bool) -> Federation:
    """Return the federation of a peer without recordings, where the others train on recordings of their own: a hub, or
    a peer that only relays.
    """
    labels, scaled = config.corpus.labels, scaling_of_sites(config)
    if labels is None and hub:
        raise CorpusError("a hub sees no recordings, so its settings must describe those of the other peers: set "
                          "corpus.labels, equal at all of them")
    return Federation(
        labels=tuple(map(canonical, labels or ())), train={me: no_examples(clip_features.shape(config.features))},
        test=None,
        split=Split("none", (), (), (), False), corpus=Corpus("own", "", ()), normalise=scaled.how, left_out=[],
        speaker_overlap=0, held=((),) * peers, why_normalised=scaled.reason,
    )


def no_examples(shape: tuple[int, ...]) -> Examples:
    """Return the examples of a peer that holds no clips; ``shape`` is the shape of one clip's features."""
    return Examples(np.zeros((0, *shape), dtype=np.float32), np.zeros(0, dtype=np.int64), (), ())


def halves(examples: Examples, seed: int, peer: int) -> tuple[Examples, Examples]:
    """Return the clips on which a peer trains in a run that is audited, and those that the audit's attackers hold.

    Each speaker's clips are halved; of an odd number the larger half is trained on.
    """
    draw = seeding.generator(seed, "audit.halves", peer)
    kept: list[int] = []
    for speaker in sorted(set(examples.speakers)):
        own = draw.permutation(np.flatnonzero(np.array(examples.speakers) == speaker))
        kept += own[: (len(own) + 1) // 2].tolist()
    rest = sorted(set(range(len(examples))) - set(kept))
    return examples.take(np.array(sorted(kept), dtype=int)), examples.take(np.array(rest, dtype=int))


def normalised(examples: Examples, how: str, training: Statistics | None) -> NDArray[np.float32]:
    """Return the features of examples, scaled.

    Parameters
    ----------
    examples : the clips.
    how : ``none``, ``global`` (by the training statistics), ``public`` (by those of public clips) or ``speaker`` (by
        each speaker's own, steadied by the training statistics).
    training : the statistics of all peers' training clips, or of the public ones; for ``speaker`` of the clips that
        this process holds, or None.

    Raises CorpusError for another value of ``how``, or ``global`` or ``public`` without statistics.
    """
    if how == "none":
        return examples.features
    if how == "speaker":
        return by_speaker(examples.features, examples.speakers, training)
    if how not in ("global", "public"):
        raise CorpusError(f"there is no normalisation {how!r}{nearest(how, ('none', 'global', 'speaker', 'public'))}")
    if training is None:
        raise CorpusError(f"{how} normalisation needs the training statistics of all peers")
    return training.apply(examples.features)


def normalised_copies(examples: Examples, how: str, training: Statistics | None) -> NDArray[np.float32] | None:
    """Return the copies (copies, n, …), scaled by the same statistics as their clips in ``normalised``; or None."""
    if examples.copies is None or how == "none":
        return examples.copies
    if how == "speaker":
        return np.stack([by_speaker(copy, examples.speakers, training, examples.features) for copy in examples.copies])
    return np.stack([normalised(dataclasses.replace(examples, features=copy), how, training)
                     for copy in examples.copies])


def _with_copies(
    config: Config, examples: Examples, clips: Sequence[Clip], workers: int | None, progress: bool
) -> Examples:
    """Return the examples of these clips with the varied copies that ``augment`` asks for.

    A copy that cannot be used is replaced by its clip.
    """
    if not clips:
        return examples
    copies = []
    for variant in augment.variants(config.augment):
        extraction = extract([clip.path for clip in clips], config.features, variant=variant, workers=workers,
                             progress=progress, texts=[clip.transcript for clip in clips])
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
    """Return the usable clips among these, or None."""
    usable = [(corpus.clips[index], values) for index in indices if (values := by_index[index]) is not None]
    if not usable:
        return None
    return Examples(
        features=np.stack([values for _, values in usable]),
        labels=np.array([labels.index(clip.emotion) if clip.emotion in labels else -1 for clip, _ in usable],
                        dtype=np.int64),
        speakers=tuple(clip.speaker for clip, _ in usable),
        paths=tuple(corpus.relative(clip) for clip, _ in usable),
        genders=tuple(clip.gender for clip, _ in usable),
        languages=tuple(clip.language for clip, _ in usable),
        soft=targets.shares([clip for clip, _ in usable], labels)
        if config.training.soft_labels and config.training.task != "dimensions" else None,
        dimensions=targets.dimensions([clip for clip, _ in usable]) if config.training.task != "classes" else None,
    )


def _copies_note(train: Mapping[int, Examples], test: Examples | None) -> tuple[str, ...]:
    """Return a sentence about recordings that are there twice under two paths: equal features are equal recordings."""
    seen: dict[bytes, tuple[str, str, int, int | None]] = {}
    twice: list[str] = []
    leaked = contradicting = 0
    for peer, examples in [*train.items(), *([(None, test)] if test is not None else [])]:
        for values, speaker, path, label in zip(examples.features, examples.speakers, examples.paths, examples.labels):
            first, who, before, holder = seen.setdefault(hashlib.blake2b(values.tobytes(), digest_size=16).digest(),
                                                         (path, speaker, label, peer))
            if (first, who) == (path, speaker):
                continue
            leaked += holder is not None and peer is None
            contradicting += before != label
            twice.append(f"{first} and {path}" + (f" (speakers {who} and {speaker})" if who != speaker else ""))
    if not twice:
        return ()
    where = f", {contradicting} of them under two emotions, which contradict each other" if contradicting else ""
    where += f", {leaked} of them in training and in the test set, whose figures are too good then" if leaked else ""
    return (f"{are(len(twice), 'recording')} there twice, first {twice[0]}{where}: leave "
            "one of each out",)


def _no_clips(what: str, indices: Sequence[int], corpus: Corpus, unusable: Sequence[tuple[Path, str]]) -> str:
    wanted = {corpus.clips[index].path for index in indices}
    first = next(((path, why) for path, why in unusable if path in wanted), None)
    return what + (f": all {len(wanted)} are left out, the first, {first[0]}: {first[1]}" if first else "")
