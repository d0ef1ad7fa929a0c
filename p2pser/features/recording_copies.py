"""Varied copies of recordings: faster or slower, higher or lower, louder or softer, in noise.

Speed is resampling (Ko et al. 2015, Interspeech), pitch a phase vocoder's (librosa). What is done to a copy is a
function of (seed, content of the recording, copy), so each is computed once and kept in the feature cache, equal on
every machine that holds the recording.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.config import AugmentSettings

Array = NDArray[np.float32]

SNR_RANGE = 20.0
"""A copy's signal-to-noise ratio is drawn from ``augment.snr`` to this much more [dB]."""

VERSION = 1
"""Version of what is done to a copy: raise it when any copy changes."""


@dataclass(frozen=True)
class Variant:
    """Copy number ``copy`` (from 1 on) of recordings, as the settings vary them."""

    settings: AugmentSettings
    copy: int

    def key(self) -> str:
        """Return what tells these copies' features from others in the cache."""
        text = json.dumps([VERSION, self.settings.recordings, self.settings.seed, self.copy], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def __call__(self, signal: Array, sample_rate: int, digest: str) -> Array:
        """Return the copy of a signal (samples,) of the recording whose content has this digest."""
        chosen = self.settings
        draws = seeding.generator(chosen.seed, f"copy of {digest}", round=self.copy)
        # All are drawn, wanted or not: a setting changes what it is about and nothing else.
        speed, pitch, gain, ratio = draws.uniform(-1, 1, 4)
        if chosen.speed:
            import soxr

            signal = soxr.resample(signal, sample_rate * (1 + chosen.speed * speed), sample_rate, quality="HQ")
        if chosen.pitch:
            import librosa

            signal = librosa.effects.pitch_shift(signal, sr=sample_rate, n_steps=chosen.pitch * pitch,
                                                 res_type="soxr_hq")
        if chosen.gain:
            signal = signal * np.float32(10 ** (chosen.gain * gain / 20))
        if chosen.snr is not None:
            decibels = chosen.snr + SNR_RANGE * (ratio + 1) / 2
            power = float(np.mean(signal.astype(np.float64) ** 2)) / 10 ** (decibels / 10)
            signal = signal + draws.normal(0, np.sqrt(power), signal.size).astype(np.float32)
        return np.ascontiguousarray(signal, dtype=np.float32)

    def to_json(self) -> str:
        """Return what ``from_json`` reads, on one line."""
        return json.dumps([self.settings.model_dump(mode="json"), self.copy])

    @classmethod
    def from_json(cls, text: str | bytes) -> Variant:
        """Return the variant of ``to_json``."""
        settings, copy = json.loads(text)
        return cls(AugmentSettings.model_validate(settings), int(copy))


def variants(settings: AugmentSettings) -> list[Variant]:
    """Return all the copies that the settings ask for."""
    return [Variant(settings, copy) for copy in range(1, settings.copies + 1)]
