"""Connected graphs on the peers 0 .. N-1, by kind: undirected, or directed and strongly connected.

A kind is one of the registry GRAPHS or any generator of ``networkx.generators`` that returns a simple graph. In a
directed graph the edge (u, v) means that u sends to v. Random graphs are a function of their seed: they are redrawn,
in a fixed order, until one is connected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import networkx as nx

from p2pser.base import seeding
from p2pser.base.errors import TopologyError, nearest, raised_as
from p2pser.base.registries import GRAPHS, SCHEDULES
from p2pser.graph.kind import MAX_PEERS, GraphKind, registered

DRAWS = 1000
"""The most draws of a random graph until one is connected."""


# ---- building ----------------------------------------------------------------------------------------------

def build(kind: str, peers: int | None = None, **parameters: Any) -> nx.Graph:
    """Return the connected simple graph of a kind, nodes 0 .. ``peers``-1; a DiGraph for directed kinds.

    ``kind``: one of GRAPHS, or the name of a generator of networkx.generators (``barabasi_albert_graph``), whose ``n``
    follows from ``peers`` where it is not given. ``parameters``: of the kind, with ``seed`` (default 0) for random
    kinds. Raises TopologyError where the kind or a parameter is unknown (naming the nearest), where the kind has no
    graph of this size (naming the nearest sizes that exist) or no draw is connected.

    >>> sorted(build("ring", 4).edges)
    [(0, 1), (0, 3), (1, 2), (2, 3)]
    """
    if kind not in GRAPHS:
        if peers is not None:
            _check_size(peers)
        return _generated(kind, peers, parameters)
    known = registered(GRAPHS, kind)
    peers, shape = fitting(known, peers, parameters)
    if not known.random:
        return checked(_made(known, peers, **shape), f"graph kind {kind!r}")
    seed = parameters.get("seed", 0)
    return _drawn(kind, lambda draw: _made(known, peers, **shape, seed=draw), seed)


def _made(kind: GraphKind, peers: int, **parameters: Any) -> nx.Graph:
    """Return what the function of a kind returns. Raises TopologyError where it fails or has another size."""
    with raised_as(TopologyError, f"graph kind {kind.name!r} makes no graph of {peers} peers"):
        graph = kind.make(peers, **parameters)
    if isinstance(graph, nx.Graph) and graph.number_of_nodes() != peers:
        raise TopologyError(f"graph kind {kind.name!r} makes a graph of {graph.number_of_nodes()} peers, not {peers}")
    return graph


def fitting(kind: GraphKind, peers: int | None, parameters: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the number of peers and the parameters without the seed.

    Raises TopologyError where the kind does not have these parameters, values or number of peers.
    """
    if peers is None:
        raise TopologyError(f"graph kind {kind.name!r} needs the number of peers: add 'peers: N' to it")
    _check_size(peers)
    for name, value in parameters.items():
        if name not in kind.parameters:
            hint = nearest(name, kind.parameters) if kind.parameters else "; it has none"
            raise TopologyError(f"graph kind {kind.name!r} has no parameter {name!r}{hint}")
        if requirement := kind.parameters[name].requirement(value):
            raise TopologyError(f"graph kind {kind.name!r}: {name} = {value!r} must be {requirement}")
    shape = {name: value for name, value in parameters.items() if name != "seed"}
    if not kind.fits(peers, **shape):
        raise TopologyError(_misfit(kind, peers, shape))
    return peers, shape


def _check_size(peers: int) -> None:
    if not 1 <= peers <= MAX_PEERS:
        raise TopologyError(f"a topology of {peers} peers is not possible: give 1 to {MAX_PEERS}")


def is_random(kind: str) -> bool:
    """Whether a kind's graph depends on a seed."""
    if kind in GRAPHS:
        return registered(GRAPHS, kind).random
    return kind in generators() and "seed" in _parameters(generators()[kind])


def _misfit(kind: GraphKind, peers: int, shape: Mapping[str, Any]) -> str:
    def first(candidates: Iterable[int]) -> int | None:
        return next((n for n in candidates if kind.fits(n, **shape)), None)

    near = [first(range(peers - 1, 0, -1)), first(range(peers + 1, min(2 * peers, MAX_PEERS) + 65))]
    fitting = " and ".join(str(n) for n in near if n is not None)
    given = "".join(f", {name} {value}" for name, value in shape.items())
    hint = f"; the next numbers that fit: {fitting}" if fitting else "; change its parameters"
    return f"there is no {kind.name} of {peers} peers{given}: it needs {kind.needs}{hint}"


