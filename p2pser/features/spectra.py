"""The spectra of a clip that its functionals and dynamics are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.features import contours
from p2pser.features.contours import FLOOR, Array
from p2pser.features.levels import middle

LONGEST = 60.0
"""Of a longer clip the middle is used [s]: an utterance is shorter, and memory grows with the length."""


@dataclass(frozen=True)
class Spectra:
    """The frames of a signal and their spectra, T frames.

    Attributes
    ----------
    filters : window and filter banks.
    frames : (T, length), scaled to a common level.
    power : power spectra (T, bins).
    mel_power : power in mel bands (T, n_mels).
    mel : levels of the mel bands (n_mels, T) [dB of full scale].
    rms : levels of the frames (T,) [dB of full scale].
    active : (T,), which frames are louder than the background.
    """

    filters: contours.Filters
    frames: Array
    power: Array
    mel_power: Array
    mel: Array
    rms: Array
    active: NDArray[np.bool_]

    def loudness(self) -> Array:
        """Return the loudness (T,): compressed mel power, summed."""
        return np.asarray(np.log1p(self.mel_power**0.3 * 100).sum(axis=1))


def spectra(signal: Array, sample_rate: int, n_mels: int, n_mfcc: int) -> Spectra:
    """Return the spectra of a signal (samples,) at ``sample_rate`` [Hz]; of one longer than ``LONGEST``, the middle."""
    filters = contours.filters_for(sample_rate, n_mels, n_mfcc)
    signal = middle(signal, round(LONGEST * sample_rate))
    # At one level, so that the floor under logarithms is a part of the clip's power, not of full scale.
    level = max(float(np.sqrt(np.mean(signal.astype(np.float64) ** 2))), 1e-5)
    decibels = 20 * np.log10(level)
    frames, power = contours.power_spectra(signal / np.float32(level), filters)
    mel_power = power @ filters.mel.T
    mel = 10 * np.log10(mel_power + FLOOR).T + np.float32(decibels)
    rms = 10 * np.log10(np.mean(frames * frames, axis=1) + FLOOR) + np.float32(decibels)
    # Above the noise of the quietest frames, unless there is no pause to tell the noise from.
    loudest = float(rms.max())
    active = rms > max(loudest - 35.0, min(float(np.quantile(rms, 0.05)) + 1.0, loudest - 20.0))
    if active.sum() < 3:
        active = rms >= np.sort(rms)[-min(3, rms.size)]
    return Spectra(filters, frames, power, mel_power, mel, rms, active)
