"""A clip's transcript as one vector, by a text encoder. Neither transcript nor vector is kept or sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FEATURES
from p2pser.features import encoders, text_encoders
from p2pser.features.kind import Array, FeatureKind
from p2pser.features.kinds.words import cleaned


@FEATURES.register("sentences")
@dataclass(frozen=True, kw_only=True)
class Sentences(FeatureKind):
    """The embedding of a clip's transcript by a frozen text encoder, ``features.text_encoder``.

    The mean of the encoder's last layer over the tokens, at length √D; before it, whether there is a transcript. A clip
    without a transcript is all zeros.
    """

    of_words = True

    text_encoder: str | None

    def compute(self, signal: Array) -> Array:
        """Return what a signal alone tells of its words: zeros."""
        return self.read("")

    def read(self, text: str) -> Array:
        """Return the features of a transcript; zeros where it holds no character that can be read."""
        features: Array = self.read_all([text])[0]
        return features

    def read_all(self, texts: Sequence[str]) -> Array:
        """Return the features (n, 1 + D) of n transcripts. Raises ConfigError where the encoder is not available."""
        known = {number: text for number, text in enumerate(map(cleaned, texts)) if text}
        values = np.zeros((len(texts), *self.shape()), dtype=np.float32)
        if known:
            values[list(known), 0] = 1.0
            values[list(known), 1:] = text_encoders.embed(self._folder(), list(known.values()))
        return values

    def names(self) -> list[str]:
        """Return the names of the entries. Raises ConfigError where the encoder is not available."""
        return ["sentences.known", *(f"sentences.{k}" for k in range(text_encoders.width(self._folder())))]

    def source(self) -> str:
        """Return the digest of the encoder's files. Raises ConfigError where it is not available."""
        return encoders.identity(self._folder(), encoders.TEXT)

    def cache_settings(self) -> dict[str, Any]:
        """Return nothing: ``source`` stands for the encoder."""
        return {}

    def _folder(self) -> Path:
        if self.text_encoder is None:
            raise ConfigError("features.kind sentences needs a text encoder: set features.text_encoder to a folder "
                              "that holds one, or a Hugging Face name such as sentence-transformers/all-MiniLM-L6-v2")
        return encoders.folder(self.text_encoder, None, encoders.TEXT)
