"""Coordinate-wise trimmed mean of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.robust import NeighbourRow, Robust, ordered


@ALGORITHMS.register("trimmed-mean")
@dataclass(frozen=True, kw_only=True)
class TrimmedMean(Robust):
    """Coordinate-wise mean of a peer's own row and its neighbours', the b lowest and b highest of each left out.

    Needs 2 b + 1 rows; with fewer (neighbours died) a peer keeps its own row. b = 0 is the mean with equal weights,
    which conserves no mean on graphs that are not regular. See ``Robust`` for assumptions and limits.

    Reference: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018 (at a server, of gradients).
    """

    def combine(self, peer: int, own: Tensor, neighbours: Sequence[NeighbourRow], hostile: int) -> Tensor:
        """Return the trimmed mean of all rows, or ``own`` where no row would be left."""
        count = len(neighbours) + 1
        if count < 2 * hostile + 1:
            return own.clone()
        total = torch.zeros_like(own, dtype=torch.float64)
        for row in ordered([own, *(neighbour.row for neighbour in neighbours)])[hostile : count - hostile]:
            total += row
        return (total / (count - 2 * hostile)).to(own.dtype)
