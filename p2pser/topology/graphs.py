"""Undirected, connected graphs on the peers 0 .. N-1, by kind.

A kind is one of KINDS or any generator of ``networkx.generators`` that gives an undirected simple graph.
Random graphs are a function of their seed: they are redrawn, in a fixed order, until one is connected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from p2pser import seeding
from p2pser.errors import TopologyError, nearest

MAX_PEERS = 10_000
"""More peers than this are taken for a slip of the pen (weights and theory are dense N x N matrices)."""

DRAWS = 1000
"""So many draws may be not connected before a random graph is given up."""


@dataclass(frozen=True)
class Kind:
    """How a kind is made, ``make(peers, **parameters)``; ``fits`` says if it exists with so many peers."""

    make: Callable[..., nx.Graph]
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
    hops = [1 << k for k in range((peers - 1).bit_length())]
    graph.add_edges_from((i, (i + hop) % peers) for i in range(peers) for hop in hops if hop < peers)
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


def _always(peers: int, **_: Any) -> bool:
    return peers >= 1


def _lattice_fits(peers: int, rows: int | None = None, columns: int | None = None) -> bool:
    return sides(peers, rows, columns) is not None


def _power_of_two(peers: int) -> bool:
    return peers >= 1 and peers & (peers - 1) == 0


_SIDES = {"rows": int, "columns": int}
KINDS: Mapping[str, Kind] = {
    "ring": Kind(_ring, {}, _always, "one peer or more"),
    "chain": Kind(nx.path_graph, {}, _always, "one peer or more"),
    "star": Kind(_star, {}, _always, "one peer or more"),
    "complete": Kind(nx.complete_graph, {}, _always, "one peer or more"),
    "grid": Kind(_grid, _SIDES, _lattice_fits, "rows x columns peers, both 2 or more"),
    "torus": Kind(_torus, _SIDES, _lattice_fits, "rows x columns peers, both 2 or more"),
    "hypercube": Kind(_hypercube, {}, _power_of_two, "a power of two of peers"),
    "tree": Kind(_tree, {"branching": int}, _always, "one peer or more"),
    "exponential": Kind(_exponential, {}, _always, "one peer or more"),
    "random-regular": Kind(_random_regular, {"degree": int, "seed": int}, _regular_fits,
                           "more peers than the degree, and peers x degree even", random=True),
    "erdos-renyi": Kind(_erdos_renyi, {"probability": float, "seed": int}, _always, "one peer or more",
                        random=True),
    "watts-strogatz": Kind(_watts_strogatz, {"degree": int, "probability": float, "seed": int},
                           _ring_degree_fits, "an even degree of 2 or more, and more peers than that",
                           random=True),
}
"""The kinds that p2pser makes itself, with their parameters (all optional)."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "rows": (1, MAX_PEERS), "columns": (1, MAX_PEERS), "branching": (1, MAX_PEERS), "degree": (1, MAX_PEERS),
    "probability": (0, 1), "seed": (0, 2**63 - 1),
}


# ---- building ----------------------------------------------------------------------------------------------

def build(kind: str, peers: int | None = None, **parameters: Any) -> nx.Graph:
    """Return the connected simple graph of a kind, nodes 0 .. ``peers``-1.

    ``kind``: one of KINDS, or a generator of networkx.generators by name (``barabasi_albert_graph``; its own
    parameters by name; its ``n`` follows from ``peers`` where it is not given). ``seed`` (default 0) for
    random kinds. Raises TopologyError where the kind or a parameter is unknown (naming the nearest), where
    there is no such graph with so many peers (naming the next numbers that fit) or no draw is connected.

    >>> sorted(build("ring", 4).edges)
    [(0, 1), (0, 3), (1, 2), (2, 3)]
    """
    if peers is not None and not 1 <= peers <= MAX_PEERS:
        raise TopologyError(f"a topology of {peers} peers is not possible: give 1 to {MAX_PEERS}")
    if kind not in KINDS:
        return _generated(kind, peers, parameters)
    if peers is None:
        raise TopologyError(f"graph kind {kind!r} needs the number of peers: add 'peers: N' to it")
    family = KINDS[kind]
    _check_parameters(kind, family.parameters, parameters)
    shape = {name: value for name, value in parameters.items() if name != "seed"}
    if not family.fits(peers, **shape):
        raise TopologyError(_misfit(kind, peers, shape))
    if not family.random:
        return checked(family.make(peers, **parameters), f"graph kind {kind!r}")
    seed = parameters.get("seed", 0)
    return _drawn(kind, lambda draw: family.make(peers, **shape, seed=draw), seed)


def is_random(kind: str) -> bool:
    """Whether a kind's graph depends on a seed."""
    if kind in KINDS:
        return KINDS[kind].random
    return kind in generators() and "seed" in _parameters(generators()[kind])


