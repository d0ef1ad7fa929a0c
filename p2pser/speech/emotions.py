"""One name for one emotion, whatever a corpus or a folder calls it."""

from __future__ import annotations

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
    """Return the usual name of an emotion; a label that is not known is only stripped and put in lower case.

    >>> canonical("Angry"), canonical("joy"), canonical("Irony ")
    ('anger', 'happiness', 'irony')
    """
    name = label.strip().lower()
    return _NAMES.get(name.replace(" ", "_").replace("-", "_"), name)
