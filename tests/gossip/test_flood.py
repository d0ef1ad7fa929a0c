"""Floods: all reachable peers learn all values, and no peer waits for a peer that has ended."""

from __future__ import annotations

import contextlib

import msgpack
import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import (
    Distances,
    FloodMessage,
    Knowledge,
    agree_on_cuts,
    edges_of,
    flood_knowledge,
    read_message,
    without,
)
from p2pser.gossip.mixer import Step, add_late
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.wire.codec import Received


def flood(mixer, *arguments):
    return {peer: known.reachable_values() for peer, known in flood_knowledge(mixer, *arguments).items()}


def random_graph(size: int, seed: int) -> nx.Graph:
    graph = nx.random_labeled_tree(size, seed=seed)
    for u, v in nx.gnp_random_graph(size, 0.15, seed=seed).edges:
        graph.add_edge(u, v)
    return graph


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def said(size: int) -> dict[int, bytes]:
    return {i: b"value %d" % i for i in range(size)}


@given(size=st.integers(1, 14), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_everybody_learns_everything(size, seed):
    graph = random_graph(size, seed)
    mixer = SimulatedMixer(topology(graph))
    heard = flood(mixer, 0, said(size), graph)
    assert heard == {i: said(size) for i in range(size)}
    assert mixer.messages_sent.max() <= max(dict(graph.degree).values()) * (nx.diameter(graph) + 1)


@given(size=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_everybody_learns_the_union_of_labels_and_nobody_says_whose_they_are(size, seed):
    graph = random_graph(size, seed)
    own = {i: [f"emotion {i % 5}"] * (i % 3 > 0) for i in range(size)}
    nodes = flood_knowledge(SimulatedMixer(topology(graph)), 0, said(size), graph, labels=own)
    assert {node.labels for node in nodes.values()} == {tuple(sorted({name for each in own.values() for name in each}))}
    assert msgpack.unpackb(nodes[0].encode(False))[3] == list(nodes[0].labels)


def test_a_message_with_labels_is_read_only_where_they_are_due():
    graph = nx.path_graph(2)
    plain = msgpack.packb([False, [[1, b"one"]], []])
    labelled = msgpack.packb([False, [[1, b"one"]], [], ["fear"]])
    due = {"slot": 0, "distances": Distances(graph), "graph": graph}
    assert read_message(Received(1, labelled), **due, labelled=True).labels == ("fear",)
    assert read_message(Received(1, plain), **due).labels == ()
    for message, expected in ((plain, True), (labelled, False),
                              (msgpack.packb([False, [[1, b"one"]], [], ["fear", "fear"]]), True)):
        with pytest.raises(RemoteProtocolError, match="peer 1 sent"):
            read_message(Received(1, message), **due, labelled=expected)


@given(size=st.integers(3, 12), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_reachable_learn_from_each_other_when_some_die(size, seed, data):
    graph = random_graph(size, seed)
    victims = data.draw(st.sets(st.integers(0, size - 1), max_size=size // 2))
    dead = {i: Step(0, data.draw(st.integers(0, 4))) for i in sorted(victims)}
    mixer = SimulatedMixer(topology(graph), dead=dead)
    nodes = flood_knowledge(mixer, 0, said(size), graph)
    living = without(graph, edges_of(graph, victims))
    for i in set(range(size)) - victims:
        assert nx.node_connected_component(living, i) <= nodes[i].values.keys()


@pytest.mark.parametrize(
    "graph", [nx.cycle_graph(7), nx.star_graph(5), nx.path_graph(6), nx.complete_graph(4), random_graph(9, 3)]
)
def test_alone_nobody_waits_for_one_who_ended(graph, each_alone):
    heard = each_alone(topology(graph), lambda mixer: flood(mixer, 3, {mixer.peer: b"%d" % mixer.peer}, graph))
    for i in graph:
        assert heard[i] == {i: {j: b"%d" % j for j in graph}}


@pytest.mark.parametrize("seed", range(6))
def test_alone_with_deaths_nobody_hangs(seed, each_alone):
    graph = random_graph(10, seed)
    dead = {seed: Step(0, seed % 3), (seed + 4) % 10: Step(0, 1)}
    heard = each_alone(topology(graph), lambda mixer: flood(mixer, 0, {mixer.peer: b""}, graph), dead=dead)
    assert heard.keys() == set(graph) - dead.keys()


def test_all_agree_on_the_cut_edges_known_before():
    graph = nx.cycle_graph(8)
    mixer = SimulatedMixer(topology(graph), dead={3: Step(-9, 0)})
    cuts = agree_on_cuts(mixer, 0, graph, dead={3})
    assert {cuts[i] for i in range(8) if i != 3} == {frozenset({(2, 3), (3, 4)})}


def test_the_dead_found_during_the_flood_are_known_to_all():
    graph = nx.cycle_graph(8)
    cuts = agree_on_cuts(SimulatedMixer(topology(graph), dead={3: Step(-9, 0)}), 0, graph)
    assert {cuts[i] for i in range(8) if i != 3} == {frozenset({(2, 3), (3, 4)})}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x01",
        msgpack.packb([True, [], []])[:-1],
        msgpack.packb([1, [], []]),
        msgpack.packb([True, [[9, b""]], []]),
        msgpack.packb([True, [[0, "text"]], []]),
        msgpack.packb([True, [], [[0, 2]]]),
        msgpack.packb([True, [], [[0, True]]]),
        msgpack.packb([True, {}, []]),
        msgpack.packb([True, [[[], b""]], []]),
    ],
)
def test_other_forms_are_refused_and_name_the_peer(message):
    graph = nx.path_graph(4)
    with pytest.raises(RemoteProtocolError) as refused:
        read_message(Received(2, message), 9, Distances(graph), graph)
    assert refused.value.peer == 2


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(message):
    graph = nx.path_graph(4)
    with contextlib.suppress(RemoteProtocolError):
        said = read_message(Received(1, message), 9, Distances(graph), graph)
        assert said.values.keys() <= {0, 1, 2, 3}
        assert said.cut <= set(graph.edges)


def test_late_rows_of_training_that_arrive_during_the_flood_of_cuts_are_handed_on_once():
    where = topology(nx.cycle_graph(5))
    mixer = SimulatedMixer(where, faults=Faults(delay=0.5, longest=1, until=2), rounds=2)
    x = torch.arange(5.0, dtype=torch.float64)[:, None]
    for round in range(2):
        x = mixer.mix(x, Step(round, 0))
    before, flows = mixer.late, []
    agree_on_cuts(mixer, 2, where.graph, late=flows.extend)
    assert mixer.late == before + len(flows)
    assert float(add_late(x, flows, mixer.peers).mean()) == pytest.approx(2.0, abs=1e-14)
    assert abs(float(x.mean()) - 2.0) > 1e-3


def test_of_a_living_neighbour_only_its_own_word_counts():
    graph = nx.complete_graph(4)
    node = Knowledge(0, graph, {0: b"own"}, Distances(graph))
    node.merge(FloodMessage(False, {1: b"one", 2: b"a lie"}, frozenset({(2, 3), (0, 2)})), 1)
    assert (node.values, node.cut) == ({0: b"own", 1: b"one"}, set())
    node.lost(2)
    node.merge(FloodMessage(False, {2: b"two", 3: b"a lie"}, frozenset({(2, 3)})), 1)
    assert (node.values, node.cut) == ({0: b"own", 1: b"one", 2: b"two"}, {(0, 2)})


def test_a_value_is_read_up_to_its_largest_size():
    graph = nx.path_graph(4)
    fits, too_long = (msgpack.packb([False, [[2, bytes(size)]], []]) for size in (5, 6))
    assert read_message(Received(2, fits), 0, Distances(graph), graph, most=5).values == {2: bytes(5)}
    with pytest.raises(RemoteProtocolError, match="6 bytes in a flood where at most 5 are due"):
        read_message(Received(2, too_long), 0, Distances(graph), graph, most=5)
