"""What a flood and a consensus come to where nothing goes wrong, for all peers at once, without their messages.

The same exchanges, distances, rows and bytes as ``flood`` and ``consensus`` give to N peers that all live and lose no
message, up to rounding: matrix products instead of messages, so that a simulation's end grows with the links. Where the
graph looks the same from every peer, the Fourier transform takes the place of the products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from p2pser.gossip.agreement.consensus import Consensus, chebyshev
from p2pser.graph.paths import Balls, balls
from p2pser.graph.sparse import Array, Index, Sparse
from p2pser.graph.translations import convolution

BLOCK = 1 << 18
"""Numbers of a block of columns, all of whose exchanges are computed before the next block's: 2 MB."""

Worst = Callable[[Array, Index, Index], float]
"""(rows, i, j) -> the largest difference over the links {i, j}, relative to each of their ends."""


@dataclass(frozen=True)
class Foreseen:
    """How a consensus ends, the consensus distance before each exchange, and how often each peer posts."""

    final: Consensus
    distances: tuple[float, ...]
    posts: Index


class Foresight:
    """What can be known of the peers' agreements beforehand, from the weights of a connected undirected graph.

    weights : the Metropolis weights by which the rows of the consensus are mixed.
    """

    def __init__(self, weights: Sparse) -> None:
        self.weights = weights
        self.same = convolution(weights)

    @cached_property
    def _balls(self) -> Balls:
        return balls(self.weights, costs(self.weights.size), self.same, first=64)

    def flood(self) -> tuple[Index, Index]:
        """Return the bytes and the messages (N,) that each peer sends in a flood of empty values."""
        size, around = self.weights.size, self._balls
        steps = np.arange(len(around.count))[:, None]
        headers = np.select([around.count < 16, around.count < 1 << 16], [1, 3], 5) * (steps <= around.furthest)
        beyond = np.maximum(0, around.furthest + 1 - len(around.count)) * (3 if size < 1 << 16 else 5)
        each = 3 * (around.furthest + 1) + headers.sum(0) + beyond + around.total.astype(np.int64)
        return self.weights.sent * each, self.weights.sent * (around.furthest + 1)

    def consensus(self, rows: Tensor, tolerance: float, *, slem: float, max_exchanges: int, worst: Worst | None = None,
                  share: Tensor | None = None) -> Foreseen:
        """Return how the consensus on rows (N, D) ends (``consensus.consensus``).

        Parameters
        ----------
        rows, tolerance, slem, max_exchanges : as there.
        worst : the measure; default: the norm of the difference, relative to the own row's.
        share : (N,) float64, the weights of the mean from which distances are measured; None: none are.
        """
        furthest = self._balls.furthest
        diameter = max(1, int(furthest.max()))
        within = max(tolerance, 32 * diameter * np.finfo(np.float64).eps.item())
        every, course = math.ceil(diameter / 2), self._course(rows, slem, share, worst)
        bounds: dict[int, float] = {}
        agreed_at, at = None, 0
        while at < max_exchanges:
            if at + int(furthest.min()) < max_exchanges and course.may_agree(at, within / diameter):
                bounds[at] = diameter * course.worst(at)
                if bounds[at] <= within:
                    agreed_at = at
                    break
            course.advance(min(at + every, max_exchanges))
            at += every
        if agreed_at is None:
            last = (max_exchanges - 1 - furthest) // every * every
            bound = max(math.inf if k < 0 else bounds.get(k) or diameter * course.worst_before(k)
                        for k in np.unique(last).tolist())
            final = Consensus(course.rows(), bound, max_exchanges, (), False)
            return Foreseen(final, tuple(course.distances), np.full(len(furthest), max_exchanges))
        exchanges = min(agreed_at + int(furthest.max()) + 2, max_exchanges)
        ends = agreed_at + furthest  # the exchange in which each peer adopts its row
        adopted = course.rows()
        all_end = bool((ends < max_exchanges).all())
        course.advance(exchanges, ends)
        if not all_end:
            adopted[torch.from_numpy(ends >= max_exchanges)] = course.rows()[torch.from_numpy(ends >= max_exchanges)]
        return Foreseen(Consensus(adopted, bounds[agreed_at], exchanges, (), all_end), tuple(course.distances),
                        np.minimum(ends + 2, exchanges))

    def _course(self, rows: Tensor, slem: float, share: Tensor | None, worst: Worst | None) -> _Course:
        alike = share is None or bool((share == share[0]).all())
        kind = _Transformed if self.same is not None and alike else _Iterated
        return kind(self, rows, slem, share, worst)


