"""The graph and the weights of an exchange in the simulator, derived from W."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from p2pser.gossip.mixer import Edges
from p2pser.gossip.reading import Edge
from p2pser.graph.sparse import Sparse

DENSE_UP_TO = 64
"""Number of peers up to which W is a dense matrix: then dense products are faster than sparse ones."""


class ExchangeGraph:
    """The graph and the weights of an exchange, derived from W."""

    def __init__(self, W: Sparse) -> None:
        self.W = W
        self.size = W.size
        self._matrices: dict[tuple[frozenset[int], torch.dtype], object] = {}

    @cached_property
    def pairs(self) -> tuple[Edge, ...]:
        """(dst, src), ascending."""
        return tuple(zip(self.W.to.tolist(), self.W.source.tolist()))

    @cached_property
    def to(self) -> tuple[tuple[int, ...], ...]:
        """The receivers of each peer."""
        receivers: list[list[int]] = [[] for _ in range(self.size)]
        for dst, src in self.pairs:
            receivers[src].append(dst)
        return tuple(map(tuple, receivers))

    @cached_property
    def edges(self) -> Edges:
        """All edges, with their weights."""
        return Edges(torch.from_numpy(self.W.source), torch.from_numpy(self.W.to), torch.from_numpy(self.W.weight))

    def matrix(self, dead: frozenset[int], dtype: torch.dtype) -> object:
        """Return W without the edges of dead peers: a dense Tensor for few peers, else a SciPy CSR matrix."""
        if (dead, dtype) not in self._matrices:
            W = self.W.isolated(dead)
            self._matrices[dead, dtype] = torch.from_numpy(W.dense()).to(dtype) if self.size <= DENSE_UP_TO \
                else W.csr(torch.zeros(0, dtype=dtype).numpy().dtype)
        return self._matrices[dead, dtype]

    def sent(self, dead: frozenset[int]) -> np.ndarray:
        """Return the number of messages that each peer sends, (N,)."""
        sent = self.W.sent.copy()
        sent[list(dead)] = 0
        return sent
