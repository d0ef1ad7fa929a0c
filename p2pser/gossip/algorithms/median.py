"""Coordinate-wise median of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.robust import NeighbourRow, Robust, ordered


@ALGORITHMS.register("median")
@dataclass(frozen=True, kw_only=True)
class Median(Robust):
    """Coordinate-wise median of a peer's own row and its neighbours'::

        x_i <- median(z_i, z_j of the neighbours j)             (of an even number the mean of the middle two)

    Each coordinate stays within the range of the honest rows as long as fewer than half of the rows are hostile: with
    2 b + 1 rows or more. With fewer (neighbours died) a peer keeps its own row. The median is no average, so the rows
    agree slowly or not at all: on a ring much of their spread remains. See ``Robust`` for assumptions and limits.

    Reference: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018 (at a server, of gradients).
    """

    def combine(self, peer: int, own: Tensor, neighbours: Sequence[NeighbourRow], hostile: int) -> Tensor:
        """Return the median of all rows, or ``own`` where half of them may be hostile."""
        count = len(neighbours) + 1
        if count < 2 * hostile + 1:
            return own.clone()
        rows = ordered([own, *(neighbour.row for neighbour in neighbours)])
        return rows[(count - 1) // 2] / 2 + rows[count // 2] / 2