class _Course(Protocol):
    """The rows of a consensus, exchange after exchange."""

    distances: list[float]
    """Before each exchange so far."""

    def may_agree(self, at: int, within: float) -> bool:
        """Return False where the largest difference before exchange ``at``, the next one, is certainly larger."""

    def worst(self, at: int) -> float:
        """Return the largest difference before the next exchange, ``at``."""

    def worst_before(self, at: int) -> float:
        """Return the largest difference before an earlier exchange at which ``worst`` was not asked for."""

    def advance(self, until: int, ends: Index | None = None) -> None:
        """Go on to exchange ``until``; peer i takes no part in those after ``ends[i]``."""

    def rows(self) -> Tensor:
        """Return a copy of the rows before the next exchange (N, D) float64."""


class _Iterated:
    """Any graph: exchange by exchange, a block of columns at a time."""

    def __init__(self, known: Foresight, rows: Tensor, slem: float, share: Tensor | None, worst: Worst | None) -> None:
        wide = rows.to(torch.float64, copy=True)
        # Coordinates in the span of the rows: an isometry, where it saves more than it costs.
        self._basis = torch.linalg.qr(wide.T)[0] if worst is None and rows.shape[1] > 4 * rows.shape[0] else None
        self._y: Array = (wide if self._basis is None else wide @ self._basis).numpy()
        self._before = self._y.copy()
        self._matrix = known.weights.csr()
        self._links = _links(known.weights)
        self._slem, self._worst = slem, worst or largest_norm
        self._share = None if share is None else share.to(torch.float64).numpy()
        self._at, self._omega = 0, 1.0
        self._seen: dict[int, float] = {}
        self.distances: list[float] = []

    def may_agree(self, at: int, within: float) -> bool:
        return True

    def worst(self, at: int) -> float:
        if at not in self._seen:
            self._seen[at] = self._worst(self._y, *self._links)
        return self._seen[at]

    def worst_before(self, at: int) -> float:
        return self._seen[at]

    def advance(self, until: int, ends: Index | None = None) -> None:
        self.worst(self._at)
        omegas = list(_omegas(self._slem, self._at, until, self._omega))
        apart, means = np.zeros(len(omegas)), np.zeros(len(omegas))
        columns = max(1, BLOCK // len(self._y))
        for start in range(0, self._y.shape[1], columns):
            part = slice(start, start + columns)
            y, before = self._y[:, part].copy(), self._before[:, part].copy()
            for e, omega in enumerate(omegas):
                if self._share is not None:
                    mean = self._share @ y
                    apart[e] += ((y - mean) ** 2).sum()
                    means[e] += (mean**2).sum()
                mixed = self._matrix @ y
                if ends is not None and (over := ends < self._at + e).any():
                    mixed[over] = y[over]
                if self._at + e:
                    mixed -= before
                    mixed *= omega
                    mixed += before
                y, before = mixed, y
            self._y[:, part], self._before[:, part] = y, before
        if self._share is not None:
            self.distances += np.sqrt(apart / len(self._y) / means).tolist()
        self._at, self._omega = until, omegas[-1] if omegas else self._omega

    def rows(self) -> Tensor:
        rows = torch.from_numpy(self._y)
        return rows.clone() if self._basis is None else rows @ self._basis.T


class _Transformed:
    """A graph that looks the same from every peer: each frequency is multiplied by a polynomial of its eigenvalue."""

    def __init__(self, known: Foresight, rows: Tensor, slem: float, share: Tensor | None, worst: Worst | None) -> None:
        assert known.same is not None
        self._same, self._rows = known.same, rows
        self._links, self._slem = _links(known.weights), slem
        self._worst, self._by_norm = worst or largest_norm, worst is None
        self._values, size = self._same.eigenvalues, len(rows)
        self._factor, self._before = np.ones(size), np.ones(size)
        self._kept: dict[int, Array] = {}
        self._power = np.zeros(size)
        for _, block in self._blocks():
            self._power += (np.abs(self._same.forward(block)) ** 2).sum(1)
        self._weight = float(known.weights.weight.max()) if len(known.weights.weight) else 1.0
        self._measured, self._at, self._omega = share is not None, 0, 1.0
        self.distances: list[float] = []

    def may_agree(self, at: int, within: float) -> bool:
        """The mean over the links is at most the largest; no row is longer than the mean and all deviations."""
        if not self._by_norm:
            return True
        size, edges = len(self._factor), 2 * len(self._links[0])
        power = self._factor**2 * self._power / size
        between = 2 * float(((1 - self._values) * power)[1:].sum()) / (self._weight * edges)
        longest = math.sqrt(power[0] / size) + math.sqrt(power[1:].sum())
        return math.sqrt(max(0.0, between)) <= within * longest * (1 + 1e-6)

    def worst(self, at: int) -> float:
        return self._worst(self.rows().numpy(), *self._links)

    def worst_before(self, at: int) -> float:
        return self._worst(self._rows_of(self._kept[at]).numpy(), *self._links)

    def advance(self, until: int, ends: Index | None = None) -> None:
        self._kept[self._at] = self._factor
        size = len(self._factor)
        for e, omega in enumerate(_omegas(self._slem, self._at, until, self._omega), self._at):
            if self._measured:
                power = self._factor**2 * self._power
                self.distances.append(math.sqrt(power[1:].sum() / size / size / (power[0] / size**2)))
            mixed = self._values * self._factor
            if e:
                mixed = (mixed - self._before) * omega + self._before
            self._factor, self._before, self._omega = mixed, self._factor, omega
        self._at = until

    def rows(self) -> Tensor:
        return self._rows_of(self._factor)

    def _rows_of(self, factor: Array) -> Tensor:
        made = np.empty(tuple(self._rows.shape))
        for part, block in self._blocks():
            made[:, part] = self._same.backward(self._same.forward(block) * factor[:, None])
        return torch.from_numpy(made)

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        columns = max(1, BLOCK // len(self._rows))
        for start in range(0, self._rows.shape[1], columns):
            part = slice(start, start + columns)
            yield part, self._rows[:, part].to(torch.float64).numpy()


def costs(size: int) -> Index:
    """Return the bytes of each peer's id with an empty value in a flood's message, (N,)."""
    ids = np.arange(size)
    return np.select([ids < 1 << 7, ids < 1 << 8, ids < 1 << 16], [4, 5, 6], 8).astype(np.int64)


def largest_norm(rows: Array, i: Index, j: Index) -> float:
    """Return the largest ||x_i - x_j|| / ||x_i|| over links, both ways (``consensus.relative_norm``)."""
    norms = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    worst, block = 0.0, max(1, BLOCK // max(1, rows.shape[1]))
    for at in range(0, len(i), block):
        a, b = i[at : at + block], j[at : at + block]
        apart = np.linalg.norm(rows[a] - rows[b], axis=1) / np.minimum(norms[a], norms[b])
        worst = max(worst, float(np.nan_to_num(apart, nan=math.inf).max(initial=0.0)))
    return worst


def largest_of_sums(rows: Array, i: Index, j: Index) -> float:
    """Return the largest difference of rows of sums over links, both ways (``statistics.relative_sums``)."""
    features = (rows.shape[1] - 1) // 2
    count, squares = np.abs(rows[:, :1]), np.abs(rows[:, 1 + features :])
    scale = np.concatenate([count, np.sqrt(count * squares), squares], axis=1)
    worst, block = 0.0, max(1, BLOCK // max(1, rows.shape[1]))
    for at in range(0, len(i), block):
        a, b = i[at : at + block], j[at : at + block]
        apart, least = np.abs(rows[a] - rows[b]), np.minimum(scale[a], scale[b])
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(apart == 0, 0.0, apart / least)
        worst = max(worst, float(np.nan_to_num(relative, nan=math.inf, posinf=math.inf).max(initial=0.0)))
    return worst


def _links(weights: Sparse) -> tuple[Index, Index]:
    once = weights.to < weights.source
    return weights.to[once], weights.source[once]


def _omegas(slem: float, start: int, until: int, omega: float) -> Iterator[float]:
    for exchange in range(start, until):
        omega = chebyshev(omega, slem, exchange)
        yield omega
