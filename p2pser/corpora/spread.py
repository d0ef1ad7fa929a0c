"""How far each speaker's clips are spread over the emotions, and so by which statistics features are to be scaled.

A speaker's own statistics take out of the features what all clips of a speaker have in common: the voice, the
microphone, and, where most of them have one emotion, that emotion. Of the differences between emotions, measured by the
chance that two clips drawn with replacement differ in emotion, the share

    mean over clips of (1 - sum_e p(e | speaker)^2)  /  (1 - sum_e p(e)^2)

stays: 1 where every speaker's clips have the emotions of all, 0 where they have one emotion or a speaker has one clip
(1 minus Goodman and Kruskal's tau of the emotion given the speaker, J. Am. Stat. Assoc. 49, 1954).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from p2pser.corpora.manifest import Clip

ENOUGH = 0.75
"""The share from which on a speaker's own statistics serve better than those of all clips; measured by
``benchmarks/normalisation.py``."""


class Scaling(NamedTuple):
    """By which statistics features are scaled (none, global or speaker), and why, as a sentence; "" where it is set."""

    how: str
    reason: str = ""


def spread(clips: Sequence[Clip]) -> float:
    """Return the chance that two clips of one speaker, drawn with replacement, differ in emotion: the mean over clips.

    A clip without an emotion differs from all others.
    """
    speakers: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        speakers[clip.speaker].append(clip)
    return sum(len(own) * differing(own) for own in speakers.values()) / max(1, len(clips))


def differing(clips: Sequence[Clip]) -> float:
    """Return the chance that two of these clips, drawn with replacement, differ in emotion."""
    counts = Counter(clip.emotion or place for place, clip in enumerate(clips))
    return 1.0 - sum(count * count for count in counts.values()) / max(1, len(clips)) ** 2


def choose(own: float, everyone: float) -> Scaling:
    """Return how to scale features, given how often two clips of one speaker differ in emotion, and how often any two.
    """
    share = own / everyone if everyone > 0 else 0.0
    often = f"{share:.0%} as often as any two ({ENOUGH:.0%} would do)"
    if share >= ENOUGH:
        return Scaling("speaker", "features are scaled by each speaker's own statistics (speaker): two clips of a "
                                  f"speaker differ in emotion {often}")
    return by_all(f"a speaker's own would take the emotion out, since two clips of a speaker differ in it only {often}")


def by_all(why: str) -> Scaling:
    """Return global scaling, with the reason."""
    return Scaling("global", f"features are scaled by the statistics of all training clips (global): {why}")


def by_default(why: str) -> Scaling:
    """Return scaling by speaker without regard to the spread, with the reason."""
    return Scaling("speaker", f"features are scaled by each speaker's own statistics (speaker): {why}")
