"""What the matrix kinds share: the length to which clips are cut, frames, and the power in bands."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from p2pser.features import filters
from p2pser.features.kind import Array, FeatureKind
from p2pser.features.levels import middle

WINDOW = 0.025
"""Length of a frame [s]; of pitch classes, which need the resolution in frequency, four times this."""

FLOOR = 1e-10
"""Power below which a logarithm is cut (full scale is 1)."""

RANGE = 80.0
"""Range of the log-mel levels below a clip's loudest band [dB]: silence around a clip is not a hole 100 dB deep."""


def frames(seconds: float, hop: float) -> int:
    """Return the number of frames of a matrix: one every ``hop`` of ``seconds``."""
    return max(1, round(seconds / hop))


@dataclass(frozen=True, kw_only=True)
class MatrixKind(FeatureKind):
    """A kind whose features are bands by frames."""

    version = 2
    vector = False

    seconds: float
    hop: float = 0.01

    @abstractmethod
    def bands_of(self, samples: Array) -> Array:
        """Return the matrix (bands, frames) of samples that last ``seconds``."""

    def compute(self, signal: Array) -> Array:
        """Return the matrix (bands, frames) float32 of a signal (samples,)."""
        return self.bands_of(self._cut(signal))

    def shape(self) -> tuple[int, ...]:
        """Return (bands, frames)."""
        return len(self.names()), frames(self.seconds, self.hop)

    def _cut(self, signal: Array) -> Array:
        """Return ``seconds`` of the signal: its middle, or the whole signal in the middle of silence."""
        wanted = round(self.seconds * self.sample_rate)
        if signal.size >= wanted:
            return middle(signal, wanted)
        before = (wanted - signal.size) // 2
        return np.pad(signal, (before, wanted - signal.size - before))

    def power(self, samples: Array, window: Array, n_fft: int, bank: Array) -> Array:
        """Return the power (bands, frames) in the bands of a filter bank (bands, n_fft/2 + 1)."""
        hop = round(self.hop * self.sample_rate)
        padded = np.pad(samples, (window.size // 2, window.size - window.size // 2 + hop))
        views = np.lib.stride_tricks.sliding_window_view(padded, window.size)[::hop][: frames(self.seconds, self.hop)]
        spectrum = np.fft.rfft(views * window, n_fft)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        return np.asarray(bank @ power.T, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class MelKind(MatrixKind):
    """A matrix kind that is made of log-mel levels."""

    n_mels: int

    def log_mel(self, samples: Array) -> Array:
        """Return the log-mel levels (n_mels, frames) [dB], cut ``RANGE`` below the highest."""
        window = filters.hann(round(WINDOW * self.sample_rate))
        n_fft = 1 << (window.size - 1).bit_length()
        power = self.power(samples, window, n_fft, filters.mel(self.sample_rate, n_fft, self.n_mels))
        mel: Array = 10 * np.log10(power + FLOOR)
        return np.asarray(np.maximum(mel, mel.max() - RANGE))