def _check_parameters(kind: str, known: Mapping[str, type], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in known:
            hint = nearest(name, known) if known else "; it has none"
            raise TopologyError(f"graph kind {kind!r} has no parameter {name!r}{hint}")
        low, high = LIMITS[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (known[name] is int and not isinstance(value, int)) or not low <= value <= high:
            what = "a whole number" if known[name] is int else "a number"
            raise TopologyError(f"graph kind {kind!r}: {name} = {value!r} must be {what}, {low} to {high}")


def _misfit(kind: str, peers: int, shape: Mapping[str, Any]) -> str:
    family = KINDS[kind]

    def first(candidates: Iterable[int]) -> int | None:
        return next((n for n in candidates if family.fits(n, **shape)), None)

    near = [first(range(peers - 1, 0, -1)), first(range(peers + 1, min(2 * peers, MAX_PEERS) + 65))]
    fitting = " and ".join(str(n) for n in near if n is not None)
    given = "".join(f", {name} {value}" for name, value in shape.items())
    hint = f"; the next numbers that fit: {fitting}" if fitting else "; change its parameters"
    return f"there is no {kind} of {peers} peers{given}: it needs {family.needs}{hint}"


def _drawn(kind: str, make: Callable[[int], nx.Graph], seed: int) -> nx.Graph:
    graph = None
    for draw in range(DRAWS):
        graph = make(seeding.key(seed, "topology", round=draw) & 0xFFFFFFFF)  # numpy's seeds have 32 bits
        if graph.number_of_nodes() and nx.is_connected(_simple(graph, f"graph kind {kind!r}")):
            return checked(graph, f"graph kind {kind!r}")
    raise TopologyError(f"graph kind {kind!r}: none of {DRAWS} draws was connected; give more links "
                        "(a higher probability or degree)")


# ---- networkx's generators ---------------------------------------------------------------------------------

_NEVER = frozenset({
    "create_using", "backend", "backend_kwargs", "directed", "seed", "G", "initial_graph", "default",
})
"""Parameters that p2pser sets itself, or that would change what networkx runs or returns."""
_NOT_GRAPHS = ("directed", "is_", "number_of", "nonisomorphic", "geometric_edges", "joint_degree")


def generators() -> dict[str, Callable[..., Any]]:
    """Return networkx's generators that can be named in a topology file: those that need no other graph."""
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


def _generated(kind: str, peers: int | None, parameters: Mapping[str, Any]) -> nx.Graph:
    table = generators()
    if kind not in table:
        close = nearest(kind, [*KINDS, *table])
        every = f"; known: {', '.join(KINDS)} and networkx's generators by name"
        raise TopologyError(f"there is no graph kind {kind!r}{close if 'did you mean' in close else every}")
    generator, where = table[kind], f"networkx's {kind}"
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
        except Exception as error:  # whatever networkx raises for parameters that the user's file gives
            reason = " ".join(str(error).split())
            raise TopologyError(f"{where} does not take these parameters: {reason}") from None
        return _simple(graph, where)

    if "n" in usable and "n" not in given and peers is not None:
        n = _size_parameter(make, peers, where)
        graph = _drawn(kind, lambda draw: make(draw, n=n), seed) if seeded else checked(make(0, n=n), where)
    else:
        graph = _drawn(kind, make, seed) if seeded else checked(make(0), where)
    if peers is not None and graph.number_of_nodes() != peers:
        raise TopologyError(f"{where} has {graph.number_of_nodes()} peers with these parameters, not "
                            f"{peers}: change its parameters or the number of peers")
    return graph


def _size_parameter(make: Callable[..., nx.Graph], peers: int, where: str) -> int:
    """Return the ``n`` that gives so many peers: n is not always the number of nodes (star_graph has n + 1).

    From small n upwards, since the size may grow as 2^n; where n is the number of nodes, straight to it.
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
    """Return the graph if it is undirected, without parallel links and self-loops; else TopologyError."""
    if not isinstance(graph, nx.Graph):
        raise TopologyError(f"{where} gives no graph but a {type(graph).__name__}; choose another generator")
    if graph.is_directed():
        raise TopologyError(f"{where} is directed; links carry both ways, so give an undirected graph")
    if graph.is_multigraph():
        raise TopologyError(f"{where} has parallel links (a multigraph); give a simple graph")
    loops = [node for node, _ in nx.selfloop_edges(graph)]
    if loops:
        raise TopologyError(f"{where} links peer {loops[0]} to itself; remove that edge")
    return graph


def checked(graph: nx.Graph, where: str) -> nx.Graph:
    """Return a simple connected graph with its nodes named 0 .. N-1, in ascending order of nodes and edges.

    Nodes that are 0 .. N-1 already keep their numbers; others are numbered in their order, and each keeps
    its name as the attribute ``label``. ``where`` names the source in errors. Raises TopologyError where the
    graph is empty, directed, has parallel links or self-loops, or is not connected (saying who is apart).
    """
    graph = _simple(graph, where)
    size = graph.number_of_nodes()
    if size == 0:
        raise TopologyError(f"{where} has no peers; give one or more")
    if size > MAX_PEERS:
        raise TopologyError(f"{where} has {size} peers; at most {MAX_PEERS} are possible")
    numbered = set(graph) == set(range(size)) and not any(isinstance(node, bool) for node in graph)
    number = {node: node if numbered else place for place, node in enumerate(graph)}
    clean = nx.Graph()
    clean.add_nodes_from(range(size))
    if not numbered:
        for node, place in number.items():
            clean.nodes[place]["label"] = str(node)
    edges = ((number[u], number[v]) for u, v in graph.edges)
    clean.add_edges_from(sorted((min(edge), max(edge)) for edge in edges))
    _require_connected(clean, where)
    return clean


def _require_connected(graph: nx.Graph, where: str) -> None:
    parts = sorted((sorted(part) for part in nx.connected_components(graph)), key=lambda part: part[0])
    if len(parts) == 1:
        return
    shown = [f"{{{', '.join(map(str, part[:8]))}{', …' if len(part) > 8 else ''}}}" for part in parts[:4]]
    more = f" and {len(parts) - 4} more groups" if len(parts) > 4 else ""
    raise TopologyError(f"{where} is not connected: there is no path between the peers {', '.join(shown)}"
                        f"{more}; add links until every peer can reach every other")