def _drawn(kind: str, make: Callable[[int], nx.Graph], seed: int) -> nx.Graph:
    graph = None
    for draw in range(DRAWS):
        graph = make(seeding.key(seed, "topology", round=draw) & 0xFFFFFFFF)  # numpy's seeds have 32 bits
        if graph.number_of_nodes() and _is_connected(_simple(graph, f"graph kind {kind!r}")):
            return checked(graph, f"graph kind {kind!r}")
    apart = _beyond(graph) if graph is not None and graph.is_directed() and len(graph) else ""
    raise TopologyError(f"graph kind {kind!r}: none of {DRAWS} draws was {'strongly ' if apart else ''}connected"
                        f"{apart and f' (in the last, {apart})'}; give more links (a higher probability or degree)")


# ---- networkx's generators ---------------------------------------------------------------------------------

_NEVER = frozenset({
    "create_using", "backend", "backend_kwargs", "seed", "G", "initial_graph", "default",
})
"""Parameters that p2pser sets, or that would change what networkx runs or returns."""
_NOT_GRAPHS = ("directed_joint", "is_", "number_of", "nonisomorphic", "geometric_edges", "joint_degree")


def generators() -> dict[str, Callable[..., Any]]:
    """Return networkx's generators that a topology file can name: those that need no other graph."""
    import networkx.generators as module

    return {
        name: generator for name, generator in vars(module).items()
        if callable(generator) and not isinstance(generator, type)
        and not name.startswith(("_", *_NOT_GRAPHS))
        and str(getattr(generator, "__module__", "")).startswith("networkx.generators.")
        and "G" not in _parameters(generator)
    }


def _parameters(generator: Callable[..., Any]) -> list[str]:
    import inspect

    return list(inspect.signature(generator).parameters)


def _generator(kind: str) -> Callable[..., Any]:
    known = generators()
    if kind in known:
        return known[kind]
    registered = [*GRAPHS, *SCHEDULES, "sequence"]
    if kind in registered:
        raise TopologyError(f"graph kind {kind!r} is a schedule, not one graph; use it in a topology file")
    close = nearest(kind, [*registered, *known])
    every = f"; known: {', '.join(registered)} and networkx's generators by name"
    raise TopologyError(f"there is no graph kind {kind!r}{close if 'did you mean' in close else every}")


def _generated(kind: str, peers: int | None, parameters: Mapping[str, Any]) -> nx.Graph:
    generator, where = _generator(kind), f"networkx's {kind}"
    names = _parameters(generator)
    usable = [name for name in names if name not in _NEVER]
    seeded, seed = "seed" in names, parameters.get("seed", 0)
    given = {name: value for name, value in parameters.items() if not (seeded and name == "seed")}
    for name in given:
        if name not in usable:
            hint = nearest(name, usable) if usable else "; it has none"
            raise TopologyError(f"{where} has no parameter {name!r} that a topology file can set{hint}")

    def make(draw: int, **more: Any) -> nx.Graph:
        try:
            graph = generator(**given, **more, **({"seed": draw} if seeded else {}))
        except Exception as error:  # networkx raises errors of many types for parameters that it does not accept
            reason = " ".join(str(error).split())
            raise TopologyError(f"{where} does not accept these parameters ({reason})") from None
        return _simple(graph, where)

    size = {}
    if "n" in usable and "n" not in given and peers is not None:
        size["n"] = _size_parameter(make, peers, where)
    graph = _drawn(kind, lambda draw: make(draw, **size), seed) if seeded else checked(make(0, **size), where)
    if peers is not None and graph.number_of_nodes() != peers:
        raise TopologyError(f"{where} has {graph.number_of_nodes()} peers with these parameters, not "
                            f"{peers}: change its parameters or the number of peers")
    return graph


