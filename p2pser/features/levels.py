"""Trimming of silence, cutting and scaling to a level, before features are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pser.config import FeatureSettings

Array = NDArray[np.float32]

FRAME, HOP = 0.040, 0.010
"""Frame and hop of the loudness that trimming compares [s]."""

SHORTEST = 0.1
"""Shortest result of trimming [s], around the clip's loudest frame."""


def trimmed(signal: Array, sample_rate: int, below: float) -> Array:
    """Return the signal (samples,) from its first to its last frame that is within ``below`` dB of its loudest."""
    hop = round(HOP * sample_rate)
    length = round(FRAME * sample_rate)
    padded = np.pad(signal, length // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    power = np.einsum("tn,tn->t", frames, frames)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-below / 10))
    start, stop = int(loud[0]) * hop, min(signal.size, (int(loud[-1]) + 1) * hop)
    missing = round(SHORTEST * sample_rate) - (stop - start)
    if missing > 0:
        start = max(0, min(start - missing // 2, signal.size - round(SHORTEST * sample_rate)))
        stop = start + round(SHORTEST * sample_rate)
    return signal[start:stop]


def middle(signal: Array, length: int) -> Array:
    """Return the middle of a signal (samples,): at most ``length`` samples."""
    start = max(0, (signal.size - length) // 2)
    return signal[start : start + length]


def prepared(signal: Array, settings: FeatureSettings) -> Array:
    """Return the signal (samples,), full scale 1, trimmed by ``settings.trim`` and scaled to ``settings.level``.

    An RMS level is that of the trimmed signal; its peaks may exceed full scale, which changes no feature.
    """
    if settings.trim is not None:
        signal = trimmed(signal, settings.sample_rate, settings.trim)
    if settings.level == "none":
        return signal
    if settings.level == "peak":
        size, wanted = float(np.abs(signal).max()), 1.0
    else:
        size = float(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))
        wanted = float(10 ** (settings.level / 20))
    return signal * np.float32(wanted / size) if size > 0 else signal
