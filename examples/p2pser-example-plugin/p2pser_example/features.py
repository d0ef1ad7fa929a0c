"""A kind of features: the loudness of equal parts of a clip."""

from dataclasses import dataclass

import numpy as np

import p2pser


@p2pser.register_features("loudness")
@dataclass(frozen=True, kw_only=True)
class Loudness(p2pser.FeatureKind):
    """Level [dB] and rate of zero crossings of equal parts of a clip."""

    parts: int = 8
    """How many parts (features.parameters.parts)."""

    def names(self):
        """Return the names of the entries."""
        return [f"{name}.{part}" for name in ("level", "crossings") for part in range(self.parts)]

    def compute(self, signal):
        """Return the features of a clip."""
        pieces = np.array_split(signal, self.parts)
        levels = [10 * np.log10(np.square(piece).mean() + 1e-10) for piece in pieces]
        crossings = [np.abs(np.diff(np.signbit(piece))).mean() for piece in pieces]
        return np.array([*levels, *crossings], dtype=np.float32)
