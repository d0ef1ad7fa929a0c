"""A topology in numbers: what ``p2pser topology show`` prints and comparisons tabulate."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import networkx as nx

from p2pser.topology import mixing, spectral
from p2pser.topology.spec import Topology


def diameter(graph: nx.Graph) -> int:
    """Return the largest number of links on a shortest path between two peers of a connected graph."""
    neighbours = {i: list(graph[i]) for i in graph}
    everybody = sum(1 << i for i in graph)
    reached = {i: 1 << i for i in graph}
    links = 0
    while any(known != everybody for known in reached.values()):
        # One link further for everybody at once. Bits in whole numbers: every peer process needs this, and SciPy's
        # sparse graphs would cost each of them 30 MB.
        reached = {i: reduce(or_, (reached[j] for j in near), reached[i]) for i, near in neighbours.items()}
        links += 1
    return links


def summarise(topology: Topology) -> dict[str, Any]:
    """Return what theory says of a topology, under uniform weights; plain numbers, ready for JSON.

    Keys: name, peers, edges (links, each counted once), directed, connected, degree {min, mean, max},
    diameter (links), slem, spectral_gap, rounds_to_1e-6 (exchanges of plain gossip; None: never), weights.
    """
    graph = topology.graph
    degrees = [degree for _, degree in graph.degree]
    slem = spectral.slem(mixing.metropolis(graph))
    return {
        "name": topology.name,
        "peers": topology.size,
        "edges": graph.number_of_edges(),
        "directed": graph.is_directed(),
        "connected": nx.is_connected(graph),
        "degree": {"min": min(degrees), "mean": sum(degrees) / len(degrees), "max": max(degrees)},
        "diameter": diameter(graph),
        "slem": slem,
        "spectral_gap": 1.0 - slem,
        "rounds_to_1e-6": spectral.rounds_to(1e-6, slem),
        "weights": topology.weights,
    }
