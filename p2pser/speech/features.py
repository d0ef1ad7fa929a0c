"""What a model sees of a clip: ``functionals`` (one vector) or a matrix (``logmel``, ``mfcc``, ``chroma``).

Light to import: librosa, soundfile and helper processes are imported where a clip is really computed, so
a peer whose features are all cached pays for none of them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.config import FeatureSettings
from p2pser.speech import cache, filters, functionals
from p2pser.speech.contours import delta

Array = NDArray[np.float32]

WINDOW, HOP = 0.025, 0.010
"""Frame and hop of the matrices [s]."""

FLOOR = 1e-10
"""Power below which a logarithm is cut (full scale is 1)."""


def _bands(signal: Array, kind: str, settings: FeatureSettings) -> Array:
    """Return the power (bands, frames) in the mel bands or pitch classes."""
    # Pitch classes need four times the resolution in frequency.
    window = filters.hann(round((WINDOW if kind == "mel" else 4 * WINDOW) * settings.sample_rate))
    n_fft = 1 << (window.size - 1).bit_length()
    if kind == "mel":
        bank = filters.mel(settings.sample_rate, n_fft, settings.n_mels)
    else:
        bank = filters.chroma(settings.sample_rate, n_fft)
    hop = round(HOP * settings.sample_rate)
    padded = np.pad(signal, (window.size // 2, window.size - window.size // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window.size)[::hop]
    spectrum = np.fft.rfft(frames * window, n_fft)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return np.asarray(bank @ power.T, dtype=np.float32)


def frames(settings: FeatureSettings) -> int:
    """Return the number of frames of a matrix: one every 10 ms of ``seconds``."""
    return max(1, round(settings.seconds / HOP))


def _cut(signal: Array, settings: FeatureSettings) -> Array:
    """Return ``seconds`` of the signal: its middle, or the whole in the middle of silence."""
    wanted = round(settings.seconds * settings.sample_rate)
    if signal.size >= wanted:
        start = (signal.size - wanted) // 2
        return signal[start : start + wanted]
    before = (wanted - signal.size) // 2
    return np.pad(signal, (before, wanted - signal.size - before))


def compute(signal: NDArray[np.floating], settings: FeatureSettings) -> Array:
    """Return the features of one signal (samples,) mono at ``settings.sample_rate``, full scale 1.

    ``functionals``: (D,); ``logmel``: (n_mels, frames) in dB; ``mfcc``: (3 n_mfcc, frames), with first and
    second deltas; ``chroma``: (12, frames), each frame's largest 1. All float32 and finite, not normalised.
    """
    samples = np.ascontiguousarray(signal, dtype=np.float32)
    if settings.kind == "functionals":
        return functionals.functionals(samples, settings)
    samples = _cut(samples, settings)
    count = frames(settings)
    if settings.kind == "chroma":
        power = _bands(samples, "chroma", settings)[:, :count]
        return np.asarray(power / np.maximum(power.max(axis=0, keepdims=True), FLOOR))
    mel: Array = 10 * np.log10(_bands(samples, "mel", settings)[:, :count] + FLOOR)
    # Nothing below 80 dB under the clip's loudest band: silence around a clip is not a hole 100 dB deep.
    mel = np.maximum(mel, mel.max() - 80.0)
    if settings.kind == "logmel":
        return mel
    cepstrum = filters.cosine(settings.n_mels, settings.n_mfcc) @ mel
    first = delta(cepstrum)
    return np.concatenate([cepstrum, first, delta(first)]).astype(np.float32)


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the features: of the D entries of a vector, or of a matrix's bands."""
    if settings.kind == "functionals":
        return functionals.names(settings)
    if settings.kind == "mfcc":
        parts = ("mfcc", "mfcc_delta", "mfcc_delta2")
        return [f"{part}.{k}" for part in parts for k in range(settings.n_mfcc)]
    return [f"{settings.kind}.{k}" for k in range(settings.n_mels if settings.kind == "logmel" else 12)]


def shape(settings: FeatureSettings) -> tuple[int, ...]:
    """Return the shape of one clip's features: (D,) or (bands, frames)."""
    count = len(names(settings))
    return (count,) if settings.kind == "functionals" else (count, frames(settings))


# -- many clips ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extraction:
    """Features of clips, in their order, and what it took.

    ``features[k]`` is None where clip k cannot be used; ``left_out`` says why. ``computed`` clips were read
    and computed, in ``wall_s`` seconds in all; ``cached`` were found.
    """

    features: list[Array | None]
    left_out: list[tuple[Path, str]]
    computed: int
    cached: int
    wall_s: float


def extract(
    paths: Sequence[Path], settings: FeatureSettings, *, workers: int | None = None, progress: bool = False
) -> tuple[list[Array | None], list[tuple[Path, str]]]:
    """Return the features of clips, in order, and (path, reason) of those that cannot be used (None there).

    Found in the cache where they were computed before. ``workers`` processes compute the others (1: this one;
    default: one a usable core where there are many); ``progress`` shows a bar on standard error.
    """
    done = extraction(paths, settings, workers=workers, progress=progress)
    return done.features, done.left_out


def extraction(
    paths: Sequence[Path], settings: FeatureSettings, *, workers: int | None = None, progress: bool = False
) -> Extraction:
    """Do the same as ``extract`` and say what was computed and what was found."""
    from p2pser.speech import extractor  # which imports this module

    began = time.perf_counter()
    store = cache.Store(settings, shape(settings))
    index = cache.Index()
    results: list[Array | None] = [None] * len(paths)
    missing: dict[Path, list[int]] = {}
    for place, path in enumerate(paths):
        digest = index.find(path)
        results[place] = None if digest is None else store.get(digest)
        if results[place] is None:
            missing.setdefault(path, []).append(place)
    helpers = extractor.helpers(workers, len(missing))
    reasons: dict[int, str] = {}
    found = len(paths) - sum(map(len, missing.values()))
    computed = 0
    # Processes that start at once, such as peers of one machine with the same test clips, each begin elsewhere:
    # what one has computed, the others find.
    order = list(missing)
    turn = (os.getpid() * 2654435761 >> 8) % max(1, len(order))
    with _bar(len(missing), progress and bool(missing)) as advance:
        for outcome in extractor.outcomes(order[turn:] + order[:turn], settings, helpers):
            for place in missing[outcome.path]:
                results[place] = outcome.features
                if outcome.reason is not None:
                    reasons[place] = outcome.reason
            if outcome.digest is not None and outcome.stamp is not None:
                index.remember(outcome.path, outcome.digest, outcome.stamp)
            computed += outcome.computed
            found += len(missing[outcome.path]) if not outcome.computed and outcome.reason is None else 0
            advance()
    index.write()
    left_out = [(paths[place], reasons[place]) for place in sorted(reasons)]
    return Extraction(results, left_out, computed, found, time.perf_counter() - began)


@contextlib.contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[], None]]:
    if not wanted:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("features", total=total)
        yield lambda: bar.advance(task)
