"""The plan of the synthetic corpus: the speakers, and the prosody of each clip.

An emotion is prosody: pitch, pitch range, rate, level and pauses, as multiples of a unit. Each speaker has a voice, a
base prosody, and a strength and style of expressing each emotion; each clip varies around it. As in collected corpora,
a speaker records the takes of one emotion in one session, with one microphone and background, and repeats some
sentences. So within a speaker many cues correlate with the emotion that are unrelated to it over many speakers.

The constants were chosen by trial so that the corpus of seed 0 is neither trivial nor hopeless, by the results of
``benchmarks/synthetic.py``; corpora of other seeds differ by several points. So results on this corpus say nothing
about the recognition of people's emotions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pser.base import seeding
from p2pser.corpora.sentences import SENTENCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSIONS = ("pitch", "range", "rate", "level", "gap")
"""Prosody: F0 [semitones], F0 range [espeak's points], rate [log], level [dB], pause between words [10 ms]."""

UNITS = (4.0, 28.0, 0.2, 7.0, 2.8)
"""One unit of each dimension, in the dimension's measure."""

EMOTIONS: dict[str, tuple[float, ...]] = {
    "anger": (0.7, 1.0, 0.6, 1.5, -0.5),
    "fear": (1.5, -0.7, 0.9, -0.5, 0.2),
    "happiness": (1.1, 1.3, 0.0, 0.3, -0.3),
    "neutral": (-0.2, 0.0, 0.0, 0.0, 0.0),
    "sadness": (-0.7, -0.9, -0.9, -1.0, 1.2),
}
"""The effect of each emotion, in units of ``DIMENSIONS``."""

BETWEEN = (0.4, 0.2, 0.3, 0.3, 0.2)
"""Standard deviation of the base prosody between speakers, in units."""

CUES = 15.0
"""How evenly a speaker uses the dimensions: concentration of the Dirichlet draw of the weights."""

STYLE = 0.3
"""Standard deviation of a speaker's variation of each emotion, in units."""

WITHIN = 0.3
"""Standard deviation between clips of one speaker and emotion, in units."""

FAVOURITES = 3
"""The number of sentences that a speaker uses for one emotion."""

TRACT = 0.03
"""Largest logarithm of the ratio between a speaker's vocal tract and the voice's."""

SPEAKERS = 24
"""Half of them female; every language in equal numbers."""

TAKES = 5
"""Clips of one speaker and emotion."""

EQ_DB = 2.0
"""Standard deviation of each of the bands of a session's frequency response [dB]."""

EQ_BANDS = 12
"""Bands of a session's frequency response, evenly over the octaves from 62 Hz to 8 kHz."""

SNR_DB = (10.0, 45.0)
"""Range of a session's ratio of speech to background noise [dB]."""

VOICES = {
    "f": ("f1", "f4", "aunty", "grandma", "shelby", "steph2", "Annie", "Andrea", "belinda", "anika", "linda", "steph"),
    "m": ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Andy", "Mike", "antonio", "travis"),
}
"""espeak-ng's voice variants; each is one speaker's timbre, in one language. Variants with breath are left out: their
samples differ from run to run."""

AFFECT = ((0.30, 0.10, 0.20, 0.20, -0.10), (0.0, 0.60, -0.25, -0.60, -0.60), (-0.05, 0.30, -0.10, 0.10, -0.10))
"""Arousal, valence and dominance of a clip, each a weighted sum of its prosody in units (``DIMENSIONS``) without its
speaker's base. Chosen so that each emotion lies on the same side of the cube as its prototype
(``p2pser.corpora.emotions``), and that higher, livelier, faster and louder speech is more aroused."""

RATING = 0.1
"""Standard deviation of the rating of a dimension, on its scale from -1 to 1."""

SEMITONES_PER_POINT = 0.186
"""The change of F0 with espeak-ng's pitch parameter (measured: 119 Hz at 10, 175 Hz at 50, 274 Hz at 90)."""


@dataclass(frozen=True)
class Take:
    """One clip to make: ``prosody`` holds the applied changes of ``DIMENSIONS`` against the voice, ``affect`` arousal,
    valence and dominance, from -1 to 1.
    """

    emotion: str
    number: int
    text: int
    prosody: tuple[float, ...]
    equaliser: tuple[float, ...]
    snr: float
    affect: tuple[float, float, float]


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker: a voice of espeak-ng, whose spectrum is stretched by ``tract``, and the takes."""

    name: str
    gender: str
    language: str
    voice: str
    tract: float
    takes: tuple[Take, ...]


def plan(seed: int, language: str | None = None) -> list[Speaker]:
    """Return the speakers of the corpus of this seed: one for each voice, with equal numbers of genders and languages;
    or all of one language (a key of ``SENTENCES``).
    """
    languages = [language] if language else sorted(SENTENCES)
    speakers: list[Speaker] = []
    for gender, voices in VOICES.items():
        for place in range(SPEAKERS // len(VOICES)):
            language, voice = languages[place % len(languages)], voices[place % len(voices)]
            speakers.append(_speaker(seed, len(speakers) + 1, gender, language, voice))
    return speakers


def _speaker(seed: int, number: int, gender: str, language: str, voice: str) -> Speaker:
    random = seeding.generator(seed, "synthetic speaker", peer=number)
    tract = float(np.exp(random.uniform(-TRACT, TRACT)))
    base = random.standard_normal(len(DIMENSIONS)) * BETWEEN
    strength = len(DIMENSIONS) * random.dirichlet([CUES] * len(DIMENSIONS))
    takes: list[Take] = []
    rating = seeding.generator(seed, "synthetic rating", peer=number)  # separate, so that the clips do not depend on it
    for emotion, effect in EMOTIONS.items():
        style = random.standard_normal(len(DIMENSIONS)) * STYLE
        equaliser = tuple(float(value) for value in random.standard_normal(EQ_BANDS) * EQ_DB)
        snr = float(random.uniform(*SNR_DB))
        favourites = random.permutation(len(SENTENCES[language]))[:FAVOURITES]
        for take in range(TAKES):
            noise = random.standard_normal(len(DIMENSIONS)) * WITHIN
            expressed = strength * effect + style + noise
            prosody = _bounded((base + expressed) * UNITS)
            text = int(random.choice(favourites))
            takes.append(Take(emotion, take, text, prosody, equaliser, snr, _affect(expressed, rating)))
    return Speaker(f"s{number:02d}", gender, language, f"{language}+{voice}", tract, tuple(takes))


def _affect(expressed: NDArray[np.float64], rating: np.random.Generator) -> tuple[float, float, float]:
    """Return arousal, valence and dominance of prosody in units, with the noise of a rating."""
    rated = np.asarray(AFFECT) @ expressed + RATING * rating.standard_normal(len(AFFECT))
    arousal, valence, dominance = (round(float(value), 3) for value in np.clip(rated, -1, 1))
    return arousal, valence, dominance


def _bounded(prosody: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the prosody within the limits of espeak-ng."""
    low = (-8.5, -45.0, -0.55, -14.0, -2.0)
    high = (8.5, 45.0, 0.55, 12.0, 10.0)
    return tuple(round(float(value), 3) for value in np.clip(prosody, low, high))
