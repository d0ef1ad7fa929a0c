"""One vector a clip: how its contours move together, at once and with a delay.

Contours and copies of them that are ``LAGS`` later have one covariance over a clip's frames, whose matrix logarithm is
the vector (log-Euclidean: Arsigny et al. 2006, Magnetic Resonance in Medicine 56(2); delays: Williamson et al. 2013,
AVEC). The logarithm makes variances of all sizes comparable, and a change of level or of the mean of a contour changes
nothing. To be joined to ``functionals``, which describe the contours one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.base.registries import FEATURES
from p2pser.features.contours import HOP, SHAPE
from p2pser.features.kind import Array, FeatureKind
from p2pser.features.kinds.contours import running
from p2pser.features.kinds.functionals import VOICE
from p2pser.features.spectra import spectra

LAGS = (8, 20)
"""Delays of the copies of each contour [frames of ``HOP``]: within a syllable, and from one to the next."""

SHRUNK = 0.1
"""Share of the mean variance that is added to each: a matrix of a short clip has a logarithm too."""

LEAST = 1e-4
"""Variance that is added to each besides, in units of ``UNITS``: that of silence is not zero."""

BOTH = {"loudness": 44.0, "f0": 8.0, "harmonicity": 6.0, "h1_h2": 12.0}
UNITS = {
    "cepstrum": {"mfcc1": 48.0, "mfcc2": 30.0, "mfcc3": 24.0, "mfcc4": 22.0, "mfcc5": 16.0, "mfcc6": 15.0,
                 "mfcc7": 13.0, "mfcc8": 12.0, **BOTH},
    "shape": {"centroid": 1400.0, "rolloff25": 1200.0, "flatness": 2.0, "entropy": 0.16, "flux": 0.17,
              "slope_low": 45.0, "alpha": 10.0, "hammarberg": 13.0, **BOTH},
}
"""The contours of each of two matrices, with what each is divided by: about its standard deviation in speech."""


@FEATURES.register("covariance")
@dataclass(frozen=True, kw_only=True)
class Covariance(FeatureKind):
    """How contours move together, at once and with a delay (joined to functionals, which describe each by itself)."""

    n_mels: int
    n_mfcc: int

    def compute(self, signal: Array) -> Array:
        """Return the vector (D,) float32, finite, of a signal (samples,)."""
        clip = spectra(signal, self.sample_rate, self.n_mels, self.n_mfcc)
        curves = running(clip, self.sample_rate)
        rows = dict(zip(SHAPE, curves["shape"])) | dict(zip(VOICE, curves["voice"]))
        rows |= {f"mfcc{k}": row for k, row in enumerate(curves["mfcc"])} | {"loudness": curves["energy"][1]}
        first, last = np.flatnonzero(clip.active)[[0, -1]]
        active = clip.active[first : last + 1]
        parts = []
        for units in self._units().values():
            values = np.stack([rows[name][first : last + 1] / unit for name, unit in units.items()])
            matrix = log_covariance(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), active)
            parts.append(matrix[np.triu_indices(len(matrix))])
        return np.concatenate(parts).astype(np.float32)

    def names(self) -> list[str]:
        """Return the names of the entries: the upper triangle of each matrix, row by row."""
        names = []
        for group, units in self._units().items():
            copies = [*units, *(f"{name}@{1000 * HOP * lag:.0f}ms" for lag in LAGS for name in units)]
            names += [f"covariance.{group}.{first}.{second}" for k, first in enumerate(copies) for second in copies[k:]]
        return names

    def _units(self) -> dict[str, dict[str, float]]:
        there = {f"mfcc{k}" for k in range(self.n_mfcc)}
        return {group: {name: unit for name, unit in units.items() if name in there or not name.startswith("mfcc")}
                for group, units in UNITS.items()}


def log_covariance(values: Array, frames: NDArray[np.bool_]) -> Array:
    """Return the logarithm of the covariance (M, M), float64, of contours and their delayed copies, M = L (1 + lags).

    Parameters
    ----------
    values : contours (L, T), finite. A copy goes on with the last value where its contour has ended.
    frames : (T,) bool, which frames count; at least one.
    """
    times = np.arange(values.shape[1])
    copies = np.concatenate([values[:, np.minimum(times + lag, times[-1])] for lag in (0, *LAGS)])[:, frames]
    centred = (copies - copies.mean(axis=1, keepdims=True)).astype(np.float64)
    covariance = centred @ centred.T / centred.shape[1]
    size = len(covariance)
    covariance += (SHRUNK * np.trace(covariance) / size + LEAST) * np.eye(size)
    variances, axes = np.linalg.eigh(covariance)
    result: Array = (axes * np.log(np.maximum(variances, LEAST / 2))) @ axes.T
    return result
