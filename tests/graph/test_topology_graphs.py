"""The kinds of graphs: their shapes, the sizes they can have, and what they refuse."""

from __future__ import annotations

import math

import networkx as nx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pser.base.errors import TopologyError
from p2pser.base.registries import GRAPHS
from p2pser.graph.graphs import build, checked, generators, is_random

DIRECTED = {"directed-ring", "directed-exponential", "random-digraph"}


@given(kind=st.sampled_from(sorted(GRAPHS)), peers=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_every_kind_is_a_connected_simple_graph(kind: str, peers: int, seed: int) -> None:
    assume(GRAPHS[kind].fits(peers))
    graph = build(kind, peers, **({"seed": seed} if is_random(kind) else {}))
    assert list(graph) == list(range(peers))
    assert nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
    assert graph.is_directed() == (kind in DIRECTED)
    assert not graph.is_multigraph()
    assert nx.number_of_selfloops(graph) == 0


@pytest.mark.parametrize(("kind", "peers", "edges", "degrees"), [
    ("ring", 8, 8, {2}),
    ("ring", 2, 1, {1}),
    ("ring", 1, 0, {0}),
    ("chain", 8, 7, {1, 2}),
    ("star", 8, 7, {1, 7}),
    ("complete", 8, 28, {7}),
    ("grid", 12, 17, {2, 3, 4}),
    ("torus", 16, 32, {4}),
    ("hypercube", 16, 32, {4}),
    ("tree", 7, 6, {1, 2, 3}),
    ("exponential", 8, 20, {5}),
    ("exponential", 2, 1, {1}),
    ("random-regular", 12, 24, {4}),
    ("barbell", 8, 13, {3, 4}),
    ("barbell", 9, 14, {2, 3, 4}),
    ("clustered", 9, 12, {2, 3}),
    ("clustered", 4, 4, {2}),
    ("barabasi-albert", 16, 28, None),
    ("directed-ring", 8, 8, {2}),
    ("directed-ring", 2, 2, {2}),
    ("directed-exponential", 8, 24, {6}),
    ("directed-exponential", 1, 0, {0}),
])
def test_shapes(kind: str, peers: int, edges: int, degrees: set[int] | None) -> None:
    graph = build(kind, peers)
    assert graph.number_of_edges() == edges
    assert degrees is None or {degree for _, degree in graph.degree} == degrees


@pytest.mark.parametrize(("kind", "peers", "reference"), [
    ("grid", 12, nx.grid_2d_graph(3, 4)),
    ("torus", 20, nx.grid_2d_graph(4, 5, periodic=True)),
    ("hypercube", 32, nx.hypercube_graph(5)),
    ("tree", 13, nx.full_rary_tree(2, 13)),
])
def test_shapes_are_those_of_networkx(kind: str, peers: int, reference: nx.Graph) -> None:
    assert nx.is_isomorphic(build(kind, peers), reference)


def test_exponential_links_to_powers_of_two() -> None:
    graph = build("exponential", 16)
    hops = {min((u - v) % 16, (v - u) % 16) for u, v in graph.edges}
    assert hops == {1, 2, 4, 8}


def test_parameters_change_the_graph() -> None:
    assert max(degree for _, degree in build("tree", 13, branching=3).degree) == 4
    assert {degree for _, degree in build("random-regular", 10, degree=3).degree} == {3}
    assert build("grid", 12, rows=2).number_of_edges() == 2 * 5 + 6
    assert nx.is_isomorphic(build("torus", 12, columns=6), nx.grid_2d_graph(2, 6, periodic=True))
    assert build("erdos-renyi", 10, probability=1.0).number_of_edges() == 45
    assert nx.is_isomorphic(build("watts-strogatz", 12, probability=0, degree=2), nx.cycle_graph(12))
    assert nx.is_isomorphic(build("barbell", 10, bridge=4), nx.barbell_graph(3, 4))
    assert nx.is_isomorphic(build("clustered", 12, clusters=3), nx.ring_of_cliques(3, 4))
    assert nx.is_isomorphic(build("clustered", 9, clusters=9), nx.cycle_graph(9))
    assert nx.is_isomorphic(build("clustered", 6, clusters=1), nx.complete_graph(6))
    assert build("barabasi-albert", 12, m=1).number_of_edges() == 11
    assert build("random-geometric", 12, radius=1.5).number_of_edges() == 66
    assert build("random-digraph", 6, probability=1.0).number_of_edges() == 30


def test_random_geometric_links_are_the_near_pairs() -> None:
    graph = build("random-geometric", 20, radius=0.4, seed=3)
    at = nx.get_node_attributes(graph, "pos")
    near = {(i, j) for i in graph for j in graph if i < j and math.dist(at[i], at[j]) <= 0.4}
    assert set(graph.edges) == near


def test_directed_links_say_who_sends() -> None:
    assert sorted(build("directed-ring", 3).edges) == [(0, 1), (1, 2), (2, 0)]
    assert sorted(build("directed-exponential", 6).successors(5)) == [0, 1, 3]


@pytest.mark.parametrize("kind", [kind for kind in GRAPHS if is_random(kind)] + ["barabasi_albert_graph"])
def test_random_graphs_are_a_function_of_their_seed(kind: str) -> None:
    more = {"m": 2} if kind == "barabasi_albert_graph" else {}
    first, again = build(kind, 24, seed=5, **more), build(kind, 24, seed=5, **more)
    assert sorted(first.edges) == sorted(again.edges)
    assert any(sorted(build(kind, 24, seed=s, **more).edges) != sorted(first.edges) for s in range(6, 10))


def test_sparse_random_graphs_are_redrawn_until_connected() -> None:
    graph = build("erdos-renyi", 12, probability=0.15, seed=1)  # one draw in some 20 is connected
    assert nx.is_connected(graph)


@pytest.mark.parametrize(("kind", "peers", "parameters", "message"), [
    ("hypercube", 6, {}, r"no hypercube of 6 peers: .* power of two .*: 4 and 8$"),
    ("random-regular", 9, {"degree": 3}, r"no random-regular of 9 peers, degree 3: .*: 8 and 10$"),
    ("random-regular", 3, {"degree": 4}, r"the next numbers that fit: 5$"),
    ("watts-strogatz", 9, {"degree": 3}, r"even degree of 2 or more.*change its parameters"),
    ("watts-strogatz", 2, {}, r"the next numbers that fit: 3$"),
    ("torus", 7, {}, r"no torus of 7 peers: .* both 2 or more; the next numbers that fit: 6 and 8"),
    ("grid", 16, {"rows": 3}, r"no grid of 16 peers, rows 3: .*: 15 and 18$"),
    ("torus", 16, {"rows": 3, "columns": 3}, r"the next numbers that fit: 9$"),
    ("erdos-renyi", 30, {"probability": 0.001}, r"none of 1000 draws was connected; .*higher probability"),
    ("erdos-renyi", 8, {"probability": 1.5}, r"probability = 1.5 must be a number, 0 to 1"),
    ("random-regular", 8, {"degree": 2.5}, r"degree = 2.5 must be a whole number"),
    ("random-regular", 8, {"degree": True}, r"degree = True must be a whole number"),
    ("tree", 8, {"branching": 0}, r"branching = 0 must be a whole number, 1 to"),
    ("tree", 8, {"branchin": 3}, r"no parameter 'branchin'; did you mean 'branching'"),
    ("ring", 8, {"degree": 3}, r"'ring' has no parameter 'degree'; it has none"),
    ("rin", 8, {}, r"no graph kind 'rin'; did you mean 'ring'"),
    ("barabasi_albert_grap", 8, {}, r"did you mean 'barabasi_albert_graph'"),
    ("zzzzz", 8, {}, r"known: barabasi-albert, barbell, .* and networkx's generators by name"),
    ("barbell", 8, {"bridge": 3}, r"no barbell of 8 peers, bridge 3: .*: 7 and 9$"),
    ("clustered", 4, {"clusters": 5}, r"as many peers as clusters or more; the next numbers that fit: 5$"),
    ("barabasi-albert", 3, {"m": 3}, r"more peers than m; the next numbers that fit: 4$"),
    ("random-geometric", 8, {"radius": -1}, r"radius = -1 must be a number, 0 to 2"),
    ("random-digraph", 8, {"probability": 0.01}, r"none of 1000 draws was strongly connected \(in the last"),
    ("one-peer-exponentail", 8, {}, r"did you mean 'one-peer-exponential'"),
    ("base", 8, {}, r"is a schedule, not one graph"),
    ("ring", 0, {}, r"a topology of 0 peers is not possible"),
    ("ring", 10**7, {}, r"give 1 to 200000"),
    ("ring", None, {}, r"needs the number of peers: add 'peers: N'"),
])
def test_refused(kind: str, peers: int | None, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        build(kind, peers, **parameters)


# ---- networkx's generators --------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "peers", "parameters", "reference"), [
    ("petersen_graph", None, {}, nx.petersen_graph()),
    ("star_graph", 8, {}, nx.star_graph(7)),  # whose n is not the number of nodes
    ("circular_ladder_graph", 10, {}, nx.circular_ladder_graph(5)),
    ("hypercube_graph", 16, {}, nx.hypercube_graph(4)),
    ("lollipop_graph", 9, {"m": 4}, nx.lollipop_graph(4, 5)),
    ("balanced_tree", None, {"r": 2, "h": 3}, nx.balanced_tree(2, 3)),
    ("wheel_graph", 2000, {}, nx.wheel_graph(2000)),
    ("circulant_graph", 9, {"offsets": [1, 3]}, nx.circulant_graph(9, [1, 3])),
    ("paley_graph", None, {"p": 7}, nx.paley_graph(7)),  # directed, for p = 3 modulo 4
    ("directed_havel_hakimi_graph", None, {"in_deg_sequence": [1, 1, 1], "out_deg_sequence": [1, 1, 1]},
     nx.DiGraph([(0, 1), (1, 2), (2, 0)])),
])
def test_generators_of_networkx(
    name: str, peers: int | None, parameters: dict[str, object], reference: nx.Graph
) -> None:
    graph = build(name, peers, **parameters)
    assert list(graph) == list(range(reference.number_of_nodes()))
    assert sorted(d for _, d in graph.degree) == sorted(d for _, d in reference.degree)
    assert nx.faster_could_be_isomorphic(graph, reference)


