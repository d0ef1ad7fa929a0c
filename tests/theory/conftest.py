"""Quadratics with exact gradients, on which theorems about gossip algorithms are tested."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import pytest
import torch

from p2pser.gossip.algorithm import State


@dataclass
class QuadraticWork:
    """Local work (gossip.algorithm.Local) on f_i(x) = sum_c A_ic (x_c - C_ic)^2 / 2: K plain gradient steps.

    A, C: (B, d) float64, one row a hosted peer.
    """

    A: torch.Tensor
    C: torch.Tensor
    rate: float
    steps: int = 1

    @property
    def clips(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.A) + 1))

    def lr(self, round: int) -> float:
        return self.rate

    def gradient(self, rows: torch.Tensor, round: int, step: int = 0) -> torch.Tensor:
        return self.A * (rows - self.C)

    def train(
        self,
        state: State,
        round: int,
        *,
        rows: torch.Tensor | None = None,
        correction: torch.Tensor | None = None,
        only: Collection[int] | None = None,
    ) -> torch.Tensor:
        x = (state.rows["x"] if rows is None else rows).clone()
        # A step x - rate * (A * (x - C) + correction) in one operation: the tests take hundreds of thousands.
        keep, pull = 1 - self.rate * self.A, self.rate * self.A * self.C
        if correction is not None:
            pull = pull - self.rate * correction
        for _ in range(self.steps):
            x = torch.addcmul(pull, keep, x)
        idle = [] if only is None else sorted(set(range(len(x))) - set(only))
        x[idle] = (state.rows["x"] if rows is None else rows)[idle]
        return x


@dataclass
class Quadratics:
    """N peers' quadratics. A: (N, d) curvatures in [0.5, 1.5]; C: (N, d) minima; float64."""

    A: torch.Tensor
    C: torch.Tensor
    local: QuadraticWork

    @property
    def optimum(self) -> torch.Tensor:
        """The minimum of the sum, (d,)."""
        return (self.A * self.C).sum(0) / self.A.sum(0)

    def work(self, peers: Sequence[int] | None = None) -> QuadraticWork:
        """The local work of some peers only (default: all)."""
        hosted = list(range(len(self.A)) if peers is None else peers)
        return QuadraticWork(self.A[hosted], self.C[hosted], self.local.rate, self.local.steps)

    def start(self) -> torch.Tensor:
        """Equal rows of zeros, (N, d)."""
        return torch.zeros_like(self.C)


@pytest.fixture
def quadratics() -> Callable[..., Quadratics]:
    """Return ``make(n, d, seed, heterogeneity, *, lr, steps)``: heterogeneity 0 gives all peers the same
    quadratic, 1 minima of unit variance around theirs and curvatures of 0.5 to 1.5.
    """

    def make(
        n: int, d: int = 6, seed: int = 0, heterogeneity: float = 1.0, *, lr: float = 0.1, steps: int = 1
    ) -> Quadratics:
        draw = torch.Generator().manual_seed(seed)
        centre = torch.randn(1, d, generator=draw, dtype=torch.float64)
        C = centre + heterogeneity * torch.randn(n, d, generator=draw, dtype=torch.float64)
        A = 1.0 + min(heterogeneity, 1.0) * (torch.rand(n, d, generator=draw, dtype=torch.float64) - 0.5)
        return Quadratics(A, C, QuadraticWork(A, C, lr, steps))

    return make
