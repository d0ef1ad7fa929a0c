"""Krum: the row that is closest to its closest rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.robust import NeighbourRow, Robust


@ALGORITHMS.register("krum")
@dataclass(frozen=True, kw_only=True)
class Krum(Robust):
    """Krum: a peer takes the one row that is closest to its closest rows::

        s_j  = sum of ||z_j - z_k||^2 over the n - b - 2 rows k != j closest to j      (n rows, the peer's own counted)
        x_i <- z_j of the least s_j                              (its own where that is among the least)

    Needs n >= 2 b + 3 rows; with fewer (neighbours died) a peer keeps its own row. It selects a whole row: the
    noise of local steps is not averaged out. See ``Robust`` for assumptions and limits.

    Reference: P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, "Machine Learning with Adversaries: Byzantine
    Tolerant Gradient Descent", NeurIPS 2017 (at a server, of gradients).
    """

    rows_needed: ClassVar[int] = 3

    def combine(self, peer: int, own: Tensor, neighbours: Sequence[NeighbourRow], hostile: int) -> Tensor:
        """Return the row of the least score."""
        rows = [own, *(neighbour.row for neighbour in neighbours)]
        count = len(rows)
        if count < 2 * hostile + 3:
            return own.clone()
        away = [[0.0] * count for _ in rows]
        for j in range(count):
            for k in range(j):
                gap = torch.linalg.vector_norm(rows[j].double() - rows[k].double())
                away[j][k] = away[k][j] = float(gap) ** 2
        scores = [sum(sorted(away[j][:j] + away[j][j + 1 :])[: count - hostile - 2]) for j in range(count)]
        return rows[min(range(count), key=scores.__getitem__)].clone()
