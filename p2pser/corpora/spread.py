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
from collections.abc import Collection, Sequence
from typing import NamedTuple

from p2pser.corpora.manifest import Clip

ENOUGH = 0.8
"""The share from which on a speaker's own statistics serve better than those of all clips; measured by
``benchmarks/normalisation.py``."""
AUTO = "auto"
"""How features are scaled where the peers of a run agree on it, until they have."""
PARTS = 8
"""A site says its spread to the others in eighths."""
UNNAMED = -1
"""In place of a site's spread: it does not name the speaker of every clip."""


class Scaling(NamedTuple):
    """By which statistics features are scaled (none, global, speaker, public, or ``AUTO``), and why, as a sentence;
    "" where it is set."""

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


def chosen(clips: Sequence[Clip]) -> Scaling:
    """Return how to scale the features of these clips."""
    return choose(spread(clips), differing(clips))


def choose(own: float, everyone: float) -> Scaling:
    """Return how to scale features, given how often two clips of one speaker differ in emotion, and how often any two.
    """
    share = own / everyone if everyone > 0 else 0.0
    tenths, than = min(9, int(10 * share)), f"as often as any two ({ENOUGH:.0%} would do)"  # folds tell it alike
    if share >= ENOUGH:
        return by_speakers(f"two clips of a speaker differ in emotion at least {tenths}0% {than}")
    return by_all("a speaker's own would take the emotion out, since two clips of a speaker differ in it less than "
                  f"{tenths + 1}0% {than}")


def in_parts(clips: Sequence[Clip], named: bool) -> int:
    """Return what a site says of its clips to the other sites: the ``spread`` in eighths, or ``UNNAMED``."""
    return round(PARTS * spread(clips)) if named else UNNAMED


def is_in_parts(value: object) -> bool:
    """Whether a site can have said this of its clips."""
    return type(value) is int and UNNAMED <= value <= PARTS


def agreed(spreads: Collection[int], classes: int) -> str:
    """Return how the sites of a run scale features: speaker or global.

    Parameters
    ----------
    spreads : what each site with clips has said (``in_parts``). Each counts alike, so none needs to say how many clips
        it has.
    classes : the number of emotions of the run; 0: none are learned. Any two clips are taken to differ in emotion as
        often as if all emotions were equally common, so that no site says how common they are.
    """
    if not spreads or UNNAMED in spreads:
        return "global"
    return choose(sum(spreads) / (PARTS * len(spreads)), 1 - 1 / classes if classes else 1.0).how


def after_agreement(how: str) -> Scaling:
    """Return the scaling that the sites of a run have agreed on, with the reason."""
    if how == "speaker":
        return by_speakers("at most sites a speaker has clips of several emotions")
    return by_all("at most sites a speaker has few clips or few emotions, or a site does not name its speakers")


def by_all(why: str) -> Scaling:
    """Return global scaling, with the reason."""
    return Scaling("global", f"features are scaled by the statistics of all training clips (global): {why}")


def by_speakers(why: str) -> Scaling:
    """Return scaling by speaker, with the reason."""
    return Scaling("speaker", f"features are scaled by each speaker's own statistics (speaker): {why}")
