"""The kinds of graphs that p2pser makes itself: shapes, parameters, and the sizes that exist."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

MAX_PEERS = 10_000
"""More peers than this are taken for a slip of the pen (weights and theory are dense N x N matrices)."""


@dataclass(frozen=True)
class Kind:
    """How a kind is made, ``make(peers, **parameters)``; ``fits`` says if it exists with so many peers.

    ``make`` gives a graph (a DiGraph for directed kinds), or, for the schedules of ``families``, a Schedule.
    """

    make: Callable[..., Any]
    parameters: Mapping[str, type]
    fits: Callable[..., bool]
    needs: str
    random: bool = False


# ---- the kinds ---------------------------------------------------------------------------------------------

def _ring(peers: int) -> nx.Graph:
    return nx.cycle_graph(peers) if peers > 1 else nx.empty_graph(peers)


def _star(peers: int) -> nx.Graph:
    return nx.star_graph(peers - 1)


def sides(peers: int, rows: int | None = None, columns: int | None = None) -> tuple[int, int] | None:
    """Return (rows, columns) of a grid of so many peers, as square as possible where they are not given.

    None where there is no such grid with both sides of 2 or more.
    """
    if rows is None and columns is None:
        rows = max(side for side in range(1, math.isqrt(peers) + 1) if peers % side == 0)
    rows = rows or peers // (columns or 1)
    columns = columns or peers // rows
    return (rows, columns) if rows * columns == peers and min(rows, columns) >= 2 else None


def _lattice(peers: int, periodic: bool, rows: int | None, columns: int | None) -> nx.Graph:
    shape = sides(peers, rows, columns)
    assert shape is not None
    return nx.grid_2d_graph(*shape, periodic=periodic)


def _grid(peers: int, rows: int | None = None, columns: int | None = None) -> nx.Graph:
    return _lattice(peers, False, rows, columns)


def _torus(peers: int, rows: int | None = None, columns: int | None = None) -> nx.Graph:
    return _lattice(peers, True, rows, columns)


def _hypercube(peers: int) -> nx.Graph:
    bits = range(peers.bit_length() - 1)
    graph = nx.empty_graph(peers)
    graph.add_edges_from((i, i ^ (1 << bit)) for i in range(peers) for bit in bits if i < i ^ (1 << bit))
    return graph


def _tree(peers: int, branching: int = 2) -> nx.Graph:
    graph = nx.empty_graph(peers)
    graph.add_edges_from(((child - 1) // branching, child) for child in range(1, peers))
    return graph


def _exponential(peers: int) -> nx.Graph:
    """Link peer i to i + 2^k mod N: the static exponential graph of Ying et al. 2021, made undirected."""
    graph = nx.empty_graph(peers)
    graph.add_edges_from((i, (i + hop) % peers) for i in range(peers) for hop in hops(peers))
    return graph


def _regular_degree(peers: int, degree: int | None) -> int:
    return min(4, peers - 1) if degree is None else degree


def _random_regular(peers: int, degree: int | None = None, *, seed: int) -> nx.Graph:
    return nx.random_regular_graph(_regular_degree(peers, degree), peers, seed=seed)


def _regular_fits(peers: int, degree: int | None = None, **_: Any) -> bool:
    degree = _regular_degree(peers, degree)
    return degree < peers and degree * peers % 2 == 0


def _erdos_renyi(peers: int, probability: float | None = None, *, seed: int) -> nx.Graph:
    # Twice the threshold of connectedness, ln(N) / N (Erdos and Renyi 1960): connected in nearly every draw.
    default = min(1.0, 2 * math.log(peers) / peers) if peers > 1 else 0.0
    return nx.gnp_random_graph(peers, default if probability is None else probability, seed=seed)


def _ring_degree(peers: int, degree: int | None) -> int:
    return min(4, (peers - 1) // 2 * 2) if degree is None else degree


def _watts_strogatz(
    peers: int, degree: int | None = None, probability: float = 0.2, *, seed: int
) -> nx.Graph:
    return nx.watts_strogatz_graph(peers, _ring_degree(peers, degree), probability, seed=seed)


def _ring_degree_fits(peers: int, degree: int | None = None, **_: Any) -> bool:
    degree = _ring_degree(peers, degree)
    return peers >= 3 and 2 <= degree < peers and degree % 2 == 0


def _barbell(peers: int, bridge: int | None = None) -> nx.Graph:
    between = peers % 2 if bridge is None else bridge
    return nx.barbell_graph((peers - between) // 2, between)


def _barbell_fits(peers: int, bridge: int | None = None) -> bool:
    between = peers % 2 if bridge is None else bridge
    return peers - between >= 4 and (peers - between) % 2 == 0


def cliques(peers: int, clusters: int | None = None) -> list[range]:
    """Return the peers of each clique of a clustered graph: near-equal sizes, the larger first."""
    number = round(math.sqrt(peers)) if clusters is None else clusters
    sizes = [peers // number + (place < peers % number) for place in range(number)]
    starts = [sum(sizes[:place]) for place in range(number)]
    return [range(start, start + size) for start, size in zip(starts, sizes)]


def _clustered(peers: int, clusters: int | None = None) -> nx.Graph:
    """Join cliques in a ring: the last of each to the first of the next."""
    groups = cliques(peers, clusters)
    graph = nx.empty_graph(peers)
    for place, group in enumerate(groups):
        graph.add_edges_from((i, j) for i in group for j in group if i < j)
        end, start = group[-1], groups[(place + 1) % len(groups)][0]
        if len(groups) > 1 and end != start:
            graph.add_edge(end, start)
    return graph


def _clustered_fits(peers: int, clusters: int | None = None) -> bool:
    return clusters is None or clusters <= peers


def _random_geometric(peers: int, radius: float | None = None, *, seed: int) -> nx.Graph:
    # Twice the area of the threshold of connectedness, pi r^2 = ln(N) / N (Penrose 1997).
    default = math.sqrt(2 * math.log(peers) / (math.pi * peers)) if peers > 1 else 0.0
    reach = default if radius is None else radius
    raw = np.random.Philox(seed).random_raw(2 * peers)
    at = np.asarray(raw, dtype=np.float64).reshape(peers, 2) / 2.0**64
    graph = nx.empty_graph(peers)
    for i in range(peers):
        graph.nodes[i]["pos"] = (float(at[i, 0]), float(at[i, 1]))
        near = np.flatnonzero(((at[i + 1:] - at[i]) ** 2).sum(axis=1) <= reach * reach)
        graph.add_edges_from((i, int(i + 1 + j)) for j in near)
    return graph


def _new_links(peers: int, m: int | None) -> int:
    return min(2, peers - 1) if m is None else m


def _barabasi_albert(peers: int, m: int | None = None, *, seed: int) -> nx.Graph:
    return nx.barabasi_albert_graph(peers, _new_links(peers, m), seed=seed)


def _barabasi_albert_fits(peers: int, m: int | None = None) -> bool:
    return 1 <= _new_links(peers, m) < peers


def _directed_ring(peers: int) -> nx.DiGraph:
    graph = nx.empty_graph(peers, create_using=nx.DiGraph)
    graph.add_edges_from((i, (i + 1) % peers) for i in range(peers) if peers > 1)
    return graph


def hops(peers: int) -> list[int]:
    """Return 1, 2, 4, … below ``peers``: how far the exponential graphs reach, ceil(log2 N) hops."""
    return [1 << k for k in range((peers - 1).bit_length())]


def _directed_exponential(peers: int) -> nx.DiGraph:
    """Peer i sends to i + 2^k mod N: the static exponential graph of Ying et al. 2021, as published."""
    graph = nx.empty_graph(peers, create_using=nx.DiGraph)
    graph.add_edges_from((i, (i + hop) % peers) for i in range(peers) for hop in hops(peers))
    return graph


def _random_digraph(peers: int, probability: float | None = None, *, seed: int) -> nx.DiGraph:
    """Each directed link with the same probability; as for erdos-renyi, twice the threshold's by default."""
    default = min(1.0, 2 * math.log(peers) / peers) if peers > 1 else 0.0
    return nx.gnp_random_graph(peers, default if probability is None else probability, seed=seed, directed=True)


