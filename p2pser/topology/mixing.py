"""Mixing weights: how much of each neighbour's row a peer takes in one exchange.

Metropolis-Hastings weights need only the degree (and clip count) of the two ends, so that a peer computes its
own row of W from what its neighbours tell at HELLO, and both ends of an edge find the same flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np

from p2pser.errors import TopologyError
from p2pser.topology import spectral


def weight(degree_i: int, degree_j: int, count_i: float = 1, count_j: float = 1) -> float:
    """Return W_ij of an edge: ``min(1 / (d_i + 1), (n_j / n_i) / (d_j + 1))``.

    With equal counts these are the Metropolis-Hastings weights 1 / (1 + max(d_i, d_j)) of Xiao, Boyd and Kim
    2007, "Distributed average consensus with least-mean-square deviation"; with clip counts n, the chain of
    Hastings 1970 whose stationary distribution is pi = n / sum(n).

    >>> weight(2, 2) == 1 / 3
    True
    """
    return min(1.0 / (degree_i + 1), (count_j / count_i) / (degree_j + 1))


def self_weight(weights: Sequence[float]) -> float:
    """Return W_ii: what the weights of the neighbours, ascending by id, leave of 1."""
    total = 0.0
    for one in weights:
        total += one
    return 1.0 - total


def metropolis(graph: nx.Graph, counts: Mapping[int, int] | None = None) -> np.ndarray:
    """Return the mixing matrix W of a graph on 0 .. N-1: (N, N) float64, non-negative, rows sum to 1.

    Without ``counts`` it is symmetric and doubly stochastic: it conserves the plain mean. With clip counts it
    conserves the clip-weighted mean, pi^T W = pi^T with pi = n / sum(n), and is reversible, pi_i W_ij =
    pi_j W_ji, but not symmetric. Raises TopologyError where a peer's count is missing or not positive.
    """
    size = graph.number_of_nodes()
    n = _counts(size, counts)
    degree = [graph.degree(i) for i in range(size)]
    matrix = np.zeros((size, size), dtype=np.float64)
    for i in range(size):
        neighbours = sorted(graph.neighbors(i))
        row = [weight(degree[i], degree[j], n[i], n[j]) for j in neighbours]
        matrix[i, neighbours] = row
        matrix[i, i] = self_weight(row)
    return matrix


def _counts(size: int, counts: Mapping[int, int] | None) -> list[float]:
    if counts is None:
        return [1.0] * size
    for i in range(size):
        count = counts.get(i)
        if count is None or not math.isfinite(count) or count <= 0:
            raise TopologyError(f"the clip count of peer {i} is {count!r}; weighting by clips needs a "
                                "positive count of every peer")
    return [float(counts[i]) for i in range(size)]


def slow_weights(W_uniform: np.ndarray, W_clips: np.ndarray, eps: float = 1e-6) -> str | None:
    """Return a sentence that warns of clip weights that mix much slower than uniform ones, or None.

    A large holder takes next to nothing from a small one, so what large holders tell each other through small
    ones passes slowly. Said where gossip to ``eps`` takes more than twice the exchanges.
    """
    uniform, clips = spectral.slem(W_uniform), spectral.slem(W_clips)
    plain, weighted = spectral.rounds_to(eps, uniform), spectral.rounds_to(eps, clips)
    if plain is not None and weighted is not None and weighted <= 2 * plain:
        return None
    if plain is None:
        return None
    takes = "never ends" if weighted is None else f"takes {weighted} exchanges instead of {plain}"
    return (f"the clip counts are so unequal that weighting by clips slows gossip: the slem is {clips:.3f} "
            f"instead of {uniform:.3f}, and plain gossip to {eps:g} {takes}; use gossip.weighting=uniform or "
            "link the largest holders to each other")
