"""Whether a recording holds speech: a gate of four measurements, before any model is asked.

Speech is voiced in part, its spectrum changes many times a second, no part of it repeats after a tenth of a second as a
held note does, and its power is not in two lines as that of signalling tones is. Whispers have no voice, and singing
passes. The bounds were set by recordings of EMO-DB and RAVDESS (also with white noise 10 dB below, and in the band of
a telephone) and by synthesised sounds; docs/results.md has the rates.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME, HOP = 0.064, 0.020
"""Frame and hop of the spectra [s]."""

BLOCK = 10.0
"""Length of the parts in which a recording is searched for speech [s]."""

SHORTEST = 0.25
"""The shortest recording in which speech can be told from other sounds [s]."""

LOWEST, HIGHEST = 80.0, 4000.0
"""The band that is looked at [Hz]; a telephone passes most of it."""

VOICED_BELOW = 1500.0
"""The band in which the period of a voice is sought ends here [Hz]."""

LOWEST_PITCH, HIGHEST_PITCH = 70.0, 450.0
"""The pitch of voices [Hz]."""

ACTIVE = 30.0
"""A frame counts where it is at most this far below the loudest [dB]."""

PERIODIC = 0.7
"""A frame is voiced where its normalised autocorrelation at the period is above this."""

LEAST_VOICED = 0.1
"""Speech is voiced for this long [s]; shorter recordings, for a sixth of their length."""

LEAST_CHANGE = 2.5
"""The level of a band of speech varies by more than this standard deviation [dB], in the median of the bands heard."""

LARGEST_LIKENESS = 0.95
"""Half of the spectra of speech resemble those of 0.1 s later less than this (cosine)."""

SURELY_VOICED, SURELY_CHANGES, SURELY_NOISY = 0.3, 0.85, 0.15
"""A level that changes less is that of speech all the same where so large a share of it is voiced, its spectra resemble
those of 0.1 s later less than this, and one frame in twenty has less than this share of its power in its two strongest
lines, as a consonant has. Synthetic voices with a hiss are so."""

ONLY_LINES = 0.72, 0.96
"""A sound has no consonants where the share of its two strongest lines is above the first in 19 frames in 20, and below
the second in three quarters: animals' cries, signals, sweeps. High voices of one strong line have more."""

LARGEST_LINES, LEAST_LINES = 0.999, 0.2
"""In three quarters of the frames of speech the two strongest lines have less than the first share of the power; of
notes, in a quarter, they have more than the second, of clicks less."""

BANDS, LATER, CLIPPED, HEARD = 12, 5, 1e-5, 35.0
"""Bands whose levels are compared, frames in 0.1 s, the least share of the strongest band's power that a level counts
as, and how far below it a band may be to be heard [dB]."""

TOO_SHORT = f"it is shorter than {SHORTEST:g} s, too short to tell speech from other sounds"
NO_VOICE = "no voice: noise, clicks or whispering"
STEADY = "a steady sound, such as a tone, a hum or noise"
MUSIC = "held notes, as of music or a signal"
TONES = "pure tones, as of a signal"

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Measurements:
    """voiced, length [s]; change [dB]; likeness, the median over the active frames; lines, their upper quartile;
    fewest, the share that 19 frames in 20 exceed.
    """

    voiced: float
    length: float
    change: float
    likeness: float
    lines: float
    fewest: float = 0.0


def no_speech(signal: Array, rate: int) -> str | None:
    """Return why a signal (samples,) at ``rate`` [Hz] holds no speech, in words; None where it does."""
    if len(signal) < SHORTEST * rate:
        return TOO_SHORT
    size = round(BLOCK * rate)
    parts = [signal[start:start + size] for start in range(0, len(signal), size)]
    parts = [part for part in parts if len(part) >= SHORTEST * rate]
    reason = None
    for part in sorted(parts, key=lambda part: -float(np.var(part))):
        here = _reason(measured(part, rate))
        if here is None:
            return None
        reason = reason or here  # that of the loudest part
    return reason


