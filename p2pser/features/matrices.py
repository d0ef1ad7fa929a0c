"""Features that are bands by frames: log-mel spectra, cepstra with their differences, pitch classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pser.config import FeatureSettings
from p2pser.features import filters
from p2pser.features.contours import delta

Array = NDArray[np.float32]

WINDOW = 0.025
"""Length of a frame [s]; of pitch classes, which need the resolution in frequency, four times this."""

FLOOR = 1e-10
"""Power below which a logarithm is cut (full scale is 1)."""

RANGE = 80.0
"""Nothing is further below a clip's loudest band [dB]: silence around a clip is not a hole 100 dB deep."""


def frames(settings: FeatureSettings) -> int:
    """Return the number of frames of a matrix: one every ``hop`` of ``seconds``."""
    return max(1, round(settings.seconds / settings.hop))


def _bands(signal: Array, kind: str, settings: FeatureSettings) -> Array:
    """Return the power (bands, frames) in the mel bands or pitch classes."""
    window = filters.hann(round((WINDOW if kind == "mel" else 4 * WINDOW) * settings.sample_rate))
    n_fft = 1 << (window.size - 1).bit_length()
    if kind == "mel":
        bank = filters.mel(settings.sample_rate, n_fft, settings.n_mels)
    else:
        bank = filters.chroma(settings.sample_rate, n_fft)
    hop = round(settings.hop * settings.sample_rate)
    padded = np.pad(signal, (window.size // 2, window.size - window.size // 2 + hop))
    seen = np.lib.stride_tricks.sliding_window_view(padded, window.size)[::hop][: frames(settings)]
    spectrum = np.fft.rfft(seen * window, n_fft)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return np.asarray(bank @ power.T, dtype=np.float32)


def _cut(signal: Array, settings: FeatureSettings) -> Array:
    """Return ``seconds`` of the signal: its middle, or the whole in the middle of silence."""
    wanted = round(settings.seconds * settings.sample_rate)
    if signal.size >= wanted:
        start = (signal.size - wanted) // 2
        return signal[start : start + wanted]
    before = (wanted - signal.size) // 2
    return np.pad(signal, (before, wanted - signal.size - before))


def compute(signal: Array, settings: FeatureSettings) -> Array:
    """Return the matrix (bands, frames) float32 of a signal (samples,), of the settings' one kind.

    ``logmel``: n_mels bands in dB; ``mfcc``: n_mfcc coefficients, then their first and second differences (as many
    as ``deltas``); ``chroma``: 12 pitch classes, each frame's largest 1.
    """
    samples = _cut(signal, settings)
    if settings.kind == "chroma":
        power = _bands(samples, "chroma", settings)
        return np.asarray(power / np.maximum(power.max(axis=0, keepdims=True), FLOOR))
    mel: Array = 10 * np.log10(_bands(samples, "mel", settings) + FLOOR)
    mel = np.maximum(mel, mel.max() - RANGE)
    if settings.kind == "logmel":
        return mel
    parts = [filters.cosine(settings.n_mels, settings.n_mfcc) @ mel]
    for _ in range(settings.deltas):
        parts.append(delta(parts[-1]))
    return np.concatenate(parts).astype(np.float32)


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the matrix's bands."""
    if settings.kind == "mfcc":
        parts = ("mfcc", "mfcc_delta", "mfcc_delta2")[: settings.deltas + 1]
        return [f"{part}.{k}" for part in parts for k in range(settings.n_mfcc)]
    return [f"{settings.kind}.{k}" for k in range(settings.n_mels if settings.kind == "logmel" else 12)]


def shape(settings: FeatureSettings) -> tuple[int, int]:
    """Return the shape of the matrix: (bands, frames)."""
    return len(names(settings)), frames(settings)
