"""Windows, filter banks and the cosine transform.

The banks are librosa's. Importing librosa takes a second and 100 MB (numba), so the banks are kept in the cache folder:
librosa is imported once for each setting and machine, not in every peer.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from p2pser.base.atomic import new_file
from p2pser.base.paths import cache_folder, keep_compiled_code

Array = NDArray[np.float32]

VERSION = 1
"""Version of the banks: raise it when the arguments of librosa's functions change."""


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

    def compute() -> Array:
        keep_compiled_code()
        import librosa.filters

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a band that is too narrow to hold a bin is constant
            bank = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=bands, fmin=lowest)
        return np.asarray(bank, dtype=np.float32)

    return _cached(f"mel-{sample_rate}-{n_fft}-{bands}-{lowest:g}", (bands, n_fft // 2 + 1), compute)


@lru_cache(maxsize=8)
def chroma(sample_rate: int, n_fft: int) -> Array:
    """Return librosa's chroma bank (12, n_fft/2 + 1), tuned to A = 440 Hz."""

    def compute() -> Array:
        keep_compiled_code()
        import librosa.filters

        return np.asarray(librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, tuning=0.0), dtype=np.float32)

    return _cached(f"chroma-{sample_rate}-{n_fft}", (12, n_fft // 2 + 1), compute)


def _cached(name: str, shape: tuple[int, int], compute: Callable[[], Array]) -> Array:
    """Return the bank of this name from the cache, or compute it and write it there."""
    path = cache_folder() / "filters" / f"{name}-v{VERSION}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError), path.open("rb") as file:
        cached = np.load(file, allow_pickle=False)
        if isinstance(cached, np.ndarray) and cached.dtype == np.float32 and cached.shape == shape:
            return cached
    bank = compute()
    with contextlib.suppress(OSError), new_file(path, durable=False) as file:
        np.save(file, bank, allow_pickle=False)
    return bank
