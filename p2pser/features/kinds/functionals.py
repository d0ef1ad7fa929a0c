"""One vector a clip: statistics over contours of its spectrum, cepstrum, pitch, energy and voice.

The choice of contours and statistics follows ComParE (Schuller et al. 2013, Interspeech) and eGeMAPS (Eyben
et al. 2016, IEEE Trans. Affective Computing 7(2)) in spirit, not in detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from p2pser.base.registries import FEATURES
from p2pser.features import contours
from p2pser.features.contours import CONTRAST_BANDS, FLOOR, HOP, SHAPE, delta
from p2pser.features.kind import Array, FeatureKind
from p2pser.features.spectra import Spectra, spectra

FULL = ("mean", "std", "p5", "p25", "p50", "p75", "p95", "skew", "kurtosis", "slope")
STEADY = ("mean", "std", "p5", "p50", "p95", "skew", "slope")
CEPSTRAL = ("mean", "std", "p5", "p95", "skew", "slope")
SPREAD = ("mean", "std")
CHANGE = ("absmean", "p5", "p95")


@dataclass(frozen=True)
class Group:
    """Contours of one kind and the statistics taken of each, over the ``frames`` (active or voiced)."""

    name: str
    contours: tuple[str, ...]
    statistics: tuple[str, ...]
    frames: str = "active"

    def names(self) -> list[str]:
        """Return the names of the entries, in their order: all contours of the first statistic, and so on."""
        pairs = ((statistic, contour) for statistic in self.statistics for contour in self.contours)
        return [f"{self.name}.{contour}.{statistic}" for statistic, contour in pairs]


VOICE = ("f0", "harmonicity", "jitter", "shimmer", "h1_h2", "f1", "f2", "f3", "f1_level", "f2_level",
         "f3_level")
MODULATION = (0.5, 1.5, 2.5, 4.0, 6.0, 9.0, 14.0, 22.0)
"""Edges of the bands in which the movement of loudness is measured [Hz]."""
REGIONS = 5
TEMPO = ("log_seconds", "active_share", "voiced_share", "voiced_rate", "voiced_mean", "voiced_std",
         "pause_rate", "pause_mean", "pause_longest", "peak_rate", "peak_spread", "f0_range", "f0_rise",
         "f0_fall", "f0_final", "energy_rise", "energy_fall", "energy_first_half")


@lru_cache(maxsize=16)
def _groups(n_mfcc: int, n_mels: int) -> tuple[Group, ...]:
    cepstrum = tuple(str(k) for k in range(n_mfcc))
    bands = tuple(str(k) for k in range((n_mels + 1) // 2))
    pitch_classes = tuple(str(k) for k in range(12))
    contrasts = tuple(str(k) for k in range(CONTRAST_BANDS))
    movements = tuple(f"{low}_{high}Hz" for low, high in pairwise(MODULATION))
    return (
        Group("mfcc", cepstrum, CEPSTRAL),
        Group("mfcc_delta", cepstrum, CHANGE),
        Group("mel", bands, SPREAD),
        Group("mel_delta", bands, ("absmean",)),
        Group("chroma", pitch_classes, SPREAD),
        Group("contrast", contrasts, SPREAD),
        Group("shape", SHAPE, STEADY),
        Group("shape_delta", SHAPE, ("absmean", "std", "p95")),
        Group("energy", ("rms", "loudness"), FULL),
        Group("energy_delta", ("rms", "loudness"), ("absmean", "std", "p5", "p95")),
        Group("voice", VOICE, STEADY, "voiced"),
        Group("voice_delta", VOICE, ("absmean", "std", "p5", "p95"), "voiced"),
        Group("modulation", movements, ("loudness", *(f"region{k}" for k in range(REGIONS)))),
        Group("tempo", TEMPO, ("value",)),
    )


# -- statistics ----------------------------------------------------------------------------------------------


def _take(values: Array, wanted: tuple[str, ...]) -> list[Array]:
    """Return each statistic of contours (L, T) as a row (L,). T is at least 1."""
    count = values.shape[1]
    ranks = any(name[0] == "p" and name[1:].isdigit() for name in wanted)
    ordered = np.sort(values, axis=1) if ranks else values
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    square = centred * centred
    variance = square.mean(axis=1)
    deviation = np.sqrt(variance)
    # A contour that does not move has no shape.
    safe = np.where(deviation > 1e-5 * (np.abs(mean) + 1e-3), deviation, np.inf)
    rows: list[Array] = []
    for name in wanted:
        if name == "mean":
            rows.append(mean)
        elif name == "absmean":
            rows.append(np.abs(values).mean(axis=1))
        elif name == "std":
            rows.append(deviation)
        elif name == "skew":
            rows.append((square * centred).mean(axis=1) / safe**3)
        elif name == "kurtosis":
            rows.append(np.where(np.isfinite(safe), (square * square).mean(axis=1) / safe**4 - 3, 0))
        elif name == "slope":
            ramp = np.linspace(-1, 1, count, dtype=np.float32) if count > 1 else np.zeros(1, np.float32)
            rows.append(centred @ ramp / max(float(ramp @ ramp), 1.0))
        else:
            place = int(name[1:]) / 100 * (count - 1)
            low = int(place)
            high = min(low + 1, count - 1)
            rows.append(ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low]))
    return rows


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return (edges[1::2] - edges[::2]).astype(np.int64)


def _tempo(loudness: Array, active: NDArray[np.bool_], voiced: NDArray[np.bool_], f0: Array) -> list[float]:
    """Return the values of ``TEMPO``: rates per second, lengths in seconds, pitch in semitones."""
    seconds = loudness.size * HOP
    first, last = np.flatnonzero(active)[[0, -1]]
    spoken = max(float(last - first + 1) * HOP, HOP)
    voiced_runs = _runs(voiced) * HOP
    pauses = _runs(~active[first : last + 1]) * HOP
    pauses = pauses[pauses >= 0.03]
    kernel = np.hanning(11)[1:-1]
    smooth = np.convolve(loudness, kernel / kernel.sum(), "same")
    peaks = np.flatnonzero((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & active[1:-1]) + 1
    gaps = np.diff(peaks) * HOP
    moves = np.diff(f0)[voiced[1:] & voiced[:-1]]
    pitch = f0[voiced]
    swing = delta(loudness)[active]
    tail = max(1, pitch.size // 5)
    half = active[first : last + 1]
    part = loudness[first : last + 1]
    middle = max(1, half.size // 2)
    return [
        float(np.log(seconds)), float(active.mean()), float(voiced.mean()), voiced_runs.size / spoken,
        float(voiced_runs.mean()), float(voiced_runs.std()), pauses.size / spoken,
        float(pauses.mean()) if pauses.size else 0.0, float(pauses.max()) if pauses.size else 0.0,
        peaks.size / spoken, float(gaps.std()) if gaps.size > 1 else 0.0,
        float(np.quantile(pitch, 0.95) - np.quantile(pitch, 0.05)),
        float(np.maximum(moves, 0).mean()) if moves.size else 0.0,
        float(np.minimum(moves, 0).mean()) if moves.size else 0.0,
        float(pitch[-tail:].mean() - pitch.mean()),
        float(np.maximum(swing, 0).mean()), float(np.minimum(swing, 0).mean()),
        float(part[:middle].mean() - part.mean()),
    ]


def _modulation(values: Array) -> Array:
    """Return (L, bands): log share of each contour's movement in the bands of ``MODULATION``."""
    count = values.shape[1]
    n_fft = max(256, 1 << (count - 1).bit_length())
    taper = np.hanning(count + 2)[1:-1].astype(np.float32)
    moves = values - values.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(moves * taper, n_fft)) ** 2 / float(taper @ taper)
    hertz = np.fft.rfftfreq(n_fft, HOP)
    edges = np.searchsorted(hertz, MODULATION)
    bands = [spectrum[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(edges)]
    result: Array = np.log(np.stack(bands, axis=1) + 1e-3).astype(np.float32)
    return result


# -- the vector ----------------------------------------------------------------------------------------------


@FEATURES.register("functionals")
@dataclass(frozen=True, kw_only=True)
class Functionals(FeatureKind):
    """Statistics over contours of spectrum, cepstrum, pitch, energy and voice."""

    version = 2

    n_mels: int
    n_mfcc: int

    def compute(self, signal: Array) -> Array:
        """Return the vector (D,) float32 of a signal (samples,).

        Every entry is finite, whatever the signal; units are dB, Hz, semitones above 27.5 Hz, seconds and shares.
        """
        clip = spectra(signal, self.sample_rate, self.n_mels, self.n_mfcc)
        pitch, voicing = contours.pitch(clip.power, clip.filters, self.sample_rate)
        voiced = voiced_frames(clip.active, voicing)
        f0 = 12 * np.log2(pitch / 27.5)
        curves = contours_of(clip, pitch, f0, voicing, self.sample_rate)
        frames = {"active": clip.active, "voiced": voiced}
        parts: list[Array] = []
        for group in _groups(self.n_mfcc, self.n_mels):
            if group.name == "modulation":
                regions = np.stack([part.mean(axis=0) for part in np.array_split(clip.mel, REGIONS)])
                parts.extend(_modulation(np.concatenate([curves["energy"][1:], regions])))
            elif group.name == "tempo":
                parts.append(np.asarray(_tempo(curves["energy"][1], clip.active, voiced, f0), dtype=np.float32))
            else:
                contour = curves[group.name.removesuffix("_delta")]
                moving = delta(contour) if group.name.endswith("_delta") else contour
                parts.extend(_take(moving[:, frames[group.frames]], group.statistics))
        vector = np.concatenate(parts).astype(np.float32)
        return np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0)

    def names(self) -> list[str]:
        """Return the names of the entries: ``group.contour.statistic``."""
        return list(_names(self.n_mfcc, self.n_mels))


