"""Pitch classes, bands by frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pser.base.registries import FEATURES
from p2pser.features import filters
from p2pser.features.kind import Array
from p2pser.features.matrices import FLOOR, WINDOW, MatrixKind


@FEATURES.register("chroma")
@dataclass(frozen=True, kw_only=True)
class Chroma(MatrixKind):
    """Chroma: the power in 12 pitch classes, the largest of each frame 1."""

    def bands_of(self, samples: Array) -> Array:
        """Return the pitch classes (12, frames)."""
        window = filters.hann(round(4 * WINDOW * self.sample_rate))
        n_fft = 1 << (window.size - 1).bit_length()
        power = self.power(samples, window, n_fft, filters.chroma(self.sample_rate, n_fft))
        return np.asarray(power / np.maximum(power.max(axis=0, keepdims=True), FLOOR))

    def names(self) -> list[str]:
        """Return the names of the pitch classes, from C."""
        return [f"chroma.{k}" for k in range(12)]
