"""Windows and filter banks for short-time spectra: float32, equal to librosa's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LINEAR_TO = 1000.0
"""Slaney's mel scale is linear up to this frequency [Hz], and logarithmic above."""

MELS_PER_HERTZ = 3 / 200
MELS_PER_LOG = 27 / np.log(6.4)
"""Mels for each unit of the natural logarithm of the frequency, above ``LINEAR_TO``."""

MIDDLE_OCTAVE, OCTAVES = 5.0, 2.0
"""Where the chroma bank is largest, in octaves above A = 27.5 Hz, and the width of this Gaussian."""

A_TO_C = 3
"""The pitch classes from A to C."""


def hann(length: int) -> Array:
    """Return the periodic Hann window (length,)."""
    return np.asarray(np.hanning(length + 1)[:-1], dtype=np.float32)


@lru_cache(maxsize=8)
def cosine(bands: int, coefficients: int) -> Array:
    """Return the orthonormal DCT-II (coefficients, bands), as librosa's MFCC use it."""
    rank, band = np.arange(coefficients)[:, None], np.arange(bands)
    matrix = np.sqrt(2 / bands) * np.cos(np.pi * rank * (2 * band + 1) / (2 * bands))
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, dtype=np.float32)


@lru_cache(maxsize=8)
def mel(sample_rate: int, n_fft: int, bands: int, lowest: float = 0.0) -> Array:
    """Return a mel bank (bands, n_fft/2 + 1): triangles of equal area on Slaney's scale (Auditory Toolbox, 1998), from
    ``lowest`` [Hz] to half the sampling rate. A band that is too narrow to hold a bin is 0.
    """
    bend = LINEAR_TO * MELS_PER_HERTZ

    def to_mels(hertz: float) -> float:
        return hertz * MELS_PER_HERTZ if hertz < LINEAR_TO else bend + np.log(hertz / LINEAR_TO) * MELS_PER_LOG

    mels = np.linspace(to_mels(lowest), to_mels(sample_rate / 2), bands + 2)
    corners = np.where(mels < bend, mels / MELS_PER_HERTZ, LINEAR_TO * np.exp((mels - bend) / MELS_PER_LOG))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    triangles = np.maximum(0, np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    return np.asarray(triangles.astype(np.float32) * (2 / (high - low)), dtype=np.float32)


@lru_cache(maxsize=8)
def chroma(sample_rate: int, n_fft: int) -> Array:
    """Return a chroma bank (12, n_fft/2 + 1) from C, tuned to A = 440 Hz: each bin's share of every pitch class, a
    Gaussian of the distance in semitones (Ellis 2007), of unit norm, and less in very low and very high octaves.
    """
    hertz = np.arange(1, n_fft) * (sample_rate / n_fft)
    semitones = 12 * np.log2(hertz / (440 / 16))
    # The bin of 0 Hz has no pitch: it is put an octave and a half below the first.
    semitones = np.concatenate([semitones[:1] - 18, semitones])
    width = np.append(np.maximum(np.diff(semitones), 1), 1)
    distance = np.remainder(semitones - np.arange(12)[:, None] + 6 + 120, 12) - 6
    shares = np.exp(-0.5 * (2 * distance / width) ** 2)
    shares /= np.sqrt((shares**2).sum(axis=0))
    shares *= np.exp(-0.5 * ((semitones / 12 - MIDDLE_OCTAVE) / OCTAVES) ** 2)
    return np.asarray(np.roll(shares, -A_TO_C, axis=0)[:, : n_fft // 2 + 1], dtype=np.float32)
