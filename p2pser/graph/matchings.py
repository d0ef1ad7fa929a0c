"""The partition of a graph's edges into matchings: sets of edges of which no two share a peer."""

from __future__ import annotations

import networkx as nx


def matchings(graph: nx.Graph) -> dict[tuple[int, int], int]:
    """Return the number of each edge's matching, from 0 on, by both directions of the edge.

    Each edge, in ascending order, gets the first matching that is free at both ends: all peers compute the same. An
    even ring has two matchings, a hypercube one for each dimension.

    >>> matchings(nx.path_graph(3))
    {(0, 1): 0, (1, 0): 0, (1, 2): 1, (2, 1): 1}
    """
    taken: dict[int, set[int]] = {i: set() for i in graph}
    result: dict[tuple[int, int], int] = {}
    for i, j in sorted(tuple(sorted(edge)) for edge in graph.edges):
        used = taken[i] | taken[j]
        result[i, j] = result[j, i] = free = next(c for c in range(len(used) + 1) if c not in used)
        taken[i].add(free)
        taken[j].add(free)
    return result
