"""A federation from arrays: features, labels and speakers that were computed elsewhere, no recordings needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser.base.arguments import several
from p2pser.base.errors import CorpusError, nearest
from p2pser.corpora import partitions
from p2pser.corpora.emotions import canonical
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import ARRAYS, Clip, Corpus, alike
from p2pser.corpora.manifest_rows import word
from p2pser.corpora.partitioning import notes_of
from p2pser.corpora.spread import Scaling, by_all, chosen
from p2pser.features.federation import Examples, Federation, no_examples

GENDERS = ("f", "m", "")
NORMALISATIONS = ("auto", "none", "global", "speaker")


def from_arrays(
    features: ArrayLike,
    labels: Sequence[str] | NDArray[np.str_] | None,
    speakers: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    peers: int,
    test: ArrayLike | None = None,
    owners: ArrayLike | None = None,
    genders: Sequence[str] | NDArray[np.str_] | None = None,
    hub: int | None = None,
    label_order: Sequence[str] | None = None,
    normalise: str = "auto",
    partition: str = "auto",
    seed: int = 0,
) -> Federation:
    """Return the federation of n clips whose features are given.

    Parameters
    ----------
    features : (n, D) or (n, bands, frames), finite, not scaled.
    labels : (n,), the emotion of each clip; its usual name counts, as in manifests (``joy`` is ``happiness``).
    speakers : (n,), the speaker of each clip, ``""`` where unknown; default: all unknown. Blanks at the ends do not
        count.
    peers : number of peers.
    test : (n,) bool, the held-out clips; default: none.
    owners : (n,) int, the peer that holds each training clip; the entries of test clips do not count. Default: the
        clips are partitioned as ``partition`` says.
    genders : (n,), ``"f"``, ``"m"`` or ``""``; default: unknown.
    hub : a peer that holds no clips.
    label_order : the labels in the order of the model's outputs; default: sorted.
    normalise : none, global, speaker or auto, as in ``features.normalise``. auto: speaker for vectors where all
        speakers are named, each speaker's training clips are at one peer and are spread over the emotions, else global.
    partition : how training clips are partitioned where there are no ``owners``, as in ``corpus.partition``.
    seed : seed of the partition.

    Raises CorpusError where the arrays do not fit together, a feature is not finite, a label is not in ``label_order``,
    there are fewer than 2 labels, a peer has no training clip, or ``speaker`` statistics are asked for and speakers are
    not named.

    Example
    -------
    >>> features = np.arange(12.0).reshape(6, 2)
    >>> federation = from_arrays(features, ["joy", "anger"] * 3, ["ann", "ann", "bob", "bob", "cy", "cy"], peers=2,
    ...                          test=[False] * 4 + [True] * 2)
    >>> federation.labels, federation.train[1].speakers, len(federation.test)
    (('anger', 'happiness'), ('bob', 'bob'), 2)
    """
    values = _features(features)
    order, corpus = _corpus(values, labels, speakers, genders, label_order)
    split = _split(corpus, _test(test, len(values)))
    held = _held(corpus.clips, split.train, peers, hub, owners, partition, seed)
    chosen = _scaling(normalise, values.ndim == 2, corpus, split, held)
    return _federation(values, order, corpus, split, held, chosen, partition)


def _federation(
    values: NDArray[np.float32], labels: tuple[str, ...], corpus: Corpus, split: Split,
    held: tuple[tuple[int, ...], ...], scaling: Scaling, partition: str
) -> Federation:
    overlap = len({corpus.clips[index].speaker for index in split.train} & set(split.test_speakers))
    examples = Examples(
        values, np.array([labels.index(str(clip.emotion)) for clip in corpus.clips], dtype=np.int64),
        tuple(clip.speaker for clip in corpus.clips), tuple(corpus.relative(clip) for clip in corpus.clips),
        tuple(clip.gender for clip in corpus.clips) if any(clip.gender for clip in corpus.clips) else ())
    return Federation(
        labels=labels,
        train={peer: examples.take(np.array(indices, dtype=np.int64)) if indices else no_examples(values.shape[1:])
               for peer, indices in enumerate(held)},
        test=examples.take(np.array(split.test)) if split.test else None,
        split=split, corpus=corpus, normalise=scaling.how, left_out=[], speaker_overlap=overlap, held=held,
        notes=(*corpus.notes, *notes_of(corpus, held, split, scaling, overlap, partition)),
        why_normalised=scaling.reason,
    )


def _corpus(
    values: NDArray[np.float32], labels: Sequence[str] | NDArray[np.str_] | None,
    speakers: Sequence[str] | NDArray[np.str_] | None,
    genders: Sequence[str] | NDArray[np.str_] | None, label_order: Sequence[str] | None
) -> tuple[tuple[str, ...], Corpus]:
    """Return the labels in order, and a corpus of a clip for each row; its version is a digest of their content."""
    count = len(values)
    if labels is None:
        raise CorpusError("features need their labels: give labels, one for each clip")
    names = tuple(map(canonical, _strings("labels", labels, count)))
    order = _label_order(names, label_order)
    people = ("",) * count if speakers is None else _strings("speakers", speakers, count)
    sexes = ("",) * count if genders is None else _genders(genders, count)
    version = hashlib.blake2b(values.tobytes() + repr((names, people)).encode(), digest_size=4).hexdigest()
    clips = tuple(Clip(Path(f"array/{index}"), people[index], names[index], sexes[index]) for index in range(count))
    return order, Corpus(ARRAYS, version, clips, default_split="none", notes=tuple(alike(set(people))))


def _split(corpus: Corpus, held_out: NDArray[np.bool_]) -> Split:
    training, testing = (tuple(map(int, np.flatnonzero(mask))) for mask in (~held_out, held_out))
    tested = {corpus.clips[index].speaker for index in testing}
    trained = {corpus.clips[index].speaker for index in training}
    disjoint = not testing or (corpus.names_speakers and not tested & trained)
    return Split(ARRAYS, training, testing, tuple(sorted(tested)), disjoint)


def _features(features: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = _array("features", features, "biuf", "an array of numbers, (n, D) or (n, bands, frames)").astype(
            np.float32)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise CorpusError(f"features have the shape {values.shape}: give (n, D) or (n, bands, frames), none of them 0")
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise CorpusError(f"features of {int((~finite).sum())} of {len(values)} clips are not finite float32 numbers, "
                          f"the first of clip {int(np.argmin(finite))}: replace them, or leave these clips out")
    return values


def _array(what: str, given: ArrayLike, kinds: str, words: str) -> NDArray[Any]:
    """Return an argument as an array of these kinds of numpy's types. Raises CorpusError where it is none."""
    try:
        values = np.asarray(given)
        if values.dtype.kind == "O":  # numbers of several types, or of another package
            values = values.astype(float)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor with a gradient
        raise CorpusError(f"{what} are not {words}") from None
    if values.dtype.kind not in kinds:
        raise CorpusError(f"{what} are not {words}, but of type {values.dtype}")
    return values


