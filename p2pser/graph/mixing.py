"""Mixing weights: the share of each neighbour's row in a peer's row after an exchange.

Metropolis-Hastings weights need only the degree (and clip count) of the two ends: a peer computes its row of W from
its neighbours' HELLO messages, and both ends of an edge compute the same flow. The other rules need the graph, which
all peers have.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping

import networkx as nx
import numpy as np

from p2pser.base.errors import TopologyError
from p2pser.graph import spectral
from p2pser.graph.sparse import Sparse, links

NOTHING = 1e-6
"""The largest size of a solver's weight that counts as 0."""


def weight(degree_i: int, degree_j: int, count_i: float = 1, count_j: float = 1) -> float:
    """Return W_ij of an edge: ``min(1 / (d_i + 1), (n_j / n_i) / (d_j + 1))``.

    With equal counts these are the Metropolis-Hastings weights 1 / (1 + max(d_i, d_j)) of Xiao, Boyd and Kim
    2007, "Distributed average consensus with least-mean-square deviation"; with clip counts n, the chain of
    Hastings 1970 whose stationary distribution is pi = n / sum(n).

    Parameters
    ----------
    degree_i, degree_j : the numbers of neighbours of peers i and j.
    count_i, count_j : their clip counts; equal for uniform weights.

    >>> weight(2, 2) == 1 / 3
    True
    """
    return min(1.0 / (degree_i + 1), (count_j / count_i) / (degree_j + 1))


def metropolis(graph: nx.Graph, counts: Mapping[int, int] | None = None) -> np.ndarray:
    """Return the mixing matrix W of a graph on 0 .. N-1: (N, N) float64, non-negative, rows sum to 1.

    Without ``counts`` it is symmetric and doubly stochastic: it conserves the plain mean. With clip counts it
    conserves the clip-weighted mean, pi^T W = pi^T with pi = n / sum(n), and is reversible, pi_i W_ij =
    pi_j W_ji, but not symmetric. Raises TopologyError where a peer's count is missing or not positive.
    """
    return metropolis_entries(graph, counts).dense()


def metropolis_entries(graph: nx.Graph, counts: Mapping[int, int] | None = None) -> Sparse:
    """Return the entries of ``metropolis``, edge by edge; errors as there."""
    size = graph.number_of_nodes()
    n = np.array(_counts(size, counts))
    to, source = links(graph)
    degree = np.bincount(to, minlength=size)
    # The formula of ``weight``, for all edges at once.
    return Sparse.of(size, to, source, np.minimum(1.0 / (degree[to] + 1), n[source] / n[to] / (degree[source] + 1)))


def lazy(graph: nx.Graph) -> Sparse:
    """Return (I + W) / 2 of the Metropolis weights: no eigenvalue is negative, as D^2 and others need."""
    W = metropolis_entries(graph)
    return Sparse(W.to, W.source, W.weight / 2, W.own / 2 + 0.5)


def max_degree(graph: nx.Graph) -> Sparse:
    """Return I - L / (d_max + 1), L the Laplacian: the weight 1 / (d_max + 1) on every edge."""
    return _constant(graph, 1.0 / (max(degree for _, degree in graph.degree) + 1))


def best_constant(graph: nx.Graph) -> Sparse:
    """Return I - a L with a = 2 / (lambda_1 + lambda_{N-1}) of the Laplacian's eigenvalues, lambda_N = 0.

    The fastest of all weights that are the same on every edge (Xiao and Boyd 2004, "Fast linear iterations for
    distributed averaging"). The diagonal may be negative, as on a star.
    """
    size = _require_few(graph, "best-constant", 2048)
    if size < 2:
        return by_hand(size, ())
    degrees = [graph.degree(i) for i in range(size)]
    values = np.linalg.eigvalsh(nx.to_numpy_array(graph, nodelist=range(size)) * -1.0 + np.diag(degrees))
    return _constant(graph, float(2 / (values[-1] + values[1])))


def _require_few(graph: nx.Graph, rule: str, most: int) -> int:
    """Return the number of peers; TopologyError where it is more than ``most``."""
    size: int = graph.number_of_nodes()
    if size > most:
        raise TopologyError(f"weights: {rule} are found by a solver over dense matrices, for at most {most} peers, not "
                            f"{size}; use weights: metropolis")
    return size


