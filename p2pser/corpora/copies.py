"""Recordings that a corpus holds twice, under two names or two speakers: they must not be in training and test."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from p2pser.base.wording import are
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus

PART = 4096
"""Bytes that are compared first, at the beginning and in the middle."""


def copies(clips: Sequence[Clip]) -> list[list[int]]:
    """Return the groups of clips whose files have equal bytes, as ascending places; a file that cannot be read, or is
    empty, is in none.
    """
    groups: Iterable[list[int]] = [list(range(len(clips)))]
    for key in (_size, _parts, _whole):
        groups = [same for group in groups for same in _alike(clips, group, key)]
    return sorted(groups)


def apart(corpus: Corpus, split: Split) -> tuple[Split, tuple[str, ...]]:
    """Return the fold without the training clips of which the test set has a copy, and a note on them."""
    test, twice = set(split.test), {}
    for group in copies(corpus.clips) if split.test else []:
        held_out = [place for place in group if place in test]
        if held_out:
            twice.update({place: held_out[0] for place in group if place not in test})
    out = [place for place in split.train if place in twice]
    if not out:
        return split, ()
    emotions = [clip.emotion for clip in corpus.clips]
    other = sum(emotions[place] != emotions[twice[place]] for place in out)
    return dataclasses.replace(split, train=tuple(place for place in split.train if place not in twice)), (
        f"{are(len(out), 'training clip')} left out, since the test set has the same "
        f"recording{f', {other} of them under another emotion' if other else ''}, first "
        f"{_pair(corpus, out[0], twice[out[0]])}",)


def note(corpus: Corpus) -> tuple[str, ...]:
    """Return notes on the recordings that a corpus holds under two speakers, and under two emotions."""
    groups = copies(corpus.clips)
    mends = {"speaker": "leave one of each out", "emotion": "they contradict each other, so leave the wrong ones out"}
    notes = []
    for what, mend in mends.items():
        pairs = [pair for group in groups if (pair := _unlike(corpus, group, what)) is not None]
        if pairs:
            notes.append(f"{are(len(pairs), 'recording')} there under two {what}s, first {_pair(corpus, *pairs[0])}: "
                         f"{mend}")
    return tuple(notes)


def _unlike(corpus: Corpus, group: Sequence[int], what: str) -> tuple[int, int] | None:
    """Return the first clip of a group and the next one with another speaker or emotion; None where there is none."""
    values = [getattr(corpus.clips[place], what) for place in group]
    return next(((group[0], place) for place, value in zip(group, values) if value != values[0]), None)


def _pair(corpus: Corpus, left: int, right: int) -> str:
    first, second = corpus.clips[left], corpus.clips[right]
    emotions = ("", "") if first.emotion == second.emotion else (f", {first.emotion}", f", {second.emotion}")
    return (f"{corpus.relative(first)} (speaker {first.speaker}{emotions[0]}) and {corpus.relative(second)} (speaker "
            f"{second.speaker}{emotions[1]})")


def _alike(clips: Sequence[Clip], places: Sequence[int], key: Callable[[Path], Hashable]) -> list[list[int]]:
    """Return the groups, of two at least, of clips with the same key."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place in places:
        try:
            groups[key(clips[place].path)].append(place)
        except OSError:
            continue
    return [group for value, group in groups.items() if value and len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _parts(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(PART)
        file.seek(_size(path) // 2)
        return head + file.read(PART)


def _whole(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read()).digest()