def _strings(what: str, values: Sequence[str] | NDArray[np.str_], count: int) -> tuple[str, ...]:
    """Return one string for each clip, as a cell of a manifest is read."""
    entries = list(several(values))
    if len(entries) != count:
        raise CorpusError(f"{what} has {len(entries)} entries, and features has {count} clips: give one for each clip")
    for index, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise CorpusError(f"{what} are strings, and that of clip {index} is {entry!r}")
    return tuple(word(str(entry)) for entry in entries)


def _genders(genders: Sequence[str] | NDArray[np.str_], count: int) -> tuple[str, ...]:
    values = _strings("genders", genders, count)
    if unknown := sorted(set(values) - set(GENDERS)):
        raise CorpusError(f"genders are 'f', 'm' or '' (unknown), and {unknown[0]!r} is none of them")
    return values


def _label_order(names: Sequence[str], order: Sequence[str] | None) -> tuple[str, ...]:
    if "" in names:
        raise CorpusError(f"the label of clip {names.index('')} is empty: give each clip a label, or leave it out")
    labels = tuple(sorted(set(names)) if order is None else map(canonical, order))
    if repeated := [label for place, label in enumerate(labels) if label in labels[:place]]:
        raise CorpusError(f"label_order names {repeated[0]!r} twice")
    for index, name in enumerate(names):
        if name not in labels:
            raise CorpusError(f"the label of clip {index}, {name!r}, is not in label_order{nearest(name, labels)}")
    if len(labels) < 2:
        raise CorpusError(f"a model needs 2 labels or more, and all clips are {', '.join(labels)}")
    return labels


