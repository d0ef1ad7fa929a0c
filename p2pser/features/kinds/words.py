"""What was said, as one vector: hashed n-grams of a clip's transcript. Nothing of a transcript is kept or sent."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FEATURES
from p2pser.features.kind import Array, FeatureKind

LONGEST = 4096
"""So many characters of a transcript are read, after blanks and control characters are gone: minutes of speech."""

WORDS, CHARACTERS = (1, 2), (3, 4, 5)
"""Lengths of the n-grams: of words in a row, and of characters in a row within a word and its two ends."""

_WORD = re.compile(r"\w+")


@FEATURES.register("words")
@dataclass(frozen=True, kw_only=True)
class Words(FeatureKind):
    """The words of a clip's transcript: n-grams of words and characters, hashed to a vector of fixed width.

    Every n-gram has a vector of signs (its SHAKE-128 hash, ``width`` bits), so each entry of a clip's vector is a sum
    over all its n-grams: random indexing (Sahlgren 2005), whose entries vary alike, so they can be scaled as other
    features are. The words and the characters make one half each. Two further entries are whether there is a transcript
    and the logarithm of its number of words. A clip without a transcript is all zeros.
    """

    of_words = True

    width: int = 256
    """number of entries of the hashed n-grams, a multiple of 8"""

    least: ClassVar[int] = 8
    most: ClassVar[int] = 8192

    def __post_init__(self) -> None:
        if self.width % 8 or not self.least <= self.width <= self.most:
            raise ConfigError(f"features.parameters.width = {self.width} must be a multiple of 8 from {self.least} to "
                              f"{self.most} (words)")

    def compute(self, signal: Array) -> Array:
        """Return what a signal alone tells of its words: zeros."""
        return self.read("")

    def read(self, text: str) -> Array:
        """Return the features of a transcript; zeros where it holds no character that can be read."""
        text = plain(text)
        if not text:
            return np.zeros(2 + self.width, dtype=np.float32)
        words = _WORD.findall(text)
        halves = self._direction("w", _runs(words, WORDS)) + self._direction("c", chain.from_iterable(
            _runs(f" {each} ", CHARACTERS) for each in text.split()))
        length = float(np.linalg.norm(halves))
        scaled = halves * (math.sqrt(self.width) / length if length else 0.0)
        return np.concatenate([[1.0, math.log1p(len(words))], scaled]).astype(np.float32)

    def names(self) -> list[str]:
        """Return the names of the entries."""
        return ["words.known", "words.count", *(f"words.{k}" for k in range(self.width))]

    def _direction(self, of: str, grams: Iterable[str]) -> NDArray[np.float64]:
        """Return the sum of the n-grams' signs, each n-gram counting 1 + log of how often it is there, at length 1."""
        counts = sorted(Counter(grams).items())
        if not counts:
            return np.zeros(self.width)
        digests = b"".join(hashlib.shake_128(f"{of} {gram}".encode()).digest(self.width // 8) for gram, _ in counts)
        signs = np.unpackbits(np.frombuffer(digests, dtype=np.uint8)).reshape(len(counts), self.width) * 2.0 - 1.0
        total = (1 + np.log([count for _, count in counts])) @ signs
        length = float(np.linalg.norm(total))
        return np.asarray(total / length if length else total)


def plain(text: str) -> str:
    """Return a text as the features read it: in compatible Unicode, without case, control characters and double blanks,
    at most ``LONGEST`` characters.

    >>> plain("  Der\\tHUND\\0 bellt. ")
    'der hund bellt.'
    """
    return _kept(_compatible(text).casefold())


def cleaned(text: str) -> str:
    """Return a text in compatible Unicode, without control characters and double blanks, up to ``LONGEST`` letters.

    >>> cleaned("  Der\\tHUND\\0 bellt. ")
    'Der HUND bellt.'
    """
    return _kept(_compatible(text))


def _compatible(text: str) -> str:
    # The bound first: one composed character can become eighteen, and a long text costs only itself.
    return unicodedata.normalize("NFKC", text[: 16 * LONGEST])


def _kept(text: str) -> str:
    kept = (letter if letter.isspace() or unicodedata.category(letter)[0] != "C" else "" for letter in text)
    return " ".join("".join(kept).split())[:LONGEST].rstrip()


def _runs(items: list[str] | str, lengths: tuple[int, ...]) -> list[str]:
    """Return all runs of these lengths, of words joined by blanks."""
    joint = "" if isinstance(items, str) else " "
    return [joint.join(items[start:start + length]) for length in lengths for start in range(len(items) - length + 1)]
