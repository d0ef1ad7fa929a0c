"""Under which conditions recordings were made: sampling rate, level, bandwidth; and when others are outside of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.errors import CorpusError
from p2pser.features import audio, cache, decoding

MOST = 100
"""Recordings that are measured of a training, or of a corpus that is tested."""

BAND = 250
"""Width of the bands in which the spectrum is looked at [Hz]."""

BELOW = 50.0
"""A band counts up to this far below the loudest one [dB], each as loud as in its loudest twentieth of the time."""

USUAL = (2.5, 97.5)
"""Percentiles of a training's recordings between which its conditions lie."""

LEVEL, NARROWER, WIDER = 6.0, 0.75, 1.33
"""How far beyond them a recording is outside: in level [dB]; factors of the bandwidth."""

RARE = 0.05
"""Share of recordings that may be outside without a word. Of the training's own corpus 0 to 2 % are."""


@dataclass(frozen=True)
class Conditions:
    """The recordings of a training.

    Attributes
    ----------
    clips : number of recordings that were measured.
    rates : their sampling rates [Hz], ascending.
    level : of nearly all, lowest and highest: of the loudest twentieth of 50 ms [dBFS].
    bandwidth : of nearly all, lowest and highest: the frequency up to which there is speech [Hz], at most half the
        sampling rate of the features.
    """

    clips: int
    rates: tuple[int, ...]
    level: tuple[float, float]
    bandwidth: tuple[float, float]

    @classmethod
    def of(cls, measured: NDArray[np.float64]) -> Conditions | None:
        """Return the conditions of recordings (n, 3) of ``sample``; None where there are none."""
        if len(measured) == 0:
            return None
        low, high = (tuple(round(float(value), 1) for value in row) for row in np.percentile(measured, USUAL, axis=0))
        return cls(len(measured), tuple(sorted({int(rate) for rate in measured[:, 0]})), (low[1], high[1]),
                   (low[2], high[2]))

    @classmethod
    def read(cls, document: Mapping[str, Any] | None) -> Conditions | None:
        """Return the conditions in a card. Raises ValueError, KeyError or TypeError where they are none."""
        if document is None:
            return None
        level, bandwidth = ((float(low), float(high)) for low, high in (document["level_dbfs"],
                                                                        document["bandwidth_hz"]))
        if not all(map(math.isfinite, (*level, *bandwidth))):
            raise ValueError("its recording conditions are not finite")
        return cls(int(document["clips"]), tuple(map(int, document["sampling_rates_hz"])), level, bandwidth)

    def to_dict(self) -> dict[str, Any]:
        """Return what a card holds of them."""
        return {"clips": self.clips, "sampling_rates_hz": list(self.rates), "level_dbfs": list(self.level),
                "bandwidth_hz": list(self.bandwidth)}

    def outside(self, level: float, bandwidth: float) -> tuple[str, ...]:
        """Return in what a recording is outside of these conditions, in words."""
        checks = {f"a narrower band ({_kilohertz(self.bandwidth)} there)": bandwidth < NARROWER * self.bandwidth[0],
                  f"a wider band ({_kilohertz(self.bandwidth)} there)": bandwidth > WIDER * self.bandwidth[1],
                  f"a lower level ({_decibels(self.level)} there)": level < self.level[0] - LEVEL,
                  f"a higher level ({_decibels(self.level)} there)": level > self.level[1] + LEVEL}
        return tuple(words for words, holds in checks.items() if holds)


def told(outside: Counter[str], count: int) -> str:
    """Return a sentence on recordings outside of the training's conditions; "" where they are ``RARE``.

    outside : how many of ``count`` recordings are outside in what (``Conditions.outside``).
    """
    several = [f"{number} of {count} have {what}" for what, number in outside.items() if number > RARE * count]
    return ("recordings are outside of the recording conditions of the training, where the model errs more often: "
            f"{', '.join(several)}") if several else ""


def measured(signal: NDArray[np.floating], sample_rate: int) -> tuple[float, float]:
    """Return level [dBFS] and bandwidth [Hz] of a recording (n,), full scale 1."""
    values = np.asarray(signal, dtype=np.float64)
    length, part = round(0.032 * sample_rate), round(0.05 * sample_rate)
    padded = np.pad(values, (0, max(0, max(length, part) - len(values))))
    loudest = np.percentile(np.square(padded[:len(padded) // part * part].reshape(-1, part)).mean(axis=1), 95)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::length // 2] * np.hanning(length)
    power = np.percentile(np.square(np.abs(np.fft.rfft(frames, axis=1))), 95, axis=0)
    bands = np.bincount((np.fft.rfftfreq(length, 1 / sample_rate) // BAND).astype(int), power)
    heard = np.flatnonzero(bands >= bands.max() * 10 ** (-BELOW / 10))
    return 10 * math.log10(max(float(loudest), 1e-12)), float(min(BAND * (int(heard[-1]) + 1), sample_rate / 2))


def sample(paths: Sequence[Path], sample_rate: int) -> NDArray[np.float64]:
    """Return sampling rate [Hz], level [dBFS] and bandwidth [Hz] (n, 3) of at most ``MOST`` recordings, drawn by a
    fixed seed: in the order of a corpus every n-th clip may be of the same emotion and intensity.

    They are cached by the content of the recordings. What cannot be read is left out.
    """
    index = cache.Index()
    key = hashlib.blake2b(json.dumps([1, sample_rate, BAND, BELOW]).encode(), digest_size=8).hexdigest()
    store = cache.Store(f"conditions-{key}", (3,))
    drawn = np.sort(seeding.generator(0, "recording conditions").permutation(len(paths))[:MOST])
    rows = []
    for path in (paths[place] for place in drawn):
        digest = index.find(path)
        values = None if digest is None else store.get(digest)
        if values is None:
            try:
                with decoding.opened(path) as decoder:
                    rate = decoder.rate
                values = np.array([rate, *measured(audio.read(path, sample_rate), sample_rate)], dtype=np.float32)
            except CorpusError:
                continue
            if digest is not None:
                store.put(digest, values)
        rows.append(values)
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _kilohertz(span: Iterable[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value / 1000:.1f}" for value in span)) + " kHz"


def _decibels(span: Iterable[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in span)) + " dBFS"
