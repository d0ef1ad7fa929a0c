"""Mel-frequency cepstra with their differences, bands by frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pser.base.registries import FEATURES
from p2pser.features import filters
from p2pser.features.contours import delta
from p2pser.features.kind import Array
from p2pser.features.matrices import MelKind


@FEATURES.register("mfcc")
@dataclass(frozen=True, kw_only=True)
class Mfcc(MelKind):
    """Mel-frequency cepstrum: ``n_mfcc`` coefficients, then as many orders of differences as ``deltas``."""

    n_mfcc: int
    deltas: int = 2

    def bands_of(self, samples: Array) -> Array:
        """Return the coefficients, then their first and second differences."""
        parts = [filters.cosine(self.n_mels, self.n_mfcc) @ self.log_mel(samples)]
        for _ in range(self.deltas):
            parts.append(delta(parts[-1]))
        return np.concatenate(parts).astype(np.float32)

    def names(self) -> list[str]:
        """Return the names of the coefficients and of their differences."""
        parts = ("mfcc", "mfcc_delta", "mfcc_delta2")[: self.deltas + 1]
        return [f"{part}.{k}" for part in parts for k in range(self.n_mfcc)]
