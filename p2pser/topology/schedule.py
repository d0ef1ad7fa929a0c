"""A schedule: which mixing matrix W_t each exchange t = 0, 1, 2, … uses. Pure in (seed, t): every peer computes it.

W_t[i, j] is what peer i gives to the message of peer j; so where it is not 0, j sends to i at exchange t. The
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
from p2pser.topology.mixing import by_hand

Stochastic = Literal["doubly", "row", "column"]

_ROUNDING = 1e-9
"""A sum of weights that is nearer to 1 than this is 1."""


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
        """After how many exchanges it repeats; None: it never does (random at every exchange)."""

    @property
    def stochastic(self) -> Stochastic:
        """What all W_t are: ``doubly``, else ``row`` (rows sum to 1) or ``column`` (columns do: for push-sum)."""

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells it from others, for digests: kind, parameters and seed; plain values, ready for JSON."""

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t`` >= 0: (N, N) float64, read-only. The same for the same t, on every machine."""

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that are ever used."""


def dense(size: int, entries: Iterable[Entry]) -> np.ndarray:
    """Return the read-only W (N, N) of entries with to != source; what they leave of each row goes on the diagonal."""
    return frozen(by_hand(size, entries))


def frozen(W: np.ndarray) -> np.ndarray:
    """Return W, made read-only."""
    W.setflags(write=False)
    return W


def stochastic_of(matrices: Iterable[np.ndarray], where: str) -> Stochastic:
    """Return what all the matrices are; TopologyError where neither all rows nor all columns sum to 1."""
    rows = columns = True
    for W in matrices:
        rows = rows and bool(np.allclose(W.sum(axis=1), 1.0, rtol=0, atol=_ROUNDING))
        columns = columns and bool(np.allclose(W.sum(axis=0), 1.0, rtol=0, atol=_ROUNDING))
    if not rows and not columns:
        raise TopologyError(f"{where}: neither the rows nor the columns of all mixing matrices sum to 1, so that no "
                            "algorithm keeps a mean; mix files of one sort, all column-stochastic ones for push-sum")
    return "doubly" if rows and columns else "row" if rows else "column"


def is_directed(W: np.ndarray) -> bool:
    """Whether W has w_ij without w_ji."""
    used = W != 0
    return bool((used != used.T).any())


FEW = 256
"""Up to so many peers whole periods are remembered (12 MB at most), of more peers two exchanges."""


@lru_cache(maxsize=24)
def _remembered(schedule: Computed, t: int) -> np.ndarray:
    return schedule.compute(t)


@lru_cache(maxsize=2)
def _remembered_briefly(schedule: Computed, t: int) -> np.ndarray:
    return schedule.compute(t)


@dataclass(frozen=True)
class Computed:
    """The base of schedules that compute W_t when it is asked for, from a few plain fields."""

    size: int

    @property
    def period(self) -> int | None:
        """After how many exchanges it repeats."""
        raise TypeError(f"{type(self).__name__} has no period")

    def compute(self, t: int) -> np.ndarray:
        """Return W_t, t < period where there is one; called again only when it is no longer remembered."""
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
        """What all W_t are."""
        return "doubly"

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""
        return False

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that are ever used; of a random schedule the complete one."""
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
        """Take W (N, N) float64, made read-only; TopologyError where neither its rows nor its columns sum to 1."""
        self._W = frozen(np.array(W, dtype=np.float64))
        self.size = len(W)
        self.stochastic: Stochastic = stochastic_of([self._W], where)
        self.directed = is_directed(self._W)

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        frozen(self._W)  # pickles forget it

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its weights, those of nobody left out."""
        i, j = np.nonzero(self._W)
        return {"kind": "static", "weights": [list(one) for one in zip(i.tolist(), j.tolist(), self._W[i, j].tolist())]}

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
    """Several schedules in turn, each for ``each`` exchanges; a schedule goes on where it last stopped."""

    parts: Sequence[Schedule]
    each: int = 1

    @property
    def size(self) -> int:
        """N: the number of peers."""
        return self.parts[0].size

    @cached_property
    def turn(self) -> int:
        """After how many exchanges it begins anew, with all its parts but random ones as at first."""
        periods = [part.period for part in self.parts if part.period is not None]
        turns = math.lcm(*(period // math.gcd(period, self.each) for period in periods))
        return turns * self.each * len(self.parts)

    @property
    def period(self) -> int | None:
        """After how many exchanges it repeats; None where a part is random."""
        return None if any(part.period is None for part in self.parts) else self.turn

    @property
    def stochastic(self) -> Stochastic:
        """What all W_t are."""
        sorts = {part.stochastic for part in self.parts} - {"doubly"}
        return sorts.pop() if sorts else "doubly"

    @property
    def directed(self) -> bool:
        """Whether some W_t has w_ij without w_ji."""
        return any(part.directed for part in self.parts)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Those of its parts."""
        return {"kind": "sequence", "each": self.each, "parts": [part.identity for part in self.parts]}

    def matrix(self, t: int) -> np.ndarray:
        """Return W of exchange ``t``: (N, N) float64, read-only."""
        block, within = divmod(t, self.each)
        turn, place = divmod(block, len(self.parts))
        return self.parts[place].matrix(turn * self.each + within)

    def links(self) -> nx.Graph:
        """Return the undirected graph of all pairs that are ever used."""
        return nx.compose_all([part.links() for part in self.parts])