def _reason(clip: Measurements) -> str | None:
    moves = clip.change > LEAST_CHANGE and clip.likeness < LARGEST_LIKENESS
    if clip.lines > LARGEST_LINES or (moves and ONLY_LINES[0] < clip.fewest and clip.lines < ONLY_LINES[1]):
        return TONES
    if clip.change < LEAST_CHANGE and not (clip.voiced > SURELY_VOICED * clip.length
                                           and clip.likeness < SURELY_CHANGES and clip.fewest < SURELY_NOISY):
        return STEADY
    if clip.likeness > LARGEST_LIKENESS and clip.lines > LEAST_LINES:
        return MUSIC
    return NO_VOICE if clip.voiced < min(LEAST_VOICED, clip.length / 6) else None


def measured(signal: Array, rate: int) -> Measurements:
    """Return what the gate measures of a signal (samples,), at least a frame long, at ``rate`` [Hz]."""
    width, hop = round(FRAME * rate), round(HOP * rate)
    window = np.hanning(width).astype(np.float32)
    centred = np.asarray(signal - np.mean(signal), dtype=np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(centred, width)[::hop] * window
    size = 1 << (2 * width - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, size, axis=1)) ** 2
    places = np.fft.rfftfreq(size, 1 / rate)
    heard = power[:, (places >= LOWEST) & (places <= HIGHEST)]
    level = 10 * np.log10(heard.sum(axis=1) + 1e-20)
    active = np.flatnonzero(level > np.percentile(level, 98) - ACTIVE)
    if not len(active):
        return Measurements(0.0, len(signal) / rate, 0.0, 0.0, 0.0)
    periodic = _periodicity(np.where((places >= LOWEST) & (places <= VOICED_BELOW), power, 0), window, rate)
    later = active[np.isin(active + LATER, active)]
    lines = _lines(heard[active], int(np.ceil(3 * size / width)))
    return Measurements(
        voiced=float((periodic[active] > PERIODIC).sum() * HOP), length=len(signal) / rate,
        change=_change(power, places, active), likeness=_likeness(np.sqrt(heard), later),
        lines=float(np.percentile(lines, 75)), fewest=float(np.percentile(lines, 5)))


def _periodicity(power: Array, window: Array, rate: int) -> Array:
    """Return the highest peak of each frame's autocorrelation among the periods of voices, that of the window undone.
    """
    width, size = len(window), 2 * (power.shape[1] - 1)
    correlation = np.fft.irfft(power, axis=1)[:, :width]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[:width]
    correlation = correlation / (correlation[:, :1] + 1e-30) / np.maximum(own / own[0], 0.2)
    near = correlation[:, int(rate / HIGHEST_PITCH) - 1: int(rate / LOWEST_PITCH) + 1]
    middle = near[:, 1:-1]
    peaks: Array = np.where((middle > near[:, :-2]) & (middle >= near[:, 2:]), middle, 0).max(axis=1)
    return peaks


def _change(power: Array, places: Array, active: NDArray[np.int64]) -> float:
    """Return the standard deviation of a band's level over the active frames [dB], in the median of the bands."""
    edges = np.geomspace(100, HIGHEST, BANDS + 1)
    bands = np.stack([power[:, (places >= low) & (places < high)].sum(axis=1)
                      for low, high in itertools.pairwise(edges)], axis=1)
    levels = 10 * np.log10(bands + CLIPPED * bands.max() + 1e-20)[active]
    heard = levels.max(axis=0) > levels.max() - HEARD
    return float(np.median(levels[:, heard].std(axis=0)))


def _likeness(spectra: Array, frames: NDArray[np.int64]) -> float:
    """Return the cosine between the spectra of these frames and those of 0.1 s later, the median; 0 where none is."""
    if not len(frames):
        return 0.0
    now, then = spectra[frames], spectra[frames + LATER]
    lengths = np.sqrt((now * now).sum(axis=1) * (then * then).sum(axis=1)) + 1e-30
    return float(np.median((now * then).sum(axis=1) / lengths))


def _lines(power: Array, reach: int) -> Array:
    """Return the share of each frame's power that is within ``reach`` places of its two strongest lines."""
    rest, rows, share = power.copy(), np.arange(len(power)), np.zeros(len(power))
    for _ in range(2):
        peaks = rest.argmax(axis=1)
        for offset in range(-reach, reach + 1):
            at = np.clip(peaks + offset, 0, power.shape[1] - 1)
            share += rest[rows, at]
            rest[rows, at] = 0
    return np.asarray(share / (power.sum(axis=1) + 1e-30))
