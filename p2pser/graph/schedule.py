"""A schedule: the mixing matrix W_t of each exchange t = 0, 1, 2, … Pure in (seed, t): every peer computes it.

W_t[i, j] is the weight that peer i gives to the message of peer j; where it is not 0, j sends to i at exchange t. The
exchange index counts all training exchanges: t = round * slots + slot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, Protocol

import networkx as nx
import numpy as np

from p2pser.base.errors import TopologyError
from p2pser.graph.mixing import by_hand

Stochastic = Literal["doubly", "row", "column"]

_ROUNDING = 1e-9
"""A sum of weights counts as 1 up to this difference."""


class Entry(NamedTuple):
    """Peer ``to`` gives the message of peer ``source`` the weight ``weight``: W[to, source]."""

    to: int
    source: int
    weight: float


class Schedule(Protocol):
    """The mixing matrices of a run's exchanges."""

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


def dense(size: int, entries: Iterable[Entry]) -> np.ndarray:
    """Return the read-only W (N, N) of entries with to != source; the diagonal completes each row to 1."""
    return frozen(by_hand(size, entries))


def frozen(W: np.ndarray) -> np.ndarray:
    """Return W, made read-only."""
    W.setflags(write=False)
    return W


def stochastic_of(matrices: Iterable[np.ndarray], where: str) -> Stochastic:
    """Return how all matrices are stochastic; TopologyError where neither all rows nor all columns sum to 1."""
    rows = columns = True
    for W in matrices:
        rows = rows and bool(np.allclose(W.sum(axis=1), 1.0, rtol=0, atol=_ROUNDING))
        columns = columns and bool(np.allclose(W.sum(axis=0), 1.0, rtol=0, atol=_ROUNDING))
    if not rows and not columns:
        raise TopologyError(f"{where}: neither the rows nor the columns of all mixing matrices sum to 1, so that no "
                            "algorithm keeps a mean; combine files of one sort, column-stochastic ones for push-sum")
    return "doubly" if rows and columns else "row" if rows else "column"


def is_directed(W: np.ndarray) -> bool:
    """Whether W has w_ij without w_ji."""
    used = W != 0
    return bool((used != used.T).any())


FEW = 256
"""Up to this number of peers 24 matrices are cached (12 MB at most), for more peers 2."""


@lru_cache(maxsize=24)
def _remembered(schedule: Computed, t: int) -> np.ndarray:
    return schedule.compute(t)


@lru_cache(maxsize=2)
def _remembered_briefly(schedule: Computed, t: int) -> np.ndarray:
    return schedule.compute(t)


@dataclass(frozen=True)
class Computed:
    """The base class of schedules that compute W_t from a few plain fields when it is needed."""

    size: int

    @property
    def period(self) -> int | None:
        """The number of exchanges after which it repeats."""
        raise TypeError(f"{type(self).__name__} has no period")

    def compute(self, t: int) -> np.ndarray:
        """Return W_t, with t < period where there is one; the result is cached."""
        raise TypeError(f"{type(self).__name__} has no exchange {t}")

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its class and fields."""
        return {"kind": type(self).__name__, **vars(self)}

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t``: (N, N) float64, read-only."""
        if t < 0:
            raise TopologyError(f"there is no exchange {t} in a schedule: the first is 0")
        remembered = _remembered if self.size <= FEW else _remembered_briefly
        return remembered(self, t if self.period is None else t % self.period)

    @property
    def stochastic(self) -> Stochastic:
        """How all W_t are stochastic."""
        return "doubly"

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""
        return False

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that any exchange uses; the complete graph where it is random."""
        if self.period is None:
            return nx.complete_graph(self.size)
        graph = nx.empty_graph(self.size)
        for t in range(self.period):
            graph.add_edges_from(_pairs(self.matrix(t)))
        return graph


def _pairs(W: np.ndarray) -> list[tuple[int, int]]:
    used = np.triu((W != 0) | (W.T != 0), 1)
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(used))]


class Static:
    """The same W at every exchange: directed graphs, and weights given by hand."""

    period: int | None = 1

    def __init__(self, W: np.ndarray, where: str) -> None:
        """Take a copy of W (N, N) float64; TopologyError where neither its rows nor its columns sum to 1."""
        self._W = frozen(np.array(W, dtype=np.float64))
        self.size = len(W)
        self.stochastic: Stochastic = stochastic_of([self._W], where)
        self.directed = is_directed(self._W)

    def __reduce__(self) -> tuple[type[Static], tuple[np.ndarray, str]]:
        return Static, (self._W, "the pickled schedule")  # made anew, as a pickled array is no longer read-only

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its weights that are not 0."""
        i, j = np.nonzero(self._W)
        entries = zip(i.tolist(), j.tolist(), self._W[i, j].tolist())
        return {"kind": "static", "weights": [list(entry) for entry in entries]}

    def matrix(self, t: int) -> np.ndarray:
        """Return W: (N, N) float64, read-only."""
        return self._W

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that give each other weight."""
        graph = nx.empty_graph(self.size)
        graph.add_edges_from(_pairs(self._W))
        return graph


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
        """How all W_t are stochastic."""
        sorts = {part.stochastic for part in self.parts} - {"doubly"}
        return sorts.pop() if sorts else "doubly"

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
        block, within = divmod(t, self.each)
        turn, place = divmod(block, len(self.parts))
        return self.parts[place].matrix(turn * self.each + within)

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that any exchange uses."""
        return nx.compose_all([part.links() for part in self.parts])
