"""Log-mel spectra, bands by frames."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.registries import FEATURES
from p2pser.features.kind import Array
from p2pser.features.matrices import MelKind


@FEATURES.register("logmel")
@dataclass(frozen=True, kw_only=True)
class LogMel(MelKind):
    """Log-mel spectrum: the level in ``n_mels`` bands [dB]."""

    def bands_of(self, samples: Array) -> Array:
        """Return the log-mel levels (n_mels, frames)."""
        return self.log_mel(samples)

    def names(self) -> list[str]:
        """Return the names of the bands, from low to high."""
        return [f"logmel.{k}" for k in range(self.n_mels)]
