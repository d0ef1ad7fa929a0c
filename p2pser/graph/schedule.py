"""Schedules: the mixing matrix W_t of each exchange t = 0, 1, 2, …, a function of (seed, t) that every peer computes.

W_t[i, j] is the weight of peer j's message at peer i; where it is not 0, j sends to i at exchange t. The index counts
all training exchanges: t = round * slots + slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import networkx as nx
import numpy as np

from p2pser.base.errors import TopologyError
from p2pser.graph.sparse import Sparse

Stochastic = Literal["doubly", "row", "column"]

_ROUNDING = 1e-9
"""A sum of weights counts as 1 up to this difference."""


class Schedule(Protocol):
    """The mixing matrices of a run's exchanges.

    A schedule may also have ``entries(t)``, which returns W as a ``graph.sparse.Sparse``: then runs of many peers need
    no dense matrix.
    """

    @property
    def size(self) -> int:
        """N: the number of peers."""

    @property
    def period(self) -> int | None:
        """The number of exchanges after which it repeats; None: never (drawn for each exchange)."""

    @property
    def stochastic(self) -> Stochastic:
        """``doubly``, ``row`` (the rows of all W_t sum to 1) or ``column`` (the columns do: for push-sum)."""

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Kind, parameters and seed, for digests; plain values, ready for JSON."""

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t`` >= 0: (N, N) float64, read-only; for the same t equal on every machine."""

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that any exchange uses."""


def entries_of(schedule: Schedule, t: int) -> Sparse:
    """Return the entries of W of exchange ``t``."""
    made: Callable[[int], Sparse] | None = getattr(schedule, "entries", None)
    return Sparse.from_dense(schedule.matrix(t)) if made is None else made(t)


def frozen(W: np.ndarray) -> np.ndarray:
    """Return W, made read-only."""
    W.setflags(write=False)
    return W


def stochastic_of(matrices: Iterable[Sparse], where: str) -> Stochastic:
    """Return the stochasticity of all matrices; TopologyError where neither all rows nor all columns sum to 1."""
    rows = columns = True
    for W in matrices:
        rows = rows and _all_one(W.own + np.bincount(W.to, W.weight, W.size))
        columns = columns and _all_one(W.own + np.bincount(W.source, W.weight, W.size))
    if not rows and not columns:
        raise TopologyError(f"{where}: neither the rows nor the columns of all mixing matrices sum to 1, so that no "
                            "algorithm keeps a mean; combine files that are all row-stochastic, or, for push-sum, all "
                            "column-stochastic")
    return "doubly" if rows and columns else "row" if rows else "column"


CHECKED = 32
"""The most exchanges whose matrices are checked of a schedule of another package."""


def require_true(schedule: Schedule, size: int) -> None:
    """Raise ValueError where a schedule has not ``size`` peers, or its first matrices are not what it says that they
    are: a mean would get lost in silence.
    """
    if schedule.size != size:
        raise ValueError(f"it has {schedule.size} peers")
    period = schedule.period
    if period is not None and (not isinstance(period, int) or period < 1):
        raise ValueError(f"its period is {period!r}, not a whole number from 1, or None")
    for t in range(min(period or CHECKED, CHECKED)):
        W = entries_of(schedule, t)
        weights = np.concatenate([W.weight, W.own])
        if W.size != size or not np.isfinite(weights).all() or weights.min() < -_ROUNDING:
            raise ValueError(f"W of exchange {t} must hold {size} by {size} weights, none below 0")
        found = stochastic_of([W], f"exchange {t}")
        if found not in ("doubly", schedule.stochastic):
            raise ValueError(f"it says that it is {schedule.stochastic} stochastic, and W of exchange {t} is {found} "
                             "stochastic only")
        if is_directed(W) and not schedule.directed:
            raise ValueError(f"it says that it is not directed, and W of exchange {t} is")


def _all_one(sums: np.ndarray) -> bool:
    return bool(np.allclose(sums, 1.0, rtol=0, atol=_ROUNDING))


def is_directed(W: Sparse) -> bool:
    """Whether W has w_ij without w_ji."""
    there, back = W.to * W.size + W.source, W.source * W.size + W.to
    return not np.array_equal(there, np.sort(back))


FEW = 256
"""Up to this number of peers 24 dense matrices are cached (12 MB at most), for more peers 2."""
MOST_RANDOM = 2048
"""The most peers of a schedule that is drawn for each exchange: any two of them may be linked (2 million links)."""


def _dense(schedule: Computed, t: int) -> np.ndarray:
    return frozen(schedule.compute(t).dense())


_of_few, _of_many = lru_cache(maxsize=24)(_dense), lru_cache(maxsize=2)(_dense)


