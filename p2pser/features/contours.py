"""Contours of a signal over time: pitch, voice, resonances and the shape of the spectrum.

All contours come from one short-time power spectrum (40 ms Hann windows, 10 ms hop). Its inverse transform is each
frame's autocorrelation, which gives pitch and voicing (Boersma 1993, Proc. IFA 17: divided by the window's
autocorrelation); the inverse transform of its lower part gives, by Levinson's recursion, the resonances of the vocal
tract. Pitch takes two passes (De Looze & Hirst 2008, Speech Prosody): the second searches around the clip's own range,
which removes octave errors without a path search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from p2pser.features import filters as banks

Array = NDArray[np.float32]

WINDOW = 0.040
"""Length of a frame [s]: two periods of a voice at 50 Hz."""
HOP = 0.010
"""Time from one frame to the next [s]."""
F0_MIN, F0_MAX = 60.0, 600.0
"""Range of pitch [Hz]."""
FLOOR = 1e-9
"""Floor of the power under a logarithm, of a signal whose mean power is 1."""
LPC_ORDER = 12
"""Poles of the all-pole model of resonances (at 16 kHz and above: of the band to 5.5 kHz)."""

SHAPE = ("centroid", "bandwidth", "skewness", "rolloff25", "rolloff50", "rolloff85", "rolloff95", "flatness",
         "entropy", "flux", "zero_crossings", "slope_low", "slope_high", "alpha", "hammarberg", "band250_650",
         "band1k_4k")
CONTRAST_BANDS = 6
"""Octaves in which the spectrum's contrast is measured: to 200 Hz, 400 Hz, …"""


# -- filters -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filters:
    """Window, filter banks and the window's autocorrelation: they depend on the settings only."""

    window: Array
    n_fft: int
    hop: int
    frequencies: Array
    mel: Array
    dct: Array
    chroma: Array
    lags: tuple[int, int]
    window_correlation: Array


@lru_cache(maxsize=4)
def filters_for(sample_rate: int, n_mels: int, n_mfcc: int) -> Filters:
    length = round(WINDOW * sample_rate)
    longest = int(np.ceil(sample_rate / F0_MIN)) + 2
    n_fft = 1 << (length + longest - 1).bit_length()
    window = banks.hann(length)
    window /= np.sqrt(np.sum(window**2))
    correlation = np.fft.irfft(np.abs(np.fft.rfft(window, n_fft)) ** 2)[: longest + 1]
    return Filters(
        window=window,
        n_fft=n_fft,
        hop=round(HOP * sample_rate),
        frequencies=np.fft.rfftfreq(n_fft, 1 / sample_rate).astype(np.float32),
        mel=banks.mel(sample_rate, n_fft, n_mels, 20.0),
        dct=banks.cosine(n_mels, n_mfcc),
        chroma=banks.chroma(sample_rate, n_fft),
        lags=(int(sample_rate / F0_MAX), longest),
        window_correlation=(correlation / correlation[0]).astype(np.float32),
    )


# -- contours ------------------------------------------------------------------------------------------------