@pytest.mark.parametrize(("name", "peers", "parameters", "message"), [
    ("petersen_graph", 8, {}, r"has 10 peers with these parameters, not 8"),
    ("hypercube_graph", 500, {}, r"no graph of 500 peers; sizes near it: 256, 512"),
    ("gn_graph", 8, {}, r"none of 1000 draws was strongly connected \(in the last, messages of peer 0 cannot reach the "
                        r"peers 1, 2, 3, 4, 5, 6, 7\)"),
    ("random_k_out_graph", 8, {"k": 2, "alpha": 1.0}, r"parallel links"),
    ("gnp_random_graph", 8, {"p": 0.01, "directed": True}, r"was strongly connected \(in the last, messages"),
    ("configuration_model", None, {"deg_sequence": [3, 3, 3, 3]}, r"parallel links"),
    ("caveman_graph", None, {"l": 2, "k": 3}, r"not connected: .*\{0, 1, 2\}, \{3, 4, 5\}"),
    ("barabasi_albert_graph", 8, {}, r"does not accept these parameters .*'m'"),
    ("barabasi_albert_graph", 8, {"m": 2, "create_using": "x"}, r"no parameter 'create_using' that a"),
    ("barabasi_albert_graph", 8, {"m": 2, "backend": "x"}, r"no parameter 'backend'"),
    ("null_graph", None, {}, r"has no peers"),
    ("number_of_nonisomorphic_trees", None, {"order": 4}, r"there is no graph kind"),
    ("ego_graph", 8, {}, r"there is no graph kind"),
    ("nx", 8, {}, r"there is no graph kind"),
    ("itertools", 8, {}, r"there is no graph kind"),
    ("__builtins__", 8, {}, r"there is no graph kind"),
    ("random_powerlaw_tree_sequence", None, {"n": 8, "tries": 10_000}, r"returns a list, not a graph"),
])
def test_generators_refused(
    name: str, peers: int | None, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(TopologyError, match=message):
        build(name, peers, **parameters)


def test_only_networkxs_own_generators_can_be_named() -> None:
    table = generators()
    assert {"petersen_graph", "barabasi_albert_graph", "karate_club_graph"} <= set(table)
    assert all(generator.__module__.startswith("networkx.generators.") for generator in table.values())
    assert not any(name.startswith("_") for name in table)


# ---- checking ----------------------------------------------------------------------------------------------

def test_names_become_numbers_and_stay_as_labels() -> None:
    graph = checked(nx.Graph([("clinic", "lab"), ("lab", "car")]), "here")
    assert sorted(graph.edges) == [(0, 1), (1, 2)]
    assert [graph.nodes[i]["label"] for i in graph] == ["clinic", "lab", "car"]


def test_self_loops_are_refused() -> None:
    with pytest.raises(TopologyError, match="here links peer 2 to itself"):
        checked(nx.Graph([(0, 1), (1, 2), (2, 2)]), "here")


def test_disconnected_graphs_name_who_is_apart() -> None:
    graph = nx.empty_graph(30)
    graph.add_edges_from([(0, 1), (2, 3)])
    with pytest.raises(TopologyError, match=r"\{0, 1\}, \{2, 3\}, \{4\}, \{5\} and 24 more groups"):
        checked(graph, "here")
