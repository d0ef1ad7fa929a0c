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
    return dataclasses.replace(split, train=tuple(place for place in split.train if place not in twice)), (
        f"{are(len(out), 'training clip')} left out, since the test set has the same "
        f"recording, first {_pair(corpus, out[0], twice[out[0]])}",)


def note(corpus: Corpus) -> tuple[str, ...]:
    """Return a note on the recordings that a corpus holds under two speakers."""
    groups = [group for group in copies(corpus.clips) if len({corpus.clips[place].speaker for place in group}) > 1]
    if not groups:
        return ()
    return (f"{are(len(groups), 'recording')} there under two speakers, first "
            f"{_pair(corpus, *groups[0][:2])}: leave one of each out",)


def _pair(corpus: Corpus, left: int, right: int) -> str:
    first, second = corpus.clips[left], corpus.clips[right]
    return (f"{corpus.relative(first)} (speaker {first.speaker}) and {corpus.relative(second)} (speaker "
            f"{second.speaker})")


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
