"""Robust rules that weigh their rows equally: coordinate-wise median, trimmed mean, Krum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from p2pser.gossip.robust import Heard, Robust


def ordered(rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows, each (D,), with every coordinate ascending from the first to the last.

    By an odd-even transposition network: a minimum and a maximum of whole rows at a time. torch.sort over so few rows
    of so many coordinates takes ten times as long.
    """
    rows = list(rows)
    for turn in range(len(rows)):
        for k in range(turn % 2, len(rows) - 1, 2):
            rows[k], rows[k + 1] = torch.minimum(rows[k], rows[k + 1]), torch.maximum(rows[k], rows[k + 1])
    return rows


@dataclass
class Median(Robust):
    """Coordinate-wise median of a peer's own row and its neighbours'::

        x_i <- median(z_i, z_j of the neighbours j)             (of an even number the middle between the two)

    Each coordinate stays within those of the honest rows as long as fewer than half of the rows are hostile: 2 b + 1
    rows or more. With fewer (neighbours died) a peer keeps its own row. It is no average, so the rows agree slowly or
    not at all: on a ring much of their spread stays. See ``Robust`` for what is assumed and what is not robust.

    Reference: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018 (at a server, of gradients).
    """

    name: ClassVar[str] = "median"

    def combine(self, peer: int, own: Tensor, heard: Sequence[Heard], hostile: int) -> Tensor:
        """Return the median of all rows, or ``own`` where half of them may be hostile."""
        count = len(heard) + 1
        if count < 2 * hostile + 1:
            return own.clone()
        rows = ordered([own, *(one.row for one in heard)])
        return rows[(count - 1) // 2] / 2 + rows[count // 2] / 2


@dataclass
class TrimmedMean(Robust):
    """Coordinate-wise mean of a peer's own row and its neighbours', the b lowest and b highest of each left out.

    Needs 2 b + 1 rows; with fewer (neighbours died) a peer keeps its own row. b = 0 is the mean with equal weights,
    of which nothing is conserved on graphs that are not regular. See ``Robust`` for what is assumed and what is not
    robust.

    Reference: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018 (at a server, of gradients).
    """

    name: ClassVar[str] = "trimmed-mean"

    def combine(self, peer: int, own: Tensor, heard: Sequence[Heard], hostile: int) -> Tensor:
        """Return the trimmed mean of all rows, or ``own`` where nothing would be left."""
        count = len(heard) + 1
        if count < 2 * hostile + 1:
            return own.clone()
        total = torch.zeros_like(own, dtype=torch.float64)
        for row in ordered([own, *(one.row for one in heard)])[hostile : count - hostile]:
            total += row
        return (total / (count - 2 * hostile)).to(own.dtype)


@dataclass
class Krum(Robust):
    """Krum: a peer takes the one row that is closest to its closest rows::

        s_j  = sum of ||z_j - z_k||^2 over the n - b - 2 rows k != j closest to j      (n rows, the peer's own counted)
        x_i <- z_j of the least s_j                              (its own where that is among the least)

    Needs n >= 2 b + 3 rows; with fewer (neighbours died) a peer keeps its own row. It averages nothing: noise of the
    local steps is not averaged out, and whole rows win or lose. See ``Robust`` for what is assumed and what is not
    robust.

    Reference: P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, "Machine Learning with Adversaries: Byzantine
    Tolerant Gradient Descent", NeurIPS 2017 (at a server, of gradients).
    """

    name: ClassVar[str] = "krum"
    rows_needed: ClassVar[int] = 3

    def combine(self, peer: int, own: Tensor, heard: Sequence[Heard], hostile: int) -> Tensor:
        """Return the row of the least score."""
        rows = [own, *(one.row for one in heard)]
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
