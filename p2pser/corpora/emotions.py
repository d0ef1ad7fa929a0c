"""The usual names of emotions, and their places in the cube of arousal, valence and dominance."""

from __future__ import annotations

import re
import unicodedata

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

_WORDS = {
    "anger": "angry ang anger rage wut ärger zorn wütend rabbia ira enojo enfado colère złość gniew raiva "
             "خشم عصبانیت غصہ 愤怒 生气",
    "boredom": "bored boredom bor langeweile noia aburrimiento ennui nuda tédio",
    "calm": "calm cal ruhe ruhig gelassen calma calme spokój 平静",
    "disgust": "disgusted disgust dis ekel disgusto asco dégoût wstręt obrzydzenie nojo نفرت 厌恶",
    "excitement": "excited excitement exc begeisterung entusiasmo",
    "fear": "fearful fear fea afraid anxious anxiety angst furcht ängstlich paura miedo peur strach lęk medo ترس خوف "
            "恐惧 害怕",
    "frustration": "frustrated frustration fru frustriert",
    "happiness": "happy happiness hap joy joyful freude glück fröhlich glücklich gioia felicità alegría felicidad joie "
                 "bonheur radość szczęście alegria شادی خوشی 快乐 高兴 开心",
    "neutral": "neutral neu normal neutro neutralità neutre neutralny neutralność خنثی 中性 中立",
    "sadness": "sad sadness trauer traurig traurigkeit tristezza tristeza tristesse smutek "
               "غم ناراحتی اداسی 悲伤 难过 伤心",
    "surprise": "surprised surprise sur ps pleasant_surprise pleasant_surprised überraschung überrascht sorpresa "
                "zaskoczenie zdziwienie surpresa تعجب حیرت 惊讶",
}
"""The words for each emotion, in the languages of the corpora that p2pser knows."""

_NAMES = {alias: name for name, words in _WORDS.items() for alias in words.split()}


def canonical(label: str) -> str:
    """Return the usual name of an emotion; an unknown label is only put in lower case, on one line, without characters
    that cannot be printed, which no neighbour would accept (``wire.labels``).

    >>> canonical("Angry"), canonical("joy"), canonical("Cold\\n irony ")
    ('anger', 'happiness', 'cold irony')
    """
    letters = (letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", label))
    name = " ".join("".join(letters).split()).lower()
    return _NAMES.get(name.replace(" ", "_").replace("-", "_"), name)


def is_known(label: str) -> bool:
    """Return whether a label is one of the words for an emotion that p2pser knows.

    >>> is_known("Wut"), is_known("anna")
    (True, False)
    """
    return canonical(label) in _WORDS


def known_in(label: str) -> str | None:
    """Return the emotion that a label names beside digits and other words, if exactly one; None for a known label.

    >>> known_in("01_angry"), known_in("neutral voice"), known_in("happy-sad"), known_in("anger")
    ('anger', 'neutral', None, None)
    """
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", label))
    named = {canonical(word) for word in words if is_known(word)}
    return named.pop() if len(named) == 1 and not is_known(label) else None


def nearest_emotion(arousal: float, valence: float, dominance: float) -> str:
    """Return the emotion whose prototype is nearest (Euclidean) to a point of the cube, each from -1 to 1.

    For display only: where several prototypes lie close together (anger, disgust and frustration) the nearest one is
    more often wrong than right.

    >>> nearest_emotion(0.5, 0.8, 0.4), nearest_emotion(-0.4, -0.6, -0.3)
    ('happiness', 'sadness')
    """
    point = (arousal, valence, dominance)
    return min(sorted(PROTOTYPES), key=lambda name: sum((a - b) ** 2 for a, b in zip(point, PROTOTYPES[name])))
