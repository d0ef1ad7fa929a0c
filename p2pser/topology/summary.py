"""A topology in numbers: what ``p2pser topology show`` prints and comparisons tabulate."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from p2pser.topology import mixing, spectral
from p2pser.topology.spec import Topology


def diameter(graph: nx.Graph) -> int:
    """Return the largest number of links on a shortest path between two peers of a connected graph."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    if graph.number_of_nodes() < 2:
        return 0
    links = csr_array(nx.to_scipy_sparse_array(graph, weight=None))
    return int(np.max(shortest_path(links, directed=False, unweighted=True)))


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
