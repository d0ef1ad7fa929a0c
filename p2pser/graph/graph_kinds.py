"""The built-in kinds of graphs, each with its parameters and the sizes that exist."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np

from p2pser.graph.kind import MAX_PEERS, register_graph

PROBABILITY = {"probability": (0, 1)}

# ---- sizes -------------------------------------------------------------------------------------------------


def sides(peers: int, rows: int | None = None, columns: int | None = None) -> tuple[int, int] | None:
    """Return (rows, columns) of a grid with this number of peers, as square as possible where they are not given.

    None where there is no such grid with both sides of 2 or more.
    """
    if rows is None and columns is None:
        rows = max(side for side in range(1, math.isqrt(peers) + 1) if peers % side == 0)
    rows = rows or peers // (columns or 1)
    columns = columns or peers // rows
    return (rows, columns) if rows * columns == peers and min(rows, columns) >= 2 else None


def hops(peers: int) -> list[int]:
    """Return 1, 2, 4, … below ``peers``: the ceil(log2 N) distances that exponential graphs link."""
    return [1 << k for k in range((peers - 1).bit_length())]


def cliques(peers: int, clusters: int | None = None) -> list[range]:
    """Return the peers of each clique of a clustered graph: of nearly equal sizes, the larger first."""
    number = round(math.sqrt(peers)) if clusters is None else clusters
    sizes = [peers // number + (place < peers % number) for place in range(number)]
    starts = [sum(sizes[:place]) for place in range(number)]
    return [range(start, start + size) for start, size in zip(starts, sizes)]


def power_of_two(peers: int) -> bool:
    """Whether the number of peers is 1, 2, 4, …"""
    return peers >= 1 and peers & (peers - 1) == 0


def _lattice_fits(peers: int, rows: int | None = None, columns: int | None = None) -> bool:
    return sides(peers, rows, columns) is not None


def _regular_degree(peers: int, degree: int | None) -> int:
    return min(4, peers - 1) if degree is None else degree


def _regular_fits(peers: int, degree: int | None = None) -> bool:
    degree = _regular_degree(peers, degree)
    return degree < peers and degree * peers % 2 == 0


def _ring_degree(peers: int, degree: int | None) -> int:
    return min(4, (peers - 1) // 2 * 2) if degree is None else degree


def _ring_degree_fits(peers: int, degree: int | None = None, **_: Any) -> bool:
    degree = _ring_degree(peers, degree)
    return peers >= 3 and 2 <= degree < peers and degree % 2 == 0


def _bridge(peers: int, bridge: int | None) -> int:
    return peers % 2 if bridge is None else bridge


def _barbell_fits(peers: int, bridge: int | None = None) -> bool:
    rest = peers - _bridge(peers, bridge)
    return rest >= 4 and rest % 2 == 0


def _clustered_fits(peers: int, clusters: int | None = None) -> bool:
    return clusters is None or clusters <= peers


def _new_links(peers: int, m: int | None) -> int:
    return min(2, peers - 1) if m is None else m


def _barabasi_albert_fits(peers: int, m: int | None = None) -> bool:
    return 1 <= _new_links(peers, m) < peers


def _connecting_probability(peers: int) -> float:
    """Return twice the threshold ln(N) / N (Erdos and Renyi 1960): nearly every draw is connected."""
    return min(1.0, 2 * math.log(peers) / peers) if peers > 1 else 0.0


# ---- undirected graphs -------------------------------------------------------------------------------------

@register_graph("ring")
def ring(peers: int) -> nx.Graph:
    """Two neighbours each, in a circle."""
    return nx.cycle_graph(peers) if peers > 1 else nx.empty_graph(peers)


@register_graph("chain")
def chain(peers: int) -> nx.Graph:
    """Peers in a row."""
    return nx.path_graph(peers)


def _star_fits(peers: int, centres: int = 1) -> bool:
    return 1 <= centres <= peers


@register_graph("star", fits=_star_fits, needs="1 centre or more, and as many peers or more")
def star(peers: int, centres: int = 1) -> nx.Graph:
    """Peer 0 linked to all others; with several ``centres`` each of the first peers."""
    graph = nx.star_graph(peers - 1)
    graph.add_edges_from((c, i) for c in range(1, centres) for i in range(c + 1, peers))
    return graph


@register_graph("complete")
def complete(peers: int) -> nx.Graph:
    """Every peer linked to every other."""
    return nx.complete_graph(peers)


@register_graph("grid", fits=_lattice_fits, needs="rows x columns peers, both 2 or more")
def grid(peers: int, rows: int | None = None, columns: int | None = None) -> nx.Graph:
    """A lattice of rows and columns, as square as possible."""
    return nx.grid_2d_graph(*(sides(peers, rows, columns) or ()), periodic=False)


@register_graph("torus", fits=_lattice_fits, needs="rows x columns peers, both 2 or more")
def torus(peers: int, rows: int | None = None, columns: int | None = None) -> nx.Graph:
    """A grid whose opposite borders are linked."""
    return nx.grid_2d_graph(*(sides(peers, rows, columns) or ()), periodic=True)


@register_graph("hypercube", fits=power_of_two, needs="a power of two of peers")
def hypercube(peers: int) -> nx.Graph:
    """Peers whose ids differ in one bit."""
    graph = nx.empty_graph(peers)
    graph.add_edges_from((i, i ^ hop) for i in range(peers) for hop in hops(peers) if i < i ^ hop)
    return graph


@register_graph("tree")
def tree(peers: int, branching: int = 2) -> nx.Graph:
    """A balanced tree, each peer with ``branching`` children."""
    graph = nx.empty_graph(peers)
    graph.add_edges_from(((child - 1) // branching, child) for child in range(1, peers))
    return graph


@register_graph("exponential")
def exponential(peers: int) -> nx.Graph:
    """Peer i linked to i + 2^k mod N: the static exponential graph of Ying et al. 2021, made undirected."""
    graph = nx.empty_graph(peers)
    graph.add_edges_from((i, (i + hop) % peers) for i in range(peers) for hop in hops(peers))
    return graph


@register_graph("random-regular", fits=_regular_fits, needs="more peers than the degree, and peers x degree even")
def random_regular(peers: int, degree: int | None = None, *, seed: int) -> nx.Graph:
    """Random neighbours, the same number (by default 4) for each peer."""
    return nx.random_regular_graph(_regular_degree(peers, degree), peers, seed=seed)


@register_graph("erdos-renyi", limits=PROBABILITY)
def erdos_renyi(peers: int, probability: float | None = None, *, seed: int) -> nx.Graph:
    """Each link with the same probability, by default twice the threshold of connectedness."""
    return nx.gnp_random_graph(peers, _connecting_probability(peers) if probability is None else probability, seed=seed)


@register_graph("watts-strogatz", fits=_ring_degree_fits, limits=PROBABILITY,
                needs="an even degree of 2 or more, and more peers than that")
def watts_strogatz(peers: int, degree: int | None = None, probability: float = 0.2, *, seed: int) -> nx.Graph:
    """A ring with some links rewired at random: a small world."""
    return nx.watts_strogatz_graph(peers, _ring_degree(peers, degree), probability, seed=seed)


@register_graph("barbell", fits=_barbell_fits, limits={"bridge": (0, MAX_PEERS)},
                needs="two equal cliques of 2 or more beside the bridge")
def barbell(peers: int, bridge: int | None = None) -> nx.Graph:
    """Two cliques joined by one link, or by a chain of ``bridge`` peers."""
    between = _bridge(peers, bridge)
    return nx.barbell_graph((peers - between) // 2, between)


@register_graph("clustered", fits=_clustered_fits, needs="as many peers as clusters or more")
def clustered(peers: int, clusters: int | None = None) -> nx.Graph:
    """Cliques joined in a ring, the last peer of each to the first of the next."""
    groups = cliques(peers, clusters)
    graph = nx.empty_graph(peers)
    for place, group in enumerate(groups):
        graph.add_edges_from((i, j) for i in group for j in group if i < j)
        end, start = group[-1], groups[(place + 1) % len(groups)][0]
        if len(groups) > 1 and end != start:
            graph.add_edge(end, start)
    return graph


@register_graph("random-geometric", limits={"radius": (0, 2)})
def random_geometric(peers: int, radius: float | None = None, *, seed: int) -> nx.Graph:
    """Peers at random places in the unit square, linked up to a distance of ``radius``."""
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


@register_graph("barabasi-albert", fits=_barabasi_albert_fits, needs="more peers than m")
def barabasi_albert(peers: int, m: int | None = None, *, seed: int) -> nx.Graph:
    """Each new peer linked to ``m`` others, more likely to those with many links: a few hubs."""
    return nx.barabasi_albert_graph(peers, _new_links(peers, m), seed=seed)


# ---- directed graphs ---------------------------------------------------------------------------------------

@register_graph("directed-ring")
def directed_ring(peers: int) -> nx.DiGraph:
    """Each peer sends to the next."""
    graph = nx.empty_graph(peers, create_using=nx.DiGraph)
    graph.add_edges_from((i, (i + 1) % peers) for i in range(peers) if peers > 1)
    return graph


@register_graph("directed-exponential")
def directed_exponential(peers: int) -> nx.DiGraph:
    """Peer i sends to i + 2^k mod N: the static exponential graph of Ying et al. 2021, as published."""
    graph = nx.empty_graph(peers, create_using=nx.DiGraph)
    graph.add_edges_from((i, (i + hop) % peers) for i in range(peers) for hop in hops(peers))
    return graph


@register_graph("random-digraph", limits=PROBABILITY)
def random_digraph(peers: int, probability: float | None = None, *, seed: int) -> nx.DiGraph:
    """Each one-way link with the same probability, by default twice the threshold of erdos-renyi."""
    default = _connecting_probability(peers)
    return nx.gnp_random_graph(peers, default if probability is None else probability, seed=seed, directed=True)
