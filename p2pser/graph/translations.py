"""Vertex-transitive graphs: rings, tori, hypercubes, complete and exponential graphs.

Where the ids are a grid that wraps around and each link is the same step for all peers, W is a convolution: the Fourier
transform of its kernel is its eigenvalues, and distances from peer 0 are those from any peer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from p2pser.graph.sparse import Array, Index, Sparse


@dataclass(frozen=True, eq=False)
class Convolution:
    """W as (W y)_i = sum_d kernel[d] y_{i + d}, where ids are places in a grid of this shape that wraps around."""

    shape: tuple[int, ...]
    kernel: Array
    """(N,), kernel[0] is the diagonal of W."""

    @property
    def _bits(self) -> bool:
        return set(self.shape) == {2}

    @property
    def eigenvalues(self) -> Array:
        """The eigenvalues of a symmetric W (N,), by frequency; the first is 1."""
        values: Array = np.fft.fftn(self.kernel.reshape(self.shape)).real.ravel()
        return values

    def forward(self, rows: Array) -> np.ndarray:
        """Return the Fourier transform (N, B) of rows (N, B) along the peers: complex, or real over bits of the id."""
        if self._bits:
            return _hadamard(rows)
        frequencies: np.ndarray = np.fft.fftn(rows.reshape(*self.shape, -1), axes=range(len(self.shape)))
        return frequencies.reshape(rows.shape)

    def backward(self, frequencies: np.ndarray) -> Array:
        """Return the rows of a transform."""
        if self._bits:
            return _hadamard(frequencies) / len(frequencies)
        rows = np.fft.ifftn(frequencies.reshape(*self.shape, -1), axes=range(len(self.shape)))
        return np.ascontiguousarray(rows.real).reshape(frequencies.shape)


def convolution(W: Sparse) -> Convolution | None:
    """Return W as a convolution over one dimension, two, or all bits of the id; None where it is not a convolution."""
    size = W.size
    degree = len(W.to) // size if size else 0
    if size < 2 or len(W.to) != degree * size or (W.own != W.own[0]).any() \
            or (np.bincount(W.to, minlength=size) != degree).any():
        return None
    weight = W.weight.reshape(size, degree)
    for shape in _shapes(size):
        steps = _steps(W, shape).reshape(size, degree)
        order = np.argsort(steps, axis=1)
        steps, weights = np.take_along_axis(steps, order, 1), np.take_along_axis(weight, order, 1)
        if (steps == steps[0]).all() and (weights == weights[0]).all():
            kernel = np.zeros(size)
            kernel[0], kernel[steps[0]] = W.own[0], weights[0]
            return Convolution(shape, kernel)
    return None


def _hadamard(rows: Array) -> Array:
    """Return the Walsh-Hadamard transform of rows (2^m, B): the Fourier transform over m bits, by butterflies."""
    values, half = rows.copy(), 1
    while half < len(rows):
        pairs = values.reshape(-1, 2, half, values.shape[1])
        first, second = pairs[:, 0].copy(), pairs[:, 1]
        pairs[:, 0] += second
        np.subtract(first, second, out=second)
        half *= 2
    return values


def _shapes(size: int) -> Iterator[tuple[int, ...]]:
    yield (size,)
    for side in range(2, math.isqrt(size) + 1):
        if size % side == 0:
            yield side, size // side
            yield size // side, side
    if size & (size - 1) == 0:
        yield (2,) * (size.bit_length() - 1)


def _steps(W: Sparse, shape: tuple[int, ...]) -> Index:
    to, source = np.unravel_index(W.to, shape), np.unravel_index(W.source, shape)
    steps: Index = np.ravel_multi_index([(s - t) % side for t, s, side in zip(to, source, shape)], shape)
    return steps
