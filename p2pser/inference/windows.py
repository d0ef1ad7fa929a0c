"""A stream of samples as overlapping windows, from a recording longer than memory or from a microphone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError
from p2pser.features import audio, decoding

Array = NDArray[np.float32]

SHORTEST_HOP = 0.1
"""The shortest hop [s]: it bounds the work for a recording. No window is shorter, nor any recording."""

LONGEST = 24 * 3600.0
"""A longer window counts as this long [s]."""

FRAME = 0.05
"""Length of the frames whose level is measured [s]."""


@dataclass(frozen=True)
class Window:
    """Samples (n,) float32 at ``rate`` [Hz], full scale 1, from ``start`` [s] of the stream."""

    start: float
    rate: int
    samples: Array

    @property
    def end(self) -> float:
        """End of the window [s of the stream]."""
        return self.start + len(self.samples) / self.rate

    @property
    def level(self) -> float:
        """RMS level of the loudest 50 ms about their mean [dBFS]; -inf for digital silence, also at an offset."""
        size = min(len(self.samples), round(FRAME * self.rate))
        frames = self.samples[: len(self.samples) // size * size].reshape(-1, size)
        loudest = float(frames.var(axis=1, dtype=np.float64).max())
        return 10 * float(np.log10(loudest)) if loudest > 0 else -np.inf


class Windower:
    """Cuts a stream at ``rate`` [Hz] into windows of ``window`` seconds, one every ``hop`` seconds.

    It holds one window and the samples that are pushed. Raises CorpusError where ``hop`` is shorter than 0.1 s, or
    longer than ``window``.
    """

    def __init__(self, rate: int, window: float, hop: float) -> None:
        if not SHORTEST_HOP <= hop <= window:
            raise CorpusError(f"windows of {window:g} s every {hop:g} s are not possible: the hop is "
                              f"{SHORTEST_HOP:g} s or more, and not longer than the window")
        self.rate = rate
        self.size, self.step = (max(1, round(min(length, LONGEST) * rate)) for length in (window, hop))
        self._held: Array = np.zeros(0, dtype=np.float32)
        self._start = 0  # index of the first held sample in the stream
        self._windows = 0

    def push(self, samples: Array) -> list[Window]:
        """Add samples (n,) and return the windows that are complete now, in order."""
        self._held = np.concatenate([self._held, samples])
        complete = []
        while len(self._held) >= self.size:
            complete.append(self._window(self.size))
            self._held = self._held[self.step :].copy()
            self._start += self.step
            self._windows += 1
        return complete

    def rest(self) -> Window | None:
        """Return the shorter window at the stream's end, or None where it holds nothing usable that is new."""
        seen = self.size - self.step if self._windows else 0
        if len(self._held) <= seen or len(self._held) < audio.SHORTEST * self.rate:
            return None
        return self._window(len(self._held))

    def _window(self, size: int) -> Window:
        return Window(self._start / self.rate, self.rate, self._held[:size].copy())


class Resampler:
    """Resamples a stream block by block, from ``rate`` to ``target`` [Hz]."""

    def __init__(self, rate: float, target: int) -> None:
        self._stream: Any = None
        if rate != target:
            import soxr

            self._stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")

    def push(self, samples: Array, *, last: bool = False) -> Array:
        """Return the resampled samples that are ready after ``samples`` (n,); ``last``: the stream ends with them."""
        if self._stream is None:
            return samples
        out: Array = self._stream.resample_chunk(samples, last=last)
        return out


def windows(recording: Path | bytes, rate: int, window: float, hop: float) -> Iterator[Window]:
    """Yield the windows of a recording, which is read block by block.

    Parameters
    ----------
    recording : a file, or the bytes of one.
    rate : samples per second of the windows [Hz].
    window : length of a window [s]; the last one may be shorter.
    hop : time from the beginning of one window to that of the next, ``SHORTEST_HOP`` or more [s].

    Raises CorpusError where the file is not a usable recording, or is damaged.
    """
    reason = audio.reason(recording)
    if reason is not None:
        raise CorpusError(f"{recording}: {reason}" if isinstance(recording, Path) else reason)
    cutter = Windower(rate, window, hop)
    with decoding.opened(recording) as decoder:
        resampler = Resampler(decoder.rate, rate)
        for block in decoder.blocks:
            signal = audio.mono(block)
            if not np.isfinite(signal).all():
                raise CorpusError(audio.NOT_FINITE)
            yield from cutter.push(resampler.push(signal))
        yield from cutter.push(resampler.push(np.zeros(0, dtype=np.float32), last=True))
    rest = cutter.rest()
    if rest is not None:
        yield rest