def fastest(graph: nx.Graph) -> Sparse:
    """Return the symmetric W on the graph's edges with the least slem (Xiao and Boyd 2004), by convex optimisation.

    Rounded to 1e-9, and to 0 below ``NOTHING``: solvers that differ in the last digits must agree on the edges that
    carry rows. Entries may be negative. Raises TopologyError where cvxpy is missing (naming the extra), or the solver
    finds no optimum.
    """
    size = _require_few(graph, "fastest", 512)
    require_cvxpy()
    import cvxpy

    edges = sorted((min(edge), max(edge)) for edge in graph.edges)
    if not edges:
        return by_hand(size, ())
    incidence = np.zeros((size, len(edges)))
    for column, (i, j) in enumerate(edges):
        incidence[i, column], incidence[j, column] = 1.0, -1.0
    w, slem = cvxpy.Variable(len(edges)), cvxpy.Variable()
    W = np.eye(size) - incidence @ cvxpy.diag(w) @ incidence.T
    away, bound = W - np.full((size, size), 1 / size), slem * np.eye(size)
    problem = cvxpy.Problem(cvxpy.Minimize(slem), [away << bound, -bound << away])
    try:
        problem.solve(solver="CLARABEL")
    except cvxpy.error.SolverError as error:
        raise TopologyError(f"no fastest-mixing weights were found, as the solver stopped ({error}); use weights: "
                            "best-constant") from None
    if w.value is None:
        raise TopologyError(f"no fastest-mixing weights were found ({problem.status}); use weights: best-constant")
    weights = [round(float(x), 9) if abs(x) > NOTHING else 0.0 for x in w.value]
    return by_hand(size, [(i, j, x) for (i, j), x in zip(edges, weights) for i, j in ((i, j), (j, i))])


def require_cvxpy() -> None:
    """Raise TopologyError, naming the extra, where cvxpy is not installed."""
    if importlib.util.find_spec("cvxpy") is None:
        raise TopologyError("weights: fastest needs the package cvxpy; install it with pip install 'p2pser[optimal]', "
                            "or use weights: best-constant")


def out_degree(graph: nx.Graph) -> Sparse:
    """Return W with W_ij = 1 / (d_j + 1) for j itself and the d_j peers that j sends to.

    Column-stochastic, for push-sum (Kempe et al. 2003; Nedic and Olshevsky 2016): each peer divides its row evenly
    and needs to know only the number of its receivers. For directed graphs, whose edge (j, i) means that j sends to i.
    """
    size = graph.number_of_nodes()
    pairs = np.array([(i, j) for j in range(size) for i in graph.adj[j]], dtype=np.int64).reshape(-1, 2)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    share = 1.0 / (np.bincount(pairs[:, 1], minlength=size) + 1)
    return Sparse(pairs[:, 0], pairs[:, 1], share[pairs[:, 1]], share)


def by_hand(size: int, entries: Iterable[tuple[int, int, float]]) -> Sparse:
    """Return W of entries (i, j, W_ij), i != j; the diagonal completes each row to 1."""
    weights = {(i, j): value for i, j, value in entries}
    pairs = np.array(list(weights), dtype=np.int64).reshape(-1, 2)
    return Sparse.of(size, pairs[:, 0], pairs[:, 1], np.array(list(weights.values()), dtype=np.float64))


RULES: Mapping[str, Callable[[nx.Graph], Sparse]] = {
    "metropolis": metropolis_entries, "lazy": lazy, "max-degree": max_degree, "best-constant": best_constant,
    "fastest": fastest, "out-degree": out_degree,
}
"""The weight rules that a topology file can name; all but out-degree are symmetric, for undirected graphs."""


def _constant(graph: nx.Graph, weight: float) -> Sparse:
    to, source = links(graph)
    return Sparse.of(graph.number_of_nodes(), to, source, np.full(len(to), weight))


def _counts(size: int, counts: Mapping[int, int] | None) -> list[float]:
    if counts is None:
        return [1.0] * size
    for i in range(size):
        count = counts.get(i)
        if count is None or not math.isfinite(count) or count <= 0:
            raise TopologyError(f"the clip count of peer {i} is {count!r}; weighting by clips needs a "
                                "positive count of every peer")
    return [float(counts[i]) for i in range(size)]


def slow_weights(W_uniform: np.ndarray | Sparse, W_clips: np.ndarray | Sparse, *,
                 pi: np.ndarray | None = None) -> str | None:
    """Return a warning where clip weights need more than twice the exchanges of uniform ones to ``EPSILON``, else None.

    pi : the stationary distribution of ``W_clips``, the clip counts; a sparse ``W_clips`` needs it.

    A peer with many clips gives nearly no weight to a peer with few, so information between two large peers passes
    slowly through a small one.
    """
    uniform, clips = spectral.slem(W_uniform), spectral.slem(W_clips, pi)
    plain, weighted = spectral.rounds_to(spectral.EPSILON, uniform), spectral.rounds_to(spectral.EPSILON, clips)
    if plain is None or (weighted is not None and weighted <= 2 * plain):
        return None
    takes = "never ends" if weighted is None else f"takes {weighted} exchanges instead of {plain}"
    return (f"the clip counts are so unequal that weighting by clips slows gossip: the slem is {clips:.3f} "
            f"instead of {uniform:.3f}, and plain gossip to {spectral.EPSILON:g} {takes}; use gossip.weighting=uniform "
            "or link the largest holders to each other")
