"""Topology files in which some peers have left for good. Their ids are not used again: folders and keys name them.

The graph of the others is read from a document without gaps in the ids, whose peers then get their ids back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import networkx as nx

from p2pser.base.errors import TopologyError
from p2pser.graph.file_format import FileForm
from p2pser.graph.kind import MAX_PEERS


def members_of(form: FileForm, where: str, peers: int | None) -> tuple[tuple[int, ...], int]:
    """Return the peers that have not left, ascending, and the number of all ids.

    form : the document. where : its name, for errors. peers : the number of peers, instead of the document's.
    """
    graph, retired = form.graph, set(form.retired)
    size = graph.peers if peers is None else peers
    if size is None and graph.edges is not None:
        size = max([*(end for edge in graph.edges for end in edge), *retired]) + 1
    if size is None:
        raise TopologyError(f"{where}: with retired peers the graph must give its number of ids, theirs included: add "
                            "'peers' to it")
    size = min(size, MAX_PEERS)
    if not all(0 <= i < size for i in retired):
        wrong = next(i for i in form.retired if not 0 <= i < size)
        raise TopologyError(f"{where}: retired names peer {wrong}, but ids go from 0 to {size - 1}")
    if len(retired) >= size:
        raise TopologyError(f"{where}: all peers are retired")
    used = {end for edge in graph.edges or () for end in edge}
    used |= {end for i, j, _ in (form.weights if isinstance(form.weights, tuple) else ()) for end in (i, j)}
    used |= set() if form.hub is None else {form.hub}
    if named := sorted(used & retired):
        raise TopologyError(f"{where}: peer {named[0]} is retired, so no link or hub may name it")
    return tuple(i for i in range(size) if i not in retired), size


def without_gaps(document: Mapping[str, Any], form: FileForm, members: Sequence[int]) -> dict[str, Any]:
    """Return the document of the members alone, with the ids 0, 1, …; ids that do not exist stay, and are refused."""
    place = {i: k for k, i in enumerate(members)}
    graph = {**document["graph"], "peers": len(members)}
    if form.graph.edges is not None:
        graph["edges"] = [[place.get(i, i), place.get(j, j)] for i, j in form.graph.edges]
    plain = {**document, "graph": graph,
             "peers": {place.get(i, i): entry for i, entry in document.get("peers", {}).items()
                       if i not in form.retired}}
    if isinstance(form.weights, tuple):
        plain["weights"] = {"edges": [[place.get(i, i), place.get(j, j), w] for i, j, w in form.weights]}
    if form.hub is not None:
        plain["hub"] = place.get(form.hub, form.hub)
    del plain["retired"]
    return plain


def with_ids(graph: nx.Graph, members: Sequence[int], size: int) -> nx.Graph:
    """Return a graph of all ids, in which the members have the links of ``graph`` and the retired peers none."""
    whole = nx.empty_graph(size)
    whole.add_edges_from((members[i], members[j]) for i, j in graph.edges)
    return whole


def compact(graph: nx.Graph, members: Collection[int]) -> nx.Graph:
    """Return the graph of the members alone, with the nodes 0, 1, …"""
    return nx.convert_node_labels_to_integers(graph.subgraph(sorted(members)), ordering="sorted")
