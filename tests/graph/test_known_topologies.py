"""Graphs, weights, schedules and figures against constants worked out by hand."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import p2pser
from p2pser.base.paths import packaged
from p2pser.base.registries import GRAPHS, SCHEDULES
from p2pser.graph.graphs import build
from p2pser.graph.mixing import RULES, metropolis, slow_weights, weight
from p2pser.graph.schedules import default_receivers
from p2pser.graph.spec import Topology, load, parse, shipped
from p2pser.graph.summary import compare, diameter, summarise


def made(graph: dict[str, Any], **more: Any) -> Topology:
    return parse({"graph": graph, **more}, "test")


# ---- graphs ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "peers", "edges"), [
    ("ring", 4, "01 03 12 23"), ("chain", 4, "01 12 23"), ("star", 4, "01 02 03"), ("complete", 4, "01 02 03 12 13 23"),
    ("grid", 6, "01 03 12 14 25 34 45"),
    ("torus", 9, "01 02 03 06 12 14 17 25 28 34 35 36 45 47 58 67 68 78"),
    ("hypercube", 8, "01 02 04 13 15 23 26 37 45 46 57 67"), ("tree", 8, "01 02 13 14 25 26 37"),
    ("exponential", 6, "01 02 04 05 12 13 15 23 24 34 35 45"), ("barbell", 5, "01 12 23 34"),
    ("clustered", 5, "01 02 04 12 23 34"), ("directed-ring", 3, "01 12 20"),
    ("directed-exponential", 5, "01 02 04 10 12 13 21 23 24 30 32 34 40 41 43"),
])
def test_edges(kind: str, peers: int, edges: str) -> None:
    assert sorted(build(kind, peers).edges) == [(int(edge[0]), int(edge[1])) for edge in edges.split()]


@pytest.mark.parametrize(("kind", "parameters", "edges"), [
    ("grid", {"rows": 3}, "01 02 13 23 24 35 45"), ("grid", {"columns": 3}, "01 03 12 14 25 34 45"),
    ("tree", {"branching": 4}, "01 02 03 04 15"), ("barbell", {"bridge": 2}, "01 12 23 34 45"),
    ("clustered", {"clusters": 3}, "01 05 12 23 34 45"),
])
def test_edges_with_parameters(kind: str, parameters: dict[str, int], edges: str) -> None:
    assert sorted(build(kind, 6, **parameters).edges) == [(int(edge[0]), int(edge[1])) for edge in edges.split()]


@pytest.mark.parametrize(("kind", "parameters", "degree"), [
    ("random-regular", {}, 4), ("random-regular", {"degree": 6}, 6),
])
def test_edges_of_regular_graphs(kind: str, parameters: dict[str, int], degree: int) -> None:
    assert {number for _, number in build(kind, 10, **parameters).degree} == {degree}


def test_defaults_of_random_graphs() -> None:
    assert set(build("watts-strogatz", 30).edges) == set(build("watts-strogatz", 30, degree=4, probability=0.2).edges)
    assert set(build("barabasi-albert", 30).edges) == set(build("barabasi-albert", 30, m=2).edges)
    threshold = 2 * np.log(30) / 30
    for kind in ("erdos-renyi", "random-digraph"):
        assert set(build(kind, 30).edges) == set(build(kind, 30, probability=threshold).edges)
    radius = float(np.sqrt(2 * np.log(30) / (np.pi * 30)))
    assert set(build("random-geometric", 30).edges) == set(build("random-geometric", 30, radius=radius).edges)


def test_what_is_registered() -> None:
    assert list(GRAPHS) == [
        "barabasi-albert", "barbell", "chain", "clustered", "complete", "directed-exponential", "directed-ring",
        "erdos-renyi", "exponential", "grid", "hypercube", "random-digraph", "random-geometric", "random-regular",
        "ring", "star", "torus", "tree", "watts-strogatz"]
    assert list(SCHEDULES) == ["base", "epidemic", "one-peer-exponential", "one-peer-hypercube", "random-matching"]
    parameters = {name: {key: (known.type, known.low, known.high, known.choices) for key, known in
                         kind.parameters.items() if key != "seed"}
                  for registry in (GRAPHS, SCHEDULES) for name, kind in registry.items()}
    whole, share = (int, 1, 200_000, ()), (float, 0, 1, ())
    assert {name: known for name, known in parameters.items() if known} == {
        "barabasi-albert": {"m": whole}, "barbell": {"bridge": (int, 0, 200_000, ())}, "base": {"k": whole},
        "clustered": {"clusters": whole}, "epidemic": {"s": whole, "form": (str, -np.inf, np.inf, ("oracle", "local"))},
        "erdos-renyi": {"probability": share}, "grid": {"rows": whole, "columns": whole},
        "random-digraph": {"probability": share}, "random-geometric": {"radius": (float, 0, 2, ())},
        "random-regular": {"degree": whole}, "star": {"centres": whole}, "torus": {"rows": whole, "columns": whole},
        "tree": {"branching": whole},
        "watts-strogatz": {"degree": whole, "probability": share}}
    assert [name for registry in (GRAPHS, SCHEDULES) for name, kind in registry.items() if kind.random] == [
        "barabasi-albert", "erdos-renyi", "random-digraph", "random-geometric", "random-regular", "watts-strogatz",
        "epidemic", "random-matching"]
    assert all(kind.description.endswith(".") for registry in (GRAPHS, SCHEDULES) for _, kind in registry.items())


# ---- weights -----------------------------------------------------------------------------------------------

def test_weights_of_a_chain() -> None:
    third, sixth = 1 / 3, 1 / 6
    chain = build("chain", 4)
    expected = {
        "metropolis": [[2 / 3, third, 0, 0], [third, third, third, 0], [0, third, third, third], [0, 0, third, 2 / 3]],
        "lazy": [[5 / 6, sixth, 0, 0], [sixth, 2 / 3, sixth, 0], [0, sixth, 2 / 3, sixth], [0, 0, sixth, 5 / 6]],
        "max-degree": [[2 / 3, third, 0, 0], [third, third, third, 0], [0, third, third, third], [0, 0, third, 2 / 3]],
        "best-constant": [[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5]],
    }
    for rule, W in expected.items():
        np.testing.assert_allclose(RULES[rule](chain).dense(), W, rtol=0, atol=1e-12)


def test_weights_by_degrees_and_clips() -> None:
    assert [weight(1, 3), weight(3, 1), weight(2, 2, 10, 40), weight(2, 2, 40, 10)] == [0.25, 0.25, 1 / 3, 1 / 12]
    # A star of three: peer 0 has 10 clips, the others 40 and 5.
    np.testing.assert_allclose(metropolis(build("star", 3), {0: 10, 1: 40, 2: 5}),
                               [[5 / 12, 1 / 3, 1 / 4], [1 / 12, 11 / 12, 0], [1 / 2, 0, 1 / 2]], rtol=0, atol=1e-12)


def test_weights_of_senders() -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)])
    expected = [[1 / 3, 0, 1 / 2], [1 / 3, 1 / 2, 0], [1 / 3, 1 / 2, 1 / 2]]
    np.testing.assert_allclose(RULES["out-degree"](graph).dense(), expected, rtol=0, atol=1e-12)


def test_unequal_clips_are_reported_from_twice_the_exchanges_on() -> None:
    chain = build("chain", 6)
    uniform = metropolis(chain)
    twice, thrice = (metropolis(chain, {i: count if i % 2 == 0 else 1 for i in range(6)}) for count in (2, 3))
    assert slow_weights(uniform, twice) is None
    sentence = slow_weights(uniform, thrice)
    assert sentence is not None
    assert "takes 307 exchanges instead of 148" in sentence


# ---- schedules ---------------------------------------------------------------------------------------------

def test_exchanges_of_one_peer_schedules() -> None:
    topology = load("one-peer-exponential", 5)
    assert [topology.sources(0, t) for t in range(4)] == [(4,), (3,), (1,), (4,)]
    assert [topology.receivers(0, t) for t in range(4)] == [(1,), (2,), (4,), (1,)]
    cube = load("one-peer-hypercube", 8)
    assert [cube.sources(5, t) for t in range(4)] == [(4,), (7,), (1,), (4,)]
    assert load("base-2", 6).schedule.period == 4  # type: ignore[union-attr]
    assert np.diag(topology.matrix(0)).tolist() == [0.5] * 5


def test_receivers_and_sources_of_a_one_way_ring() -> None:
    topology = load("directed-ring", 4)
    assert [topology.receivers(i, 0) for i in range(4)] == [(1,), (2,), (3,), (0,)]
    assert [topology.sources(i, 0) for i in range(4)] == [(3,), (0,), (1,), (2,)]


def test_default_receivers_of_epidemic_learning() -> None:
    assert [default_receivers(peers) for peers in (2, 3, 5, 8, 9, 16, 17)] == [1, 2, 4, 3, 4, 4, 6]
    sent = load("epidemic", 16).matrix(3) != 0
    assert set((sent.sum(axis=0) - 1).tolist()) == {4}


def test_a_sequence_continues_each_schedule_where_it_stopped(tmp_path: Path) -> None:
    sequence = parse({"graph": {"kind": "sequence", "peers": 8, "each": 2,
                                "files": ["one-peer-exponential", "one-peer-hypercube"]}}, "test")
    hops = [sequence.sources(0, t)[0] for t in range(8)]
    # Two exchanges each: 0 receives from 7, 6 | 1, 2 | 4, 7 | 4, 1.
    assert hops == [7, 6, 1, 2, 4, 7, 4, 1]


# ---- figures and digests -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "edges", "degrees", "links", "slem", "rounds"), [
    ("ring", 8, (2, 2.0, 2), 4, 0.8047378541243650, 64), ("chain", 7, (1, 1.75, 2), 7, 0.9492530216741912, 266),
    ("star", 7, (1, 1.75, 7), 2, 0.875, 104), ("complete", 28, (7, 7.0, 7), 1, 0.0, 1),
    ("hypercube", 12, (3, 3.0, 3), 3, 0.5, 20),
])
def test_facts(name: str, edges: int, degrees: tuple[int, float, int], links: int, slem: float, rounds: int) -> None:
    facts = summarise(load(name, 8))
    assert (facts["edges"], tuple(facts["degree"].values()), facts["diameter"]) == (edges, degrees, links)
    assert (facts["slem"], facts["spectral_gap"]) == (pytest.approx(slem, abs=1e-9), pytest.approx(1 - slem, abs=1e-9))
    assert facts["rounds_to_1e-6"] == rounds


def test_facts_of_messages() -> None:
    facts = compare(load("directed-ring", 8), parameters=1000)
    assert (facts["messages_per_exchange"], facts["bytes_per_exchange"]) == (8, 32_000)
    assert facts["slem"] == pytest.approx(np.cos(np.pi / 8), abs=1e-9)  # |1 + exp(2 pi i / 8)| / 2
    assert facts["finite_time_rounds"] is None
    facts = compare(load("one-peer-exponential", 8), parameters=10)
    assert (facts["period"], facts["finite_time_rounds"], facts["bytes_per_exchange"]) == (3, 3, 320)
    assert (facts["rounds_measured"], facts["contraction"], facts["stochastic"]) == (3, 0.0, "doubly")


def test_facts_of_long_graphs() -> None:
    assert [diameter(build(kind, 9)) for kind in ("chain", "ring", "star", "complete", "grid")] == [8, 4, 2, 1, 4]
    assert diameter(build("ring", 1)) == 0


def test_shipped_files_are_part_of_the_package() -> None:
    folder = Path(p2pser.__file__).parent / "topologies"
    assert packaged("topologies") == folder
    assert {path.parent for path in shipped().values()} == {folder}
    assert len(shipped()) == 27
    setup = configparser.ConfigParser()
    setup.read(folder.parents[1] / "setup.cfg", encoding="utf-8")
    assert "topologies/*.yaml" in setup["options.package_data"]["p2pser"].split()


def test_digests_stay_what_they_are() -> None:
    # Peers with different versions of p2pser compare these.
    assert {name: load(name, 4).digest() for name in ("one-peer-exponential", "one-peer-hypercube", "base-2")} == {
        "one-peer-exponential": "09dc116aa4fe830056abf05375158fef",
        "one-peer-hypercube": "af54d9e71f53adcef97a8d10667871f8", "base-2": "021d2c74e94197f4d034e0e01f801f40"}
    star = {"kind": "star", "peers": 4}
    assert (made(star).digest(), made(star, hub=0).digest()) == (
        "c3515e8d543a741a3ea84e33d3933358", "3519993a7ea04cfca971096250c27898")
