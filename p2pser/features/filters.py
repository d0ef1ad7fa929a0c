"""Windows, filter banks and the cosine transform that features are made with.

The banks are librosa's. Importing librosa takes a second and 100 MB (numba), so what it gives is kept in the
cache folder: it is imported once a setting and machine, not in every peer.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from p2pser.base.atomic import new_file
from p2pser.base.paths import cache_folder

Array = NDArray[np.float32]

VERSION = 1
"""Version of the banks: raise it when librosa is asked for others."""


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
    """Return librosa's mel bank (bands, n_fft/2 + 1): Slaney's scale and areas, from ``lowest`` [Hz]."""

    def make() -> Array:
        import librosa.filters

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a band too narrow to hold a bin stays constant
            bank = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=bands, fmin=lowest)
        return np.asarray(bank, dtype=np.float32)

    return _kept(f"mel-{sample_rate}-{n_fft}-{bands}-{lowest:g}", (bands, n_fft // 2 + 1), make)


@lru_cache(maxsize=8)
def chroma(sample_rate: int, n_fft: int) -> Array:
    """Return librosa's chroma bank (12, n_fft/2 + 1), tuned to A = 440 Hz."""

    def make() -> Array:
        import librosa.filters

        return np.asarray(librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, tuning=0.0), dtype=np.float32)

    return _kept(f"chroma-{sample_rate}-{n_fft}", (12, n_fft // 2 + 1), make)


def _kept(name: str, shape: tuple[int, int], make: Callable[[], Array]) -> Array:
    """Return the bank that is kept under this name, or make and keep it."""
    path = cache_folder() / "filters" / f"{name}-v{VERSION}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError), path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == shape:
            return found
    bank = make()
    with contextlib.suppress(OSError), new_file(path, durable=False) as file:
        np.save(file, bank, allow_pickle=False)
    return bank
