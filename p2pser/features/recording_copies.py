"""Varied copies of recordings: faster or slower, higher or lower, louder or softer, in noise.

Speed is changed by resampling (Ko et al. 2015, Interspeech), pitch by a phase vocoder (librosa). A copy is a function
of (seed, content of the recording, number of the copy), so its features are computed once, kept in the feature cache,
and equal on every machine that holds the recording.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.paths import keep_compiled_code
from p2pser.config import AugmentSettings

Array = NDArray[np.float32]

SNR_RANGE = 20.0
"""Width of the range of a copy's signal-to-noise ratio, above ``augment.snr`` [dB]."""

VERSION = 1
"""Version of the code that makes copies: raise it when any copy changes."""


@dataclass(frozen=True)
class Variant:
    """Copy number ``copy`` (from 1 on) of recordings, varied by the settings."""

    settings: AugmentSettings
    copy: int

    def key(self) -> str:
        """Return the part of the cache key that identifies these copies."""
        text = json.dumps([VERSION, self.settings.recordings, self.settings.seed, self.copy], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def __call__(self, signal: Array, sample_rate: int, digest: str) -> Array:
        """Return the copy of a signal (samples,); ``digest`` is that of the recording's content."""
        settings = self.settings
        draws = seeding.generator(settings.seed, f"copy of {digest}", round=self.copy)
        # Every number is drawn, used or not, so that a setting does not change the draws of the others.
        speed, pitch, gain, ratio = draws.uniform(-1, 1, 4)
        if settings.speed:
            import soxr

            signal = soxr.resample(signal, sample_rate * (1 + settings.speed * speed), sample_rate, quality="HQ")
        if settings.pitch:
            keep_compiled_code()
            import librosa

            signal = librosa.effects.pitch_shift(signal, sr=sample_rate, n_steps=settings.pitch * pitch,
                                                 res_type="soxr_hq")
        if settings.gain:
            signal = signal * np.float32(10 ** (settings.gain * gain / 20))
        if settings.snr is not None:
            decibels = settings.snr + SNR_RANGE * (ratio + 1) / 2
            power = float(np.mean(signal.astype(np.float64) ** 2)) / 10 ** (decibels / 10)
            signal = signal + draws.normal(0, np.sqrt(power), signal.size).astype(np.float32)
        return np.ascontiguousarray(signal, dtype=np.float32)

    def to_json(self) -> str:
        """Return the variant as one line of JSON, for ``from_json``."""
        return json.dumps([self.settings.model_dump(mode="json"), self.copy])

    @classmethod
    def from_json(cls, text: str | bytes) -> Variant:
        """Return the variant of ``to_json``."""
        settings, copy = json.loads(text)
        return cls(AugmentSettings.model_validate(settings), int(copy))


def variants(settings: AugmentSettings) -> list[Variant]:
    """Return the variants of all copies that the settings ask for."""
    return [Variant(settings, copy) for copy in range(1, settings.copies + 1)]
