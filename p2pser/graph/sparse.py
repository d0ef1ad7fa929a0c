"""Sparse mixing matrices: memory and time grow with the links, not with the square of the number of peers.

Only ``Sparse.csr`` imports SciPy: each peer process reads weights, and SciPy's sparse matrices cost it 30 MB.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import TopologyError

DENSE_PEERS = 10_000
"""The most peers of a dense matrix: 0.8 GB."""

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sparse:
    """A mixing matrix W (N, N): W[to[e], source[e]] = weight[e], not 0, and the diagonal is ``own`` (N,).

    The entries ascend by (to, source), and none is on the diagonal.
    """

    to: Index
    source: Index
    weight: Array
    own: Array

    @property
    def size(self) -> int:
        """N."""
        return len(self.own)

    def __len__(self) -> int:
        return self.size

    @classmethod
    def of(cls, size: int, to: Index, source: Index, weight: Array) -> Sparse:
        """Return W of entries in any order, each named once; the diagonal completes each row to 1."""
        used = weight != 0
        to, source, weight = to[used], source[used], weight[used]
        order = np.lexsort((source, to))
        to, source, weight = to[order], source[order], weight[order]
        # bincount adds in the order of the entries, so each row sums in ascending order of the neighbours' ids.
        return cls(to, source, weight, (1.0 - np.bincount(to, weight, size)).astype(np.float64))

    @classmethod
    def from_dense(cls, W: Array) -> Sparse:
        """Return the entries of a matrix (N, N)."""
        to, source = np.nonzero(W)
        off = to != source
        to, source = to[off], source[off]
        return cls(to.astype(np.int64), source.astype(np.int64), W[to, source], W.diagonal().copy())

    def dense(self) -> Array:
        """Return W (N, N). Raises TopologyError for more than ``DENSE_PEERS``."""
        if self.size > DENSE_PEERS:
            raise TopologyError(f"a dense matrix of {self.size} peers is needed here, {8e-9 * self.size**2:.0f} GB: "
                                f"theory, drawing and some algorithms need one, for at most {DENSE_PEERS} peers")
        W = np.zeros((self.size, self.size))
        W[self.to, self.source] = self.weight
        W[np.diag_indices(self.size)] = self.own
        return W

    def csr(self, dtype: Any = np.float64) -> Any:
        """Return W as a SciPy matrix."""
        from scipy.sparse import csr_matrix

        each = np.arange(self.size)
        entries = np.concatenate([self.weight, self.own]).astype(dtype)
        places = np.concatenate([self.to, each]), np.concatenate([self.source, each])
        return csr_matrix((entries, places), shape=(self.size, self.size))

    def without(self, cut: Collection[tuple[int, int]]) -> Sparse:
        """Return W without the cut edges, both ways, whose weight each end adds to its own."""
        if not cut:
            return self
        places = [a * self.size + b for i, j in cut for a, b in ((i, j), (j, i))]
        gone = np.isin(self.to * self.size + self.source, places)
        own = self.own.copy()
        np.add.at(own, self.to[gone], self.weight[gone])
        return Sparse(self.to[~gone], self.source[~gone], self.weight[~gone], own)

    def isolated(self, peers: Collection[int]) -> Sparse:
        """Return W without the edges of some peers, whose weight both ends of an edge add to their own."""
        if not peers:
            return self
        out = np.zeros(self.size, dtype=bool)
        out[list(peers)] = True
        gone = out[self.to] | out[self.source]
        own = self.own.copy()
        np.add.at(own, self.to[gone], self.weight[gone])
        own[out] = 1.0
        return Sparse(self.to[~gone], self.source[~gone], self.weight[~gone], own)

    def part(self, peers: Collection[int]) -> Sparse:
        """Return the matrix of some peers alone, which have no edge to others."""
        members = np.array(sorted(peers), dtype=np.int64)
        place = np.full(self.size, -1, dtype=np.int64)
        place[members] = np.arange(len(members))
        inside = (place[self.to] >= 0) & (place[self.source] >= 0)
        return Sparse(place[self.to[inside]], place[self.source[inside]], self.weight[inside], self.own[members])

    def spread(self, peers: Sequence[int], size: int) -> Sparse:
        """Return W of ``size`` peers, in which ``peers`` (ascending) have these weights and the others no edges."""
        place, own = np.array(peers, dtype=np.int64), np.ones(size)
        own[place] = self.own
        return Sparse(place[self.to], place[self.source], self.weight, own)

    @cached_property
    def sent(self) -> Index:
        """The number of peers to which each peer sends, (N,)."""
        return np.bincount(self.source, minlength=self.size).astype(np.int64)


def links(graph: nx.Graph) -> tuple[Index, Index]:
    """Return both directions (to, source) of the links of an undirected graph on 0 .. N-1, in any order."""
    pairs = np.array([(i, j) for i, j in graph.edges if i != j], dtype=np.int64).reshape(-1, 2)
    return np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]])
