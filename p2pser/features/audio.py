"""Read recordings, and say why a file is not a usable recording, or too long for one utterance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from p2pser.base import wording
from p2pser.base.errors import CorpusError
from p2pser.features import decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTEST = 0.1
"""The shortest usable clip [s]."""

SILENCE = 1e-4
"""A clip whose samples nowhere differ from their mean by more is silent (full scale is 1: -80 dB)."""

LONGEST = 3600
"""The longest recording that is read at once [s]: a longer one is no clip, and needs gigabytes."""

UTTERANCE = 120
"""The longest recording that is taken for one utterance [s]: ``predict`` gives one label to no longer one."""

LEAST = 500
"""Bytes of a second of the most compressed speech: a file with fewer for an utterance is not opened for its length."""

CANCELLED = 1e-3
"""The channels of a recording cancel each other where their mean has less than this share of their power."""

NOT_FINITE = "it holds samples that are not finite numbers; export it again"


def read(recording: Path | str | bytes, sample_rate: int, *, longest: float | None = None,
         advice: str = ": cut it into clips") -> NDArray[np.float32]:
    """Return a recording's samples (samples,), float32, full scale 1: channels averaged, resampled.

    ``recording`` is a file, or the bytes of one; ``sample_rate`` in Hz; ``longest`` in s, default an hour. No more is
    decoded of a longer one. Raises CorpusError where the file is missing, is a git-LFS pointer, text or in a format
    that is not read here, shorter than 0.1 s, longer than ``longest`` (with ``advice``), silent, or holds samples that
    are not finite.
    """
    longest = LONGEST if longest is None else longest
    with decoding.opened(recording) as decoder:
        blocks, frames = [np.zeros(0, dtype=np.float32)], 0
        for block in decoder.blocks:
            blocks.append(mono(block))
            frames += len(block)
            if frames > longest * decoder.rate:
                raise CorpusError(f"it lasts longer than {longest / 60:g} minutes{advice}")
        return usable(np.concatenate(blocks), decoder.rate, sample_rate)


def usable(samples: NDArray[np.float32], rate: float, sample_rate: int) -> NDArray[np.float32]:
    """Return samples (n,) or (n, channels) float32 at ``rate`` [Hz] as ``read`` returns those of a recording.

    Raises CorpusError where they are shorter than 0.1 s, silent, or not finite.
    """
    if len(samples) < SHORTEST * rate:
        raise CorpusError(_too_short(len(samples) / rate))
    signal: NDArray[np.float32] = mono(samples)
    if not np.isfinite(signal).all():
        raise CorpusError(NOT_FINITE)
    if float(np.abs(signal - signal.mean()).max()) <= SILENCE:
        raise CorpusError("it is silent")
    if rate != sample_rate:
        import soxr

        signal = soxr.resample(signal, rate, sample_rate, quality="HQ")
    return np.ascontiguousarray(signal, dtype=np.float32)


def mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (n,) or (n, channels) with their channels averaged, (n,).

    Where the channels cancel each other, as with one that is inverted, the loudest one is returned instead.
    """
    if samples.ndim == 1 or samples.shape[1] == 1:
        return samples.reshape(-1)
    mean: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    power = np.square(samples, dtype=np.float64).mean(axis=0)
    if np.square(mean, dtype=np.float64).mean() < CANCELLED * power.mean():
        return np.ascontiguousarray(samples[:, power.argmax()])
    return mean


def reason(recording: Path | str | bytes) -> str | None:
    """Return why a file is not a usable recording, or None; mostly by its header, so silence is not detected."""
    try:
        duration = seconds(recording)
    except CorpusError as error:
        return str(error) if isinstance(recording, bytes) else str(error).removeprefix(f"{recording}: ")
    return _too_short(duration) if duration < SHORTEST else None


def seconds(recording: Path | str | bytes) -> float:
    """Return a recording's length [s]: from its header, or decoded where that does not give it.

    Raises CorpusError where it cannot be read.
    """
    with decoding.opened(recording) as decoder:
        frames = sum(map(len, decoder.blocks)) if decoder.frames is None else decoder.frames
        return frames / decoder.rate


def long_note(recordings: Iterable[Path]) -> tuple[str, ...]:
    """Return a note on those of the recordings that are longer than an utterance, if any: how many, and the longest."""
    lengths: dict[Path, float] = {}
    for path in recordings:
        with contextlib.suppress(CorpusError, OSError):
            if path.stat().st_size > LEAST * UTTERANCE and (length := seconds(path)) > UTTERANCE:
                lengths[path] = length
    if not lengths:
        return ()
    longest = max(lengths, key=lambda path: lengths[path])
    lasts, it = ("recording lasts", "it") if len(lengths) == 1 else ("recordings last", "each")
    return (f"{len(lengths)} {lasts} longer than {UTTERANCE // 60} min, and {it} counts as one clip with one emotion: "
            f"cut it into utterances (the longest, {longest}: {wording.duration(lengths[longest])})",)


def _too_short(duration: float) -> str:
    return f"it lasts {duration:.3f} s, shorter than {SHORTEST} s"