def _test(test: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    if test is None:
        return np.zeros(count, dtype=bool)
    mask = _array("entries of test", test, "b", "truths (bool), one for each clip")
    if mask.shape != (count,):
        raise CorpusError(f"test has the shape {mask.shape}: give a truth (bool) for each of the {count} clips")
    if mask.all():
        raise CorpusError("all clips are test clips: leave some for training")
    return mask


def _held(
    clips: Sequence[Clip], training: Sequence[int], peers: int, hub: int | None, owners: ArrayLike | None,
    partition: str, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Return the training clips of each peer, as indices into ``clips``."""
    if peers < 1:
        raise CorpusError(f"{peers} peers cannot hold clips: use 1 or more")
    if peers > len(training) + (hub is not None):
        raise CorpusError(f"{len(training)} training clips are too few for {peers} peers: use fewer, or more clips")
    if hub is not None and not 0 <= hub < peers:
        raise CorpusError(f"the hub, {hub}, is not one of the peers 0 to {peers - 1}")
    holders = [peer for peer in range(peers) if peer != hub]
    if owners is None:
        shares = partitions.partition([clips[index] for index in training], partition, len(holders), seed)
        by_peer = {peer: tuple(training[place] for place in share) for peer, share in zip(holders, shares)}
        return tuple(by_peer.get(peer, ()) for peer in range(peers))
    owner = _array("owners", owners, "iu", "whole numbers, a peer for each clip")
    if owner.shape != (len(clips),):
        raise CorpusError(f"owners have the shape {owner.shape}: give a peer for each of the {len(clips)} clips")
    for index in training:
        if owner[index] not in holders:
            why = "is the hub, which holds no clips" if owner[index] == hub else f"is not one of 0 to {peers - 1}"
            raise CorpusError(f"the owner of clip {index}, {owner[index]}, {why}")
    held = tuple(tuple(index for index in training if owner[index] == peer) for peer in range(peers))
    empty = [peer for peer in holders if not held[peer]]
    if empty:
        raise CorpusError(f"peer {empty[0]} owns no training clip: give each peer one, or use fewer peers")
    return held


def _scaling(how: str, vectors: bool, corpus: Corpus, split: Split, held: Sequence[Sequence[int]]) -> Scaling:
    if how not in NORMALISATIONS:
        raise CorpusError(f"there is no normalisation {how!r}{nearest(how, NORMALISATIONS)}")
    if how == "speaker" and not corpus.names_speakers:
        raise CorpusError("speaker statistics need the speaker of every clip, and some are '': name them, or set "
                          "features.normalise to global")
    if how != "auto":
        return Scaling(how)
    by_peer = [{corpus.clips[index].speaker for index in indices} for indices in held]
    if sum(map(len, by_peer)) > len(set().union(*by_peer)):
        return by_all("clips of one speaker are at several peers")
    if not vectors or not corpus.names_speakers:
        return by_all("not every speaker is named" if vectors else "they are matrices")
    return chosen([corpus.clips[index] for index in split.train])