@lru_cache(maxsize=16)
def _names(n_mfcc: int, n_mels: int) -> tuple[str, ...]:
    return tuple(name for group in _groups(n_mfcc, n_mels) for name in group.names())


def voiced_frames(active: NDArray[np.bool_], voicing: Array) -> NDArray[np.bool_]:
    """Return which frames are voiced, at least three of three or more, given which are loud and how periodic each is.

    In a whisper the frames nearest to a voice stand for it, so that nothing is undefined.
    """
    voiced = active & (voicing > 0.5)
    if voiced.sum() < 3:
        voiced = np.zeros_like(active)
        voiced[np.argsort(voicing, kind="stable")[-min(3, voicing.size) :]] = True
    return voiced


def contours_of(clip: Spectra, pitch: Array, f0: Array, voicing: Array, sample_rate: int) -> dict[str, Array]:
    """Return the contours (L, T) of each group that is not named for their differences.

    Parameters
    ----------
    clip : the spectra.
    pitch : (T,) [Hz].
    f0 : the same (T,) [semitones above 27.5 Hz].
    voicing : (T,), from 0 to 1.
    sample_rate : of the signal [Hz].
    """
    filters, power = clip.filters, clip.power
    chroma = power @ filters.chroma.T
    chroma /= np.maximum(chroma.max(axis=1, keepdims=True), FLOOR)
    spectral, contrast = contours.spectral_shape(clip.frames, power, filters)
    rows = np.arange(len(pitch))
    harmonics = [power[rows, np.minimum(np.rint(pitch * k * filters.n_fft / sample_rate).astype(int),
                                        power.shape[1] - 1)] for k in (1, 2)]
    clear = np.clip(voicing, 1e-3, 0.999)
    voice = np.stack([
        f0, 10 * np.log10(clear / (1 - clear)),
        contours.perturbation(np.asarray(1 / pitch), True), contours.perturbation(clip.rms, False),
        10 * np.log10((harmonics[0] + FLOOR) / (harmonics[1] + FLOOR)),
        *contours.resonances(power, filters, sample_rate),
    ]).astype(np.float32)
    pairs = np.stack([clip.mel[k : k + 2].mean(axis=0) for k in range(0, len(clip.mel), 2)])
    return {
        "mfcc": filters.dct @ clip.mel, "mel": pairs, "chroma": chroma.T, "contrast": contrast, "shape": spectral,
        "energy": np.stack([clip.rms, clip.loudness()]).astype(np.float32), "voice": voice,
    }