def _size_parameter(make: Callable[..., nx.Graph], peers: int, where: str) -> int:
    """Return the ``n`` for this number of peers: n is not always the number of nodes (star_graph has n + 1).

    Tries small n first, since the size may grow as 2^n; returns at once where n is the number of nodes.
    """
    refusal: TopologyError | None = None
    sizes: dict[int, int] = {}
    for n in range(1, peers + 1):
        try:
            sizes[n] = make(0, n=n).number_of_nodes()
        except TopologyError as error:
            refusal = error
            continue
        if sizes[n] == peers or (len(sizes) >= 3 and all(n == size for n, size in sizes.items())):
            return n if sizes[n] == peers else peers
        if sizes[n] > peers:
            break
    if not sizes and refusal is not None:
        raise refusal
    raise TopologyError(f"{where} has no graph of {peers} peers; sizes near it: "
                        f"{', '.join(str(size) for size in sorted(set(sizes.values()))[-2:])}")


# ---- checking ----------------------------------------------------------------------------------------------

def _simple(graph: Any, where: str) -> nx.Graph:
    """Return the graph. Raises TopologyError where it has parallel links or self-loops."""
    if not isinstance(graph, nx.Graph):
        raise TopologyError(f"{where} returns a {type(graph).__name__}, not a graph; choose another generator")
    if graph.is_multigraph():
        raise TopologyError(f"{where} has parallel links (a multigraph); give a simple graph")
    loops = [node for node, _ in nx.selfloop_edges(graph)]
    if loops:
        raise TopologyError(f"{where} links peer {loops[0]} to itself; remove that edge")
    return graph


def checked(graph: nx.Graph, where: str) -> nx.Graph:
    """Return a simple connected graph with its nodes named 0 .. N-1, in ascending order of nodes and edges.

    A DiGraph stays one, and must be strongly connected. Nodes that are 0 .. N-1 already keep their numbers;
    others are numbered in their order, and each keeps its name as the attribute ``label``. ``where`` names the
    source in errors. Raises TopologyError where the graph is empty, has parallel links or self-loops, or is not
    connected (naming the separate groups, or the peers that cannot be reached).
    """
    graph = _simple(graph, where)
    size = graph.number_of_nodes()
    if size == 0:
        raise TopologyError(f"{where} has no peers; give one or more")
    if size > MAX_PEERS:
        raise TopologyError(f"{where} has {size} peers; at most {MAX_PEERS} are possible")
    numbered = set(graph) == set(range(size)) and not any(isinstance(node, bool) for node in graph)
    number = {node: int(node) if numbered else place for place, node in enumerate(graph)}
    clean = nx.DiGraph() if graph.is_directed() else nx.Graph()
    clean.add_nodes_from(range(size))
    for node, place in nx.get_node_attributes(graph, "pos").items():
        if isinstance(place, tuple):  # the places of a random geometric graph, for drawing
            clean.nodes[number[node]]["pos"] = place
    if not numbered:
        for node, place in number.items():
            clean.nodes[place]["label"] = str(node)
    edges = ((number[u], number[v]) for u, v in graph.edges)
    clean.add_edges_from(sorted(edge if clean.is_directed() else (min(edge), max(edge)) for edge in edges))
    _require_connected(clean, where)
    return clean


def undirected(graph: nx.Graph) -> nx.Graph:
    """Return the graph without directions: two peers are linked where either sends to the other."""
    return checked(graph.to_undirected(), "the graph") if graph.is_directed() else graph


def _is_connected(graph: nx.Graph) -> bool:
    connected: bool = nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
    return connected


def _require_connected(graph: nx.Graph, where: str) -> None:
    if _is_connected(graph):
        return
    if graph.is_directed():
        raise TopologyError(f"{where} is not strongly connected: {_beyond(graph)}; add directed links until every peer "
                            "can reach every other")
    parts = sorted((sorted(part) for part in nx.connected_components(graph)), key=lambda part: part[0])
    shown = [f"{{{', '.join(map(str, part[:8]))}{', …' if len(part) > 8 else ''}}}" for part in parts[:4]]
    more = f" and {len(parts) - 4} more groups" if len(parts) > 4 else ""
    raise TopologyError(f"{where} is not connected: there is no path between the peers {', '.join(shown)}"
                        f"{more}; add links until every peer can reach every other")


def _beyond(graph: nx.DiGraph) -> str:
    """Return a clause on the peers that the first incomplete sender cannot reach; "" where all reach all."""
    peers = set(graph)
    for start in graph:
        beyond = sorted(peers - {start} - nx.descendants(graph, start))
        if beyond:
            shown = f"{', '.join(map(str, beyond[:8]))}{', …' if len(beyond) > 8 else ''}"
            return f"messages of peer {start} cannot reach {'peer' if len(beyond) == 1 else 'the peers'} {shown}"
    return ""
