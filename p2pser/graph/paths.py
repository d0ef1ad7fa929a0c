"""The lengths of all shortest paths of a graph: the distance of the furthest peer, and the progress of a flood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.graph.sparse import Array, Index, Sparse
from p2pser.graph.translations import Convolution

WORDS = 1 << 22
"""The most words of 64 bits, one bit a peer, in memory at once: 32 MB."""
_BITS = np.array([bin(i).count("1") for i in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Balls:
    """The balls around each peer of a connected graph.

    furthest : (N,), the number of links to the furthest peer.
    total : (N,), the sum over the radii s = 0 .. furthest of the costs of the peers within s links.
    count : (s, N), the number of peers within s links, for the first few s.
    """

    furthest: Index
    total: Array
    count: Index


def balls(W: Sparse, costs: Index, same: Convolution | None = None, first: int = 16) -> Balls:
    """Return the balls around all peers over the links of a symmetric, connected W.

    Parameters
    ----------
    W : symmetric and connected.
    costs : (N,) of each peer; equal within each 64 peers from a multiple of 64 on.
    same : W as a convolution, where it is one.
    first : the number of radii s in ``count``.
    """
    size = W.size
    starts = np.searchsorted(W.to, np.arange(size))
    if same is not None:
        return _around_one(same, _search(W, starts, np.zeros(1, dtype=np.int64)), costs, first)
    batch = 64 * max(1, WORDS // size)
    parts = [_filling(W, np.arange(begin, min(begin + batch, size)), costs, first) for begin in range(0, size, batch)]
    furthest = np.maximum.reduce([most for most, *_ in parts])
    # After its last step a batch has all its origins, in each further step of the others.
    total = sum((filled + whole * (furthest - steps) for _, steps, (filled, whole), _ in parts), start=np.zeros(size))
    return Balls(furthest, total, np.sum([near for *_, near in parts], axis=0))


def _filling(W: Sparse, origins: Index, costs: Index, first: int
             ) -> tuple[Index, int, tuple[Array, float], Index]:
    """Simulate a flood of the values of ``origins``.

    Return the distance of the furthest origin from each peer (N,), the number of steps, (the sum over the steps of the
    costs of the values at each peer (N,), the costs of all), and the number of values at each peer in the ``first``
    steps.
    """
    size, words = W.size, -(-len(origins) // 64)
    reach = np.zeros((size, words), dtype=np.uint64)
    place = origins - origins[0]
    reach[origins, place // 64] = np.uint64(1) << (place % 64).astype(np.uint64)
    each = costs[origins[::64]].astype(np.float64)
    order = np.concatenate([W.to, np.arange(size)])
    sources = np.concatenate([W.source, np.arange(size)])[np.argsort(order, kind="stable")]
    starts = np.searchsorted(np.sort(order), np.arange(size))
    total, furthest, near = np.zeros(size), np.zeros(size, dtype=np.int64), np.zeros((first, size), dtype=np.int64)
    step = 0
    while True:
        bits = _bits(reach)
        total += bits @ each
        full = bits.sum(1)
        near[step:first] = full
        furthest[full < len(origins)] = step + 1
        if (full == len(origins)).all():
            break
        reach = np.bitwise_or.reduceat(reach[sources], starts, axis=0)
        step += 1
    return furthest, step, (total, float(costs[origins].sum())), near


def _bits(words: NDArray[np.uint64]) -> Index:
    """Return the number of bits that are set in each word."""
    if hasattr(np, "bitwise_count"):  # from NumPy 2.0 on
        count: Index = np.bitwise_count(words).astype(np.int64)
        return count
    counted: Index = _BITS[words.view(np.uint8)].reshape(*words.shape, 8).sum(2, dtype=np.int64)
    return counted


def _search(W: Sparse, starts: Index, origin: Index) -> Index:
    """Return the distance of each peer from ``origin``."""
    ends = np.append(starts[1:], len(W.to))
    away = np.full(W.size, -1, dtype=np.int64)
    edge, step = origin, 0
    while len(edge):
        away[edge] = step
        near = np.unique(np.concatenate([W.source[starts[i]:ends[i]] for i in edge.tolist()]))
        edge, step = near[away[near] < 0], step + 1
    return away


def _around_one(same: Convolution, away: Index, costs: Index, first: int) -> Balls:
    size, most = len(away), int(away.max())
    left = (most + 1 - away).astype(np.float64)  # the number of radii within which a peer is
    frequencies = np.fft.fftn(left.reshape(same.shape)), np.fft.fftn(costs.astype(np.float64).reshape(same.shape))
    total = np.fft.ifftn(np.conj(frequencies[0]) * frequencies[1]).real.ravel()
    near = np.array([(away <= s).sum() for s in range(first)], dtype=np.int64)
    return Balls(np.full(size, most, dtype=np.int64), np.rint(total), np.repeat(near[:, None], size, 1))
