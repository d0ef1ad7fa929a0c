"""The edges of a graph in matchings: sets of edges of which no two have a peer in common."""

from __future__ import annotations

import networkx as nx


def matchings(graph: nx.Graph) -> dict[tuple[int, int], int]:
    """Return the matching of each edge, both ways, counted from 0: two edges of a matching have no peer in common.

    Each edge in ascending order takes the first that is free at both ends: all peers compute the same. An even ring
    has two, a hypercube one for each dimension.

    >>> matchings(nx.path_graph(3))
    {(0, 1): 0, (1, 0): 0, (1, 2): 1, (2, 1): 1}
    """
    taken: dict[int, set[int]] = {i: set() for i in graph}
    found: dict[tuple[int, int], int] = {}
    for i, j in sorted(tuple(sorted(edge)) for edge in graph.edges):
        used = taken[i] | taken[j]
        found[i, j] = found[j, i] = free = next(c for c in range(len(used) + 1) if c not in used)
        taken[i].add(free)
        taken[j].add(free)
    return found
