"""The graph or schedule of a parsed topology file, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from p2pser.base.errors import P2PSERError, TopologyError, nearest
from p2pser.base.registries import SCHEDULES
from p2pser.graph import graphs, mixing, spectral
from p2pser.graph.file_format import GraphForm, HandWeights
from p2pser.graph.kind import MAX_PEERS, registered
from p2pser.graph.schedule import Schedule, Static, require_true

WAYS = ("kind", "edges", "graphml")


def build(form: GraphForm, section: dict[str, Any], where: str, folder: Path | None,
          peers: int | None, seed: int) -> nx.Graph | Schedule:
    """Return the graph (a DiGraph if directed) or schedule of the section ``graph`` of a topology file.

    Parameters
    ----------
    form : the section, validated.
    section : the section as a mapping; a random kind writes the seed in use into it.
    where : the file's name, for errors.
    folder : the folder that the path of a GraphML file is relative to.
    peers : the number of peers, instead of the file's.
    seed : the seed of random kinds whose file gives none.
    """
    extra = dict(form.model_extra or {})
    ways = [way for way in WAYS if getattr(form, way) is not None]
    if len(ways) != 1:
        given = f"both {ways[0]} and {ways[1]}" if ways else "none of them"
        hint = nearest(next(iter(extra)), WAYS) if extra and not ways else ""
        raise TopologyError(f"{where}: graph needs one of kind, edges and graphml, but gives {given}"
                            f"{hint if 'did you mean' in hint else ''}")
    size = form.peers if peers is None else peers
    if form.kind is None:
        for key in extra:
            raise TopologyError(f"{where}: there is no key {key!r} in a graph given by {ways[0]}"
                                f"{nearest(key, (*ways, 'directed', 'peers'))}")
        return _given(form, ways[0], size, where, folder)
    if form.directed is not None:
        extra["directed"] = form.directed
    if graphs.is_random(form.kind) or (form.kind in SCHEDULES and registered(SCHEDULES, form.kind).random):
        extra.setdefault("seed", seed)
        section["seed"] = extra["seed"]
    try:
        if form.kind in SCHEDULES:
            return build_schedule(form.kind, size, **extra)
        return graphs.build(form.kind, size, **extra)
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None


def _given(form: GraphForm, way: str, size: int | None, where: str, folder: Path | None) -> nx.Graph:
    """Return the graph of a list of edges or a GraphML file."""
    graph = (_graphml(form.graphml, where, folder) if form.graphml is not None
             else _listed(form.edges or [], form.peers, bool(form.directed), where))
    if form.directed is not None and form.directed != graph.is_directed():
        raise TopologyError(f"{where}: directed = {form.directed} contradicts its GraphML file; leave the key out, the "
                            "file counts")
    if size is not None and size != graph.number_of_nodes():
        raise TopologyError(f"{where} has {graph.number_of_nodes()} peers by its {way}, so it cannot "
                            f"have {size}; leave the number of peers out or choose another topology")
    return graph


def build_schedule(kind: str, peers: int | None = None, **parameters: Any) -> Schedule:
    """Return the schedule of a kind in SCHEDULES; ``seed`` (default 0) for random ones. Errors as ``graphs.build``.

    >>> build_schedule("one-peer-exponential", 8).period
    3
    """
    known = registered(SCHEDULES, kind)
    size, shape = graphs.fitting(known, peers, parameters)
    seed = {"seed": parameters.get("seed", 0)} if known.random else {}
    if SCHEDULES.origin(kind).builtin:
        return known.make(size, **shape, **seed)  # type: ignore[no-any-return]
    try:
        schedule: Schedule = known.make(size, **shape, **seed)
        require_true(schedule, size)
    except Exception as error:  # the code of a plug-in may raise anything
        reason = str(error) if isinstance(error, (P2PSERError, ValueError)) else f"{type(error).__name__}: {error}"
        raise TopologyError(f"schedule {kind!r} cannot be used with {size} peers: {reason}") from error
    return schedule


def _listed(edges: list[tuple[int, int]], peers: int | None, directed: bool, where: str) -> nx.Graph:
    if not edges and peers is None:
        raise TopologyError(f"{where}: edges is empty: give pairs of ids, such as [[0, 1], [1, 2]], or the number of "
                            "peers")
    ends = [end for edge in edges for end in edge]
    size = peers if peers is not None else max(ends, default=0) + 1
    for end in ends:
        if not 0 <= end < min(size, MAX_PEERS):
            raise TopologyError(f"{where}: the edges name peer {end}, but ids go from 0 to "
                                f"{min(size, MAX_PEERS) - 1}")
    graph = nx.empty_graph(size, create_using=nx.DiGraph if directed else nx.Graph)
    graph.add_edges_from(edges)
    return graphs.checked(graph, where)


def _graphml(name: str, where: str, folder: Path | None) -> nx.Graph:
    from xml.etree import ElementTree

    path = (folder or Path()) / name
    try:
        graph = nx.read_graphml(path)
        declared = {each.get("id") for each in ElementTree.parse(path).iter() if each.tag.rpartition("}")[2] == "node"}
    except OSError as error:
        raise TopologyError(f"{where}: cannot read the GraphML file {path}: {error.strerror}") from None
    except (ElementTree.ParseError, nx.NetworkXException, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise TopologyError(f"{where}: {path} is not a GraphML file ({reason})") from None
    names = [str(node) for node in graph]
    for name in names:
        if name not in declared:
            raise TopologyError(f"{where}: {path} has an edge to {name!r}, and no node of this id: add the node, or "
                                "mend the edge")
    if sorted(names) == sorted(map(str, range(len(names)))):  # the ids that p2pser uses: "0" .. "N-1"
        graph = nx.relabel_nodes(graph, {node: int(node) for node in graph})
    return graphs.checked(graph, str(path))


# ---- weights -----------------------------------------------------------------------------------------------

def weighted(graph: nx.Graph, given: str | HandWeights | None, where: str
             ) -> tuple[str, Schedule | None, HandWeights]:
    """Return (the rule's name, the schedule where W is not symmetric, symmetric weights by hand)."""
    if isinstance(given, tuple):
        W = _by_hand(graph, given, where)
        if graph.is_directed() or not np.array_equal(W, W.T):
            return "by-hand", Static(W, where), ()
        i, j = np.nonzero(W - np.diag(np.diag(W)))
        return "by-hand", None, tuple(zip(i.tolist(), j.tolist(), W[i, j].tolist()))
    rule = given or ("out-degree" if graph.is_directed() else "metropolis")
    if rule == "out-degree":
        return rule, Static(mixing.out_degree(graph), where), ()
    if graph.is_directed():
        raise TopologyError(f"{where}: weights: {rule} need links that carry both ways, but the graph is directed; use "
                            "weights: out-degree, for push-sum, or give them by hand")
    if rule == "fastest":
        mixing.require_cvxpy()
    return rule, None, ()


def _by_hand(graph: nx.Graph, given: HandWeights, where: str) -> np.ndarray:
    size, both = graph.number_of_nodes(), not graph.is_directed()
    weights: dict[tuple[int, int], float] = {}
    for i, j, weight in given:
        if not graph.has_edge(i, j):
            raise TopologyError(f"{where}: weights name the link from peer {i} to peer {j}, which the graph does not "
                                "have; remove it or add the link")
        if (j, i) in weights:
            raise TopologyError(f"{where}: weights name the link from peer {i} to peer {j} twice; keep one")
        weights[j, i] = weight
    if both:
        weights = {**{(i, j): weight for (j, i), weight in weights.items()}, **weights}
    for i, j in graph.edges:
        if (j, i) not in weights:
            raise TopologyError(f"{where}: weights by hand must name every link, but not the one from peer {i} to peer "
                                f"{j}; add [{i}, {j}, w]")
    W = mixing.by_hand(size, ((i, j, weight) for (i, j), weight in weights.items())).dense()
    for i in range(size):
        if W[i, i] < -1e-12:
            raise TopologyError(f"{where}: the weights of peer {i} sum to {1 - W[i, i]:.6g}, more than 1; lower those "
                                "of its links")
    if size > 1 and spectral.second(W) >= 1 - 1e-12:
        raise TopologyError(f"{where}: gossip with these weights never reaches consensus (the second largest "
                            f"eigenvalue modulus is {spectral.second(W):.6g}); leave every peer some weight for itself")
    return W
