"""One vector a clip: how its energy, spectrum and cepstrum move, wherever they lie.

Shares of time above parts of a contour's own range, its trend beyond a line, and its beginning and end against its
mean: functionals of ComParE (Schuller et al. 2013, Interspeech), most of which depend neither on the speaker's voice
nor on the recording's level. Made to be joined to ``functionals``, which say where contours lie.
"""

from __future__ import annotations

import numpy as np

from p2pser.config import FeatureSettings
from p2pser.features import contours
from p2pser.features.contours import SHAPE, Array
from p2pser.features.functionals import hear

CEPSTRUM = 14
"""Cepstral coefficients whose contours are looked at, at most."""

LEVELS = (25, 50, 75, 90)
"""Parts of a contour's range [%], above which it is for a share of the time."""

STATISTICS = (*(f"above{level}" for level in LEVELS), "rising", "curve", "error", "early", "late")
"""Shares of time above each part of the range and rising; the quadratic term and the deviation from a regression line;
the mean of the first and of the last third, less the whole's.
"""


def _contours(settings: FeatureSettings) -> list[str]:
    return ["rms", "loudness", *SHAPE, *(f"mfcc{k}" for k in range(min(CEPSTRUM, settings.n_mfcc)))]


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the vector's entries: all contours of the first statistic, and so on."""
    return [f"dynamics.{contour}.{statistic}" for statistic in STATISTICS for contour in _contours(settings)]


def shape(settings: FeatureSettings) -> tuple[int]:
    """Return the shape of the vector: (D,)."""
    return (len(names(settings)),)


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


def compute(signal: Array, settings: FeatureSettings) -> Array:
    """Return the vector (D,) float32, finite, of a signal (samples,) at ``settings.sample_rate``."""
    heard = hear(signal, settings)
    spectral, _ = contours.spectral_shape(heard.frames, heard.power, heard.filters)
    cepstrum = heard.filters.dct[:CEPSTRUM] @ heard.mel
    values = np.concatenate([np.stack([heard.rms, heard.loudness()]), spectral, cepstrum])
    padded = np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    vector = statistics(smooth[:, heard.active]).ravel()
    return np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