def power_spectra(signal: Array, filters: Filters) -> tuple[Array, Array]:
    """Return frames (T, length) of the signal, not windowed, and their power spectra (T, n_fft/2 + 1)."""
    length = filters.window.size
    padded = np.pad(signal, (length // 2, length // 2 + filters.hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[:: filters.hop]
    spectrum = np.fft.rfft(frames * filters.window, filters.n_fft)
    return frames, (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)


def delta(contours: Array) -> Array:
    """Return the slope of each contour (last axis), by regression over five frames; the edges are repeated."""
    padded = np.concatenate([contours[..., :1]] * 2 + [contours] + [contours[..., -1:]] * 2, axis=-1)
    slope = (padded[..., 3:-1] - padded[..., 1:-3] + 2 * (padded[..., 4:] - padded[..., :-4])) / 10
    return np.asarray(slope, dtype=np.float32)


def pitch(power: Array, filters: Filters, sample_rate: int) -> tuple[Array, Array]:
    """Return pitch [Hz] and voicing (from 0 to 1, the peak of the normalised autocorrelation) of each frame."""
    shortest, longest = filters.lags
    correlation = np.fft.irfft(power, filters.n_fft)[:, : longest + 1].astype(np.float32, copy=False)
    zero = np.maximum(correlation[:, :1], FLOOR)
    raw = correlation / zero / filters.window_correlation
    normal = raw.copy()
    lags = np.arange(longest + 1)
    inner = raw[:, 1:-1]
    peak = np.zeros(normal.shape, dtype=bool)
    peak[:, 1:-1] = (inner >= raw[:, :-2]) & (inner > raw[:, 2:])
    peak[:, :shortest] = False
    # Peaks of parabolas between the samples: a period of a whole number of samples has no advantage.
    curved = np.minimum(raw[:, :-2] - 2 * inner + raw[:, 2:], -1e-6)
    normal[:, 1:-1] -= np.where(peak[:, 1:-1], (raw[:, :-2] - raw[:, 2:]) ** 2 / (8 * curved), 0)
    # A small cost per octave prefers the shorter of two equally good periods (Boersma 1993, eq. 24).
    score = np.where(peak, normal - 0.02 * np.log2(np.maximum(lags, 1) / shortest), -1.0)

    def search(low: int, high: int) -> tuple[NDArray[np.intp], Array]:
        best = low + np.argmax(score[:, low:high], axis=1)
        height = np.take_along_axis(np.where(peak, normal, 0), best[:, None], 1)[:, 0]
        return best, np.clip(height, 0, 1)

    best, height = search(shortest, longest)
    sure = height > max(0.6, float(np.quantile(height, 0.6)))
    if sure.sum() >= 5:
        low, high = np.quantile(best[sure], (0.25, 0.75))
        best, height = search(max(shortest, int(low / 1.9)), min(longest, int(high * 1.5) + 2))
    # Parabola through the peak and its two neighbours.
    centre = np.clip(best, 1, longest - 1)
    rows = np.arange(len(centre))
    left, middle, right = raw[rows, centre - 1], raw[rows, centre], raw[rows, centre + 1]
    curvature = left - 2 * middle + right
    shift = np.where(curvature < -1e-6, 0.5 * (left - right) / np.minimum(curvature, -1e-6), 0.0)
    return (sample_rate / (centre + np.clip(shift, -0.5, 0.5))).astype(np.float32), height


def resonances(power: Array, filters: Filters, sample_rate: int) -> Array:
    """Return (6, T): frequencies [Hz] of three resonances and their levels [dB] above the mean envelope.

    The highest points of the envelope of an all-pole model of the band to 5.5 kHz (pre-emphasised) in the usual ranges
    of the first three formants: coarse, but it never fails.
    """
    top = int(np.searchsorted(filters.frequencies, min(5500.0, sample_rate / 2)))
    emphasis = (filters.frequencies[:top] / 1000) ** 1.2 + 0.01
    lags = np.fft.irfft(power[:, :top] * emphasis, axis=1)[:, : LPC_ORDER + 1].astype(np.float64)
    lags[:, 0] = lags[:, 0] * 1.0001 + FLOOR
    model = np.zeros((len(power), LPC_ORDER + 1))
    model[:, 0] = 1
    error = lags[:, 0].copy()
    for order in range(1, LPC_ORDER + 1):
        reflection = -np.sum(model[:, :order] * lags[:, order:0:-1], axis=1) / error
        model[:, 1 : order + 1] += reflection[:, None] * model[:, order - 1 :: -1][:, :order]
        error = np.maximum(error * (1 - reflection**2), FLOOR * 1e-3)
    points = 128
    envelope = -10 * np.log10(np.abs(np.fft.rfft(model, 2 * points)) ** 2 + FLOOR)
    axis = np.linspace(0, filters.frequencies[top - 1], points + 1)
    mean = envelope.mean(axis=1)
    frequencies, levels = [], []
    for low, high in ((250, 1000), (1000, 2500), (2300, 3700)):
        inside = np.flatnonzero((axis >= low) & (axis < high))
        if inside.size == 0:
            frequencies.append(np.zeros(len(power)))
            levels.append(np.zeros(len(power)))
            continue
        best = np.argmax(envelope[:, inside], axis=1)
        frequencies.append(axis[inside][best])
        levels.append(envelope[np.arange(len(power)), inside[best]] - mean)
    return np.asarray(frequencies + levels, dtype=np.float32)


def spectral_shape(frames: Array, power: Array, filters: Filters) -> tuple[Array, Array]:
    """Return the contours of ``SHAPE`` (len, T) and the spectral contrast (bands, T) [dB]."""
    hertz = filters.frequencies
    total = power.sum(axis=1) + FLOOR
    share = power / total[:, None]
    centroid = share @ hertz
    second = share @ hertz**2 - centroid**2
    bandwidth = np.sqrt(np.maximum(second, 1.0))
    third = share @ hertz.astype(np.float64) ** 3 - 3 * centroid * second - centroid.astype(np.float64) ** 3
    skewness = third / bandwidth.astype(np.float64) ** 3
    cumulated = np.cumsum(share, axis=1)
    rolloffs = [hertz[np.minimum((cumulated < part).sum(axis=1), hertz.size - 1)]
                for part in (0.25, 0.5, 0.85, 0.95)]
    logs = np.log(power + FLOOR)
    flatness = logs.mean(axis=1) - np.log(total / hertz.size)
    entropy = -(share * (logs - np.log(total)[:, None])).sum(axis=1) / np.log(hertz.size)
    root = np.sqrt(share)
    flux = np.concatenate([[0], np.sqrt(((root[1:] - root[:-1]) ** 2).sum(axis=1))])
    crossings = (np.signbit(frames[:, 1:]) != np.signbit(frames[:, :-1])).mean(axis=1)

    def band(low: float, high: float) -> slice:
        start, stop = np.searchsorted(hertz, (low, high))
        return slice(int(min(start, hertz.size - 2)), int(max(stop, min(start, hertz.size - 2) + 2)))

    decibels = logs * (10 / np.log(10))

    def slope(low: float, high: float) -> Array:
        part = band(low, high)
        centred = hertz[part] - hertz[part].mean()
        result: Array = decibels[:, part] @ (centred / (centred @ centred)) * 1000
        return result

    def level(low: float, high: float) -> Array:
        result: Array = 10 * np.log10(power[:, band(low, high)].sum(axis=1) + FLOOR)
        return result

    whole = 10 * np.log10(total)
    shape = np.stack([
        centroid, bandwidth, skewness, *rolloffs, flatness, entropy, flux, crossings,
        slope(0, 500), slope(500, 1500),
        level(50, 1000) - level(1000, 5000),
        decibels[:, band(0, 2000)].max(axis=1) - decibels[:, band(2000, 5000)].max(axis=1),
        level(250, 650) - whole, level(1000, 4000) - whole,
    ]).astype(np.float32)
    edges = [0.0, *(200.0 * 2**k for k in range(CONTRAST_BANDS - 1)), float(hertz[-1])]
    contrast = []
    for low, high in pairwise(edges):
        part = decibels[:, band(low, max(high, low + 100))]
        few = max(1, round(0.1 * part.shape[1]))
        ordered = np.partition(part, (few - 1, part.shape[1] - few), axis=1)
        contrast.append(ordered[:, -few:].mean(axis=1) - ordered[:, :few].mean(axis=1))
    return shape, np.stack(contrast).astype(np.float32)


def perturbation(contour: Array, relative: bool) -> Array:
    """Return the absolute second difference of a contour between frames, relative to the contour where asked for."""
    second = np.zeros(contour.shape, dtype=np.float32)
    second[1:-1] = np.abs(contour[1:-1] - (contour[:-2] + contour[2:]) / 2)
    return np.asarray(second / np.maximum(contour, 1e-6)) if relative else second
