"""The usual names of emotions, and their places in the cube of arousal, valence and dominance."""

from __future__ import annotations

from collections.abc import Iterable

DIMENSIONS = ("arousal", "valence", "dominance")
"""The dimensions, in the order of a model's outputs and of a manifest's columns."""

PROTOTYPES = {
    "anger": (0.59, -0.51, 0.25),
    "boredom": (-0.62, -0.65, -0.33),
    "calm": (-0.46, 0.68, 0.20),
    "disgust": (0.35, -0.60, 0.11),
    "excitement": (0.75, 0.62, 0.38),
    "fear": (0.60, -0.64, -0.43),
    "frustration": (0.52, -0.64, 0.35),
    "happiness": (0.51, 0.81, 0.46),
    "neutral": (0.0, 0.0, 0.0),
    "sadness": (-0.27, -0.63, -0.33),
    "surprise": (0.67, 0.40, -0.13),
}
"""Mean ratings of emotion words in ``DIMENSIONS``, each from -1 to 1 (Russell and Mehrabian 1977, as they are usually
quoted: angry, bored, relaxed, disgusted, excited, afraid, frustrated, happy, sad, surprised; neutral is the middle)."""

_ALIASES = {
    "anger": "angry ang anger rage",
    "boredom": "bored boredom bor",
    "calm": "calm cal",
    "disgust": "disgusted disgust dis",
    "excitement": "excited excitement exc",
    "fear": "fearful fear fea afraid anxious anxiety",
    "frustration": "frustrated frustration fru",
    "happiness": "happy happiness hap joy joyful",
    "neutral": "neutral neu normal",
    "sadness": "sad sadness",
    "surprise": "surprised surprise sur ps pleasant_surprise pleasant_surprised",
}
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}


def canonical(label: str) -> str:
    """Return the usual name of an emotion; an unknown label is only stripped and put in lower case.

    >>> canonical("Angry"), canonical("joy"), canonical("Irony ")
    ('anger', 'happiness', 'irony')
    """
    name = label.strip().lower()
    return _NAMES.get(name.replace(" ", "_").replace("-", "_"), name)


def nearest_emotion(arousal: float, valence: float, dominance: float, *, among: Iterable[str] = PROTOTYPES) -> str:
    """Return the emotion whose prototype is nearest (Euclidean) in the cube.

    For display only: where several prototypes lie close together (anger, disgust and frustration) the nearest one is
    more often wrong than right.

    Parameters
    ----------
    arousal, valence, dominance : the point, each from -1 to 1.
    among : the emotions to choose from; ValueError where none has a prototype.

    >>> nearest_emotion(0.5, 0.8, 0.4), nearest_emotion(-0.4, -0.6, -0.3, among=("neutral", "sadness"))
    ('happiness', 'sadness')
    """
    point = (arousal, valence, dominance)
    known = sorted(name for name in among if name in PROTOTYPES)
    if not known:
        raise ValueError("none of these emotions has a place in the cube of valence, arousal and dominance")
    return min(known, key=lambda name: sum((a - b) ** 2 for a, b in zip(point, PROTOTYPES[name])))