@dataclass(frozen=True)
class Computed:
    """The base class of schedules that compute W_t from a few plain fields."""

    size: int

    @property
    def period(self) -> int | None:
        """The number of exchanges after which it repeats."""
        raise TypeError(f"{type(self).__name__} has no period")

    def compute(self, t: int) -> Sparse:
        """Return W_t, with t < period where there is one."""
        raise TypeError(f"{type(self).__name__} has no exchange {t}")

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its class and fields."""
        return {"kind": type(self).__name__, **vars(self)}

    def entries(self, t: int) -> Sparse:
        """Return the entries of W of exchange ``t``."""
        return self.compute(self._within(t))

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t``: (N, N) float64, read-only."""
        return (_of_few if self.size <= FEW else _of_many)(self, self._within(t))

    def _within(self, t: int) -> int:
        """Return the exchange within the period."""
        if t < 0:
            raise TopologyError(f"there is no exchange {t} in a schedule: the first is 0")
        return t if self.period is None else t % self.period

    @property
    def stochastic(self) -> Stochastic:
        """The stochasticity of all W_t."""
        return "doubly"

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""
        return False

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that any exchange uses; the complete graph where it is random."""
        if self.period is None:
            if self.size > MOST_RANDOM:
                raise TopologyError(f"a schedule that is drawn for each exchange may link any two of {self.size} "
                                    f"peers: take at most {MOST_RANDOM}, or one that repeats, such as base-2")
            return nx.complete_graph(self.size)
        return _graph(self.size, (self.compute(t) for t in range(self.period)))


def _graph(size: int, matrices: Iterable[Sparse]) -> nx.Graph:
    """Return the undirected graph of all pairs that give each other weight in some matrix."""
    pairs = [np.minimum(W.to, W.source) * size + np.maximum(W.to, W.source) for W in matrices]
    used = np.sort(np.concatenate(pairs))
    used = used[np.diff(used, prepend=-1) > 0]
    graph = nx.empty_graph(size)
    graph.add_edges_from(zip((used // size).tolist(), (used % size).tolist()))
    return graph


class Static:
    """The same W at every exchange: directed graphs, and weights given by hand."""

    period: int | None = 1

    def __init__(self, W: np.ndarray | Sparse, where: str) -> None:
        """Take W (N, N) float64; TopologyError where neither its rows nor its columns sum to 1."""
        self._W = W if isinstance(W, Sparse) else Sparse.from_dense(np.array(W, dtype=np.float64))
        self.size = self._W.size
        self.stochastic: Stochastic = stochastic_of([self._W], where)
        self.directed = is_directed(self._W)

    def __reduce__(self) -> tuple[type[Static], tuple[Sparse, str]]:
        return Static, (self._W, "the pickled schedule")

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its weights that are not 0."""
        off = zip(self._W.to.tolist(), self._W.source.tolist(), self._W.weight.tolist())
        own = ((i, i, value) for i, value in enumerate(self._W.own.tolist()) if value)
        return {"kind": "static", "weights": [list(entry) for entry in sorted((*off, *own))]}

    def entries(self, t: int) -> Sparse:
        """Return the entries of W."""
        return self._W

    @cached_property
    def _dense(self) -> np.ndarray:
        return frozen(self._W.dense())

    def matrix(self, t: int) -> np.ndarray:
        """Return W: (N, N) float64, read-only."""
        return self._dense

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that give each other weight."""
        return _graph(self.size, [self._W])


@dataclass(frozen=True, eq=False)
class Alternating:
    """Several schedules in turn, each for ``each`` exchanges; a schedule continues where it stopped."""

    parts: Sequence[Schedule]
    each: int = 1

    @property
    def size(self) -> int:
        """N: the number of peers."""
        return self.parts[0].size

    @cached_property
    def turn(self) -> int:
        """The number of exchanges after which all parts that are not random start again."""
        periods = [part.period for part in self.parts if part.period is not None]
        turns = math.lcm(*(period // math.gcd(period, self.each) for period in periods))
        return turns * self.each * len(self.parts)

    @property
    def period(self) -> int | None:
        """The number of exchanges after which it repeats; None where a part is random."""
        return None if any(part.period is None for part in self.parts) else self.turn

    @property
    def stochastic(self) -> Stochastic:
        """The stochasticity of all W_t."""
        others = [part.stochastic for part in self.parts if part.stochastic != "doubly"]
        return others[0] if others else "doubly"

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""
        return any(part.directed for part in self.parts)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identities of its parts."""
        return {"kind": "sequence", "each": self.each, "parts": [part.identity for part in self.parts]}

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t``: (N, N) float64, read-only."""
        part, at = self._turn_of(t)
        return part.matrix(at)

    def entries(self, t: int) -> Sparse:
        """Return the entries of W of exchange ``t``."""
        return entries_of(*self._turn_of(t))

    def _turn_of(self, t: int) -> tuple[Schedule, int]:
        block, within = divmod(t, self.each)
        turn, place = divmod(block, len(self.parts))
        return self.parts[place], turn * self.each + within

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that any exchange uses."""
        return nx.compose_all([part.links() for part in self.parts])
