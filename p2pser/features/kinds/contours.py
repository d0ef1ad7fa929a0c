"""The contours behind ``functionals`` as they run over time, bands by frames.

Pitch and what else is defined in a voice only goes on in a straight line from one voiced frame to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pser.base.registries import FEATURES
from p2pser.features.contours import HOP, SHAPE
from p2pser.features.contours import pitch as pitch_of
from p2pser.features.kind import Array
from p2pser.features.kinds.functionals import VOICE, contours_of, voiced_frames
from p2pser.features.matrices import MatrixKind, frames
from p2pser.features.spectra import Spectra, spectra


@FEATURES.register("contours")
@dataclass(frozen=True, kw_only=True)
class Contours(MatrixKind):
    """Contours over time: cepstrum, shape of the spectrum, energy, voicing, pitch and resonances."""

    version = 1

    n_mels: int
    n_mfcc: int

    def compute(self, signal: Array) -> Array:
        """Return the matrix (bands, frames) float32, finite, of a signal (samples,): of its middle, or of all of it
        with its first and last frame repeated.
        """
        wanted = round(self.seconds * self.sample_rate)
        cut = self._cut(signal) if signal.size >= wanted else signal
        matrix = self.bands_of(cut)
        places = np.rint(np.arange(frames(self.seconds, self.hop)) * self.hop / HOP).astype(int)
        before = max(0, (frames(self.seconds, HOP) - matrix.shape[1]) // 2)
        return matrix[:, np.clip(places - before, 0, matrix.shape[1] - 1)]

    def bands_of(self, samples: Array) -> Array:
        """Return the contours (bands, T) of samples, T frames of ``HOP``."""
        clip = spectra(samples, self.sample_rate, self.n_mels, self.n_mfcc)
        curves = running(clip, self.sample_rate)
        rows = np.concatenate([curves[name] for name in ("mfcc", "shape", "energy", "voicing", "voice")])
        return np.asarray(np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float32)

    def names(self) -> list[str]:
        """Return the names of the bands."""
        cepstrum = [f"mfcc{k}" for k in range(self.n_mfcc)]
        return [f"contours.{name}" for name in (*cepstrum, *SHAPE, "rms", "loudness", "voicing", *VOICE)]


def running(clip: Spectra, sample_rate: int) -> dict[str, Array]:
    """Return the contours (L, T) of each group of ``contours_of``, and ``voicing`` (1, T), of a clip's spectra.

    Those of ``voice`` go on in a straight line from one voiced frame to the next. sample_rate: of the signal [Hz].
    """
    pitch, voicing = pitch_of(clip.power, clip.filters, sample_rate)
    semitones = 12 * np.log2(pitch / 27.5)
    curves = contours_of(clip, pitch, semitones, voicing, sample_rate)
    places, every = np.flatnonzero(voiced_frames(clip.active, voicing)), np.arange(len(pitch))
    voice = np.stack([np.interp(every, places, curve[places]) for curve in curves["voice"]])
    return {**curves, "voicing": voicing[None], "voice": voice}
