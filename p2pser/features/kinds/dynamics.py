"""One vector a clip: how its energy, spectrum and cepstrum move, whatever their level.

Shares of time above parts of a contour's own range, its curvature, and its beginning and end relative to its mean:
functionals of ComParE (Schuller et al. 2013, Interspeech), most of which depend neither on the speaker's voice nor on
the level of the recording. To be joined to ``functionals``, which describe the values of the contours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pser.base.registries import FEATURES
from p2pser.features import contours
from p2pser.features.contours import SHAPE
from p2pser.features.kind import Array, FeatureKind
from p2pser.features.spectra import spectra

CEPSTRUM = 14
"""Number of cepstral coefficients whose contours are used, at most."""

LEVELS = (25, 50, 75, 90)
"""Thresholds in a contour's range [%]: the share of time above each is a feature."""

STATISTICS = (*(f"above{level}" for level in LEVELS), "rising", "curve", "error", "early", "late")
"""Shares of time above each part of the range and rising; the quadratic term and the deviation from a regression line;
the mean of the first and of the last third, less the whole's.
"""


@FEATURES.register("dynamics")
@dataclass(frozen=True, kw_only=True)
class Dynamics(FeatureKind):
    """How contours move (joined to functionals, which describe their values)."""

    version = 2

    n_mels: int
    n_mfcc: int

    def compute(self, signal: Array) -> Array:
        """Return the vector (D,) float32, finite, of a signal (samples,)."""
        clip = spectra(signal, self.sample_rate, self.n_mels, self.n_mfcc)
        spectral, _ = contours.spectral_shape(clip.frames, clip.power, clip.filters)
        cepstrum = clip.filters.dct[:CEPSTRUM] @ clip.mel
        values = np.concatenate([np.stack([clip.rms, clip.loudness()]), spectral, cepstrum])
        padded = np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)
        smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
        vector = statistics(smooth[:, clip.active]).ravel()
        return np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)

    def names(self) -> list[str]:
        """Return the names of the entries: all contours of the first statistic, and so on."""
        cepstrum = [f"mfcc{k}" for k in range(min(CEPSTRUM, self.n_mfcc))]
        return [f"dynamics.{contour}.{statistic}" for statistic in STATISTICS
                for contour in ("rms", "loudness", *SHAPE, *cepstrum)]


def statistics(values: Array) -> Array:
    """Return the ``STATISTICS`` (statistics, L) of contours (L, T), T at least 1."""
    count = values.shape[1]
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    low = values.min(axis=1, keepdims=True)
    span = np.maximum(values.max(axis=1, keepdims=True) - low, 1e-6)
    above = [(values > low + level / 100 * span).mean(axis=1) for level in LEVELS]
    rising = (values[:, 1:] > values[:, :-1]).mean(axis=1) if count > 1 else np.zeros(len(values))
    # Time and its square, each orthogonal to what comes before it.
    line = np.linspace(-1, 1, count, dtype=np.float32) if count > 1 else np.zeros(1, np.float32)
    square = line**2 - (line**2).mean()
    square -= line * (square @ line) / max(float(line @ line), 1e-9)
    slope = centred @ line / max(float(line @ line), 1.0)
    curve = centred @ square / max(float(square @ square), 1.0)
    error = (centred - slope[:, None] * line).std(axis=1)
    third = max(1, count // 3)
    ends = [values[:, :third].mean(axis=1) - mean, values[:, -third:].mean(axis=1) - mean]
    return np.stack([*above, rising, curve, error, *ends]).astype(np.float32)
