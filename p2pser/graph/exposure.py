"""The peers whose rows a curious peer can compute by linear algebra from the rows that it receives.

In a phase of gossip without local work between the exchanges (feature statistics, the final consensus, several
exchanges in a round) every row that crosses an edge is a known linear combination of the peers' initial rows, since all
peers know W. A peer's initial row can be solved for where its unit vector lies in the row space of the combinations
received. An acceleration such as Chebyshev's only recombines the powers of W: the row space is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from p2pser.graph.spec import Topology

SMALLEST = 1e-11
"""Smaller singular values count as 0: the rounding of float64 rows (1e-16) would be magnified beyond 1e-5."""
MIXED = 1e-9
"""The largest squared share of other peers' rows in a row that counts as solved."""
EXCHANGES = 64
"""The number of exchanges from which the observer solves."""
ALL_OBSERVERS_UP_TO = 64
"""Number of peers up to which each is an observer; above, only the peer with the most neighbours."""


@dataclass(frozen=True)
class Exposure:
    """What a curious peer can solve for.

    observer : that peer. peers : the number of other peers whose initial row it can compute. exchanges : the number of
    exchanges after which it can.
    """

    observer: int
    peers: int
    exchanges: int


def solvable(matrices: Iterable[NDArray[np.float64]], observers: Sequence[int]) -> Iterator[tuple[frozenset[int], int]]:
    """Yield, after each exchange, the peers (without the observers) whose initial rows the observers can solve for
    together, and the dimension of the row space.

    matrices : W of each exchange, (N, N), W[i, j] the weight of j's row at peer i. observers : they know their own
    rows, and receive in each exchange the rows of the peers that they mix.
    """
    combinations: NDArray[np.float64] | None = None
    mixed: NDArray[np.float64] | None = None
    for W in matrices:
        if combinations is None or mixed is None:
            mixed = np.eye(len(W))
            combinations = mixed[list(observers)]
        received = np.flatnonzero((W[list(observers)] != 0).any(axis=0))
        values, directions = np.linalg.svd(np.vstack([combinations, mixed[received]]), full_matrices=False)[1:]
        known = values > SMALLEST
        combinations = values[known, None] * directions[known]
        mixed = W @ mixed
        within = np.square(directions[known]).sum(axis=0)
        yield frozenset(np.flatnonzero(within > 1 - MIXED).tolist()) - frozenset(observers), int(known.sum())


def exposure(topology: Topology) -> Exposure:
    """Return the largest of ``exposures``: of the same number of peers the earliest, then that of the lowest id."""
    return max(exposures(topology).values(), key=lambda each: (each.peers, -each.exchanges, -each.observer))


def exposures(topology: Topology) -> dict[int, Exposure]:
    """Return what each curious peer can solve for within ``EXCHANGES`` exchanges, by id; for more than
    ``ALL_OBSERVERS_UP_TO`` peers only that of the peer with the most neighbours.
    """
    if topology.size == 1:
        return {0: Exposure(0, 0, 0)}
    schedule = topology.schedule
    # The row space has its final dimension once it does not grow in an exchange of a static graph, or in a whole period
    # of a schedule.
    patience = 1 if schedule is None else schedule.period or EXCHANGES
    result = {}
    for observer in _observers(topology):
        solved, dimensions = [0], [1]
        for peers, dimension in solvable((topology.matrix(t) for t in range(EXCHANGES)), (observer,)):
            solved.append(len(peers))
            dimensions.append(dimension)
            full = len(dimensions) > patience and dimensions[-1 - patience] == dimension
            if len(peers) == topology.size - 1 or full:
                break
        result[observer] = Exposure(observer, solved[-1], solved.index(solved[-1]))
    return result


def _observers(topology: Topology) -> Iterable[int]:
    if topology.size <= ALL_OBSERVERS_UP_TO:
        return range(topology.size)
    return islice(sorted(topology.graph, key=lambda i: (-topology.graph.degree(i), i)), 1)