def always(peers: int, **_: Any) -> bool:
    return peers >= 1


def _lattice_fits(peers: int, rows: int | None = None, columns: int | None = None) -> bool:
    return sides(peers, rows, columns) is not None


def power_of_two(peers: int) -> bool:
    return peers >= 1 and peers & (peers - 1) == 0


_SIDES = {"rows": int, "columns": int}
KINDS: Mapping[str, Kind] = {
    "ring": Kind(_ring, {}, always, "one peer or more"),
    "chain": Kind(nx.path_graph, {}, always, "one peer or more"),
    "star": Kind(_star, {}, always, "one peer or more"),
    "complete": Kind(nx.complete_graph, {}, always, "one peer or more"),
    "grid": Kind(_grid, _SIDES, _lattice_fits, "rows x columns peers, both 2 or more"),
    "torus": Kind(_torus, _SIDES, _lattice_fits, "rows x columns peers, both 2 or more"),
    "hypercube": Kind(_hypercube, {}, power_of_two, "a power of two of peers"),
    "tree": Kind(_tree, {"branching": int}, always, "one peer or more"),
    "exponential": Kind(_exponential, {}, always, "one peer or more"),
    "random-regular": Kind(_random_regular, {"degree": int, "seed": int}, _regular_fits,
                           "more peers than the degree, and peers x degree even", random=True),
    "erdos-renyi": Kind(_erdos_renyi, {"probability": float, "seed": int}, always, "one peer or more",
                        random=True),
    "watts-strogatz": Kind(_watts_strogatz, {"degree": int, "probability": float, "seed": int},
                           _ring_degree_fits, "an even degree of 2 or more, and more peers than that",
                           random=True),
    "barbell": Kind(_barbell, {"bridge": int}, _barbell_fits, "two equal cliques of 2 or more beside the bridge"),
    "clustered": Kind(_clustered, {"clusters": int}, _clustered_fits, "as many peers as clusters or more"),
    "random-geometric": Kind(_random_geometric, {"radius": float, "seed": int}, always, "one peer or more",
                             random=True),
    "barabasi-albert": Kind(_barabasi_albert, {"m": int, "seed": int}, _barabasi_albert_fits,
                            "more peers than m", random=True),
    "directed-ring": Kind(_directed_ring, {}, always, "one peer or more"),
    "directed-exponential": Kind(_directed_exponential, {}, always, "one peer or more"),
    "random-digraph": Kind(_random_digraph, {"probability": float, "seed": int}, always, "one peer or more",
                           random=True),
}
"""The static kinds that p2pser makes itself, with their parameters (all optional)."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "rows": (1, MAX_PEERS), "columns": (1, MAX_PEERS), "branching": (1, MAX_PEERS), "degree": (1, MAX_PEERS),
    "bridge": (0, MAX_PEERS), "clusters": (1, MAX_PEERS), "radius": (0, 2), "m": (1, MAX_PEERS),
    "k": (1, MAX_PEERS), "s": (1, MAX_PEERS), "probability": (0, 1), "seed": (0, 2**63 - 1),
}
CHOICES: Mapping[str, tuple[str, ...]] = {"form": ("oracle", "local")}
"""The words that parameters of type str can be, the default first."""
