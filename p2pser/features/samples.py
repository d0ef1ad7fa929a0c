"""The samples of a caller, of any numeric type and layout, as the samples of a recording."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.errors import CorpusError, in_one_line
from p2pser.features.decoding import LOUDEST, LOWEST_RATE, MOST_CHANNELS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HIGHEST_RATE = 1_000_000
"""The highest sampling rate [Hz]."""

_HEADS = {b"RIFF": "WAV", b"RF64": "RF64", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF",
          b"caff": "CAF", b".snd": "AU", b"\x1aE\xdf\xa3": "WebM"}
"""How the files of some formats begin."""


def scaled(samples: ArrayLike) -> NDArray[np.float32]:
    """Return samples as (n,) or (n, channels) float32 of full scale 1.

    Parameters
    ----------
    samples : (n,), (n, channels) or (channels, n): the longer axis is time. Integers of 8, 16 or 32 bits have the full
        scale of their type (unsigned ones are silent in the middle), floats have full scale 1.

    Raises CorpusError where the samples are of another type or layout, or floats far above full scale.

    Example
    -------
    >>> scaled(np.array([0, 16384], dtype=np.int16))
    array([0. , 0.5], dtype=float32)
    """
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a tensor with a gradient
        raise CorpusError(f"the samples are no array of numbers ({in_one_line(error, 200)}): give (n,), (n, channels) "
                          "or (channels, n)") from None
    if array.size == 0 or array.ndim not in (1, 2):
        raise CorpusError(f"samples of shape {array.shape}: give (n,), (n, channels) or (channels, n)")
    if array.ndim == 2:
        length, channels = max(array.shape), min(array.shape)
        if channels > MOST_CHANNELS or length == channels:
            raise CorpusError(f"samples of shape {array.shape}: which axis is time cannot be told; give (n, channels)")
        array = array if array.shape[0] == length else array.T
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 4:
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        return ((array - (half if array.dtype.kind == "u" else 0.0)) / half).astype(np.float32)
    if array.dtype.kind != "f":
        raise CorpusError(f"samples of type {array.dtype}: give floats of full scale 1, or integers of 8, 16 or 32 "
                          "bits")
    peak = float(np.abs(array).max())
    if LOUDEST < peak < math.inf:  # what is not finite has a sentence of its own
        raise CorpusError(f"samples reach {peak:g}, and full scale is 1: give integers in their own type, or divide "
                          "them by its full scale (32768 for 16 bits)")
    return array.astype(np.float32)


def checked_rate(rate: Any) -> float:
    """Return a sampling rate [Hz]. Raises CorpusError where it is no number, or not that of a recording."""
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not number or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise CorpusError(f"a sampling rate of {rate!r}: give a number of samples a second from {LOWEST_RATE} to "
                          f"{HIGHEST_RATE}")
    return float(rate)


def refuse_header(first: bytes) -> None:
    """Raise CorpusError where the first block of a stream of PCM is the beginning of a file, whose header and coding
    would be heard as samples.
    """
    for head, name in _HEADS.items():
        if first.startswith(head):
            raise CorpusError(f"the stream begins as a file of the format {name} does, and takes samples without a "
                              "header: 16 bits each, little-endian, mono (ffmpeg -i FILE -f s16le -ac 1 -ar RATE -)")
