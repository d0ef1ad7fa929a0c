"""Discrete Gaussian noise from a secret key, in whole numbers from the first draw to the last.

Noise in floating point can be told apart from other noise by the bits that it cannot have (I. Mironov, CCS 2012). So
this noise is drawn as integers, and added to integers. The sampler is that of C. Canonne, G. Kamath, T. Steinke, "The
Discrete Gaussian for Differential Privacy", NeurIPS 2020, algorithms 1 to 3, over arrays, for scales that are powers of
two: then all probabilities have denominators of which uniform words are multiples. (A probability of 1/K, with K of a
few units, is off by less than 2^-60.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pser.gossip.agreement.chacha20 import chacha20

LARGEST = 25
"""The largest scale is 2^LARGEST: squares of samples fit 64 bits."""

Words = NDArray[np.uint64]


class Stream:
    """Uniform words from a secret: the ChaCha20 stream of a key derived from it for one purpose (HKDF).

    Parameters
    ----------
    secret : 32 bytes.
    purpose : what the words are for; another purpose gives other words.
    """

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        self._next = chacha20(secret, b"p2pser stream 1" + purpose)

    def words(self, size: int) -> Words:
        """Return the next ``size`` uniform words of 64 bits."""
        return np.frombuffer(self._next(8 * size), dtype="<u8")


def discrete_gaussian(stream: Stream, size: int, log_scale: int) -> NDArray[np.int64]:
    """Return samples (size,) with P(x) proportional to exp(-x^2 / (2 s^2)), s = 2^log_scale, 0 <= log_scale <= LARGEST.

    Its variance is at most s^2, and equals it but for 10^-8 from s = 1 on.
    """
    parts: list[NDArray[np.int64]] = []
    lacking = size
    while lacking > 0:
        drawn = _laplace(stream, 2 * lacking + 64, log_scale)
        bits = np.uint64(2 * log_scale + 1)
        exponent = (np.abs(drawn) - (1 << log_scale)).astype(np.int64) ** 2
        taken = drawn[_happens(stream, exponent.astype(np.uint64), bits)][:lacking]
        parts.append(taken)
        lacking -= len(taken)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _laplace(stream: Stream, tries: int, log_scale: int) -> NDArray[np.int64]:
    """Return up to ``tries`` samples with P(x) proportional to exp(-|x| / 2^log_scale)."""
    first = stream.words(tries)
    low = (first & np.uint64((1 << log_scale) - 1)).astype(np.uint64)
    negative = (first >> np.uint64(63)) == 1
    kept = _happens(stream, low, np.uint64(log_scale))
    low, negative = low[kept], negative[kept]
    high = np.zeros(len(low), dtype=np.uint64)
    going = np.arange(len(low))
    while len(going):
        going = going[_happens_below(stream, np.ones(len(going), dtype=np.uint64), np.uint64(0))]
        high[going] += np.uint64(1)
    size = (low + (high << np.uint64(log_scale))).astype(np.int64)
    twice = negative & (size == 0)  # 0 has one sign
    drawn: NDArray[np.int64] = np.where(negative, -size, size)[~twice]
    return drawn


def _happens(stream: Stream, exponent: Words, bits: np.uint64) -> NDArray[np.bool_]:
    """Return events (n,) of probability exp(-exponent / 2^bits)."""
    whole, rest = exponent >> bits, exponent & ((np.uint64(1) << bits) - np.uint64(1))
    happened = _happens_below(stream, rest, bits)
    while (due := np.flatnonzero(happened & (whole > 0))).size:
        happened[due] = _happens_below(stream, np.ones(len(due), dtype=np.uint64), np.uint64(0))
        whole[due] -= np.uint64(1)
    return happened


def _happens_below(stream: Stream, exponent: Words, bits: np.uint64) -> NDArray[np.bool_]:
    """Return events (n,) of probability exp(-exponent / 2^bits), exponent <= 2^bits: von Neumann's alternating series.
    """
    length = np.ones(len(exponent), dtype=np.uint64)
    going, k = np.arange(len(exponent)), 1
    mask = (np.uint64(1) << bits) - np.uint64(1)
    while len(going):
        below = (stream.words(len(going)) & mask) < exponent[going]
        chosen = stream.words(len(going)) % np.uint64(k) == 0
        going = going[below & chosen]
        length[going] += np.uint64(1)
        k += 1
    odd: NDArray[np.bool_] = length % np.uint64(2) == 1
    return odd
