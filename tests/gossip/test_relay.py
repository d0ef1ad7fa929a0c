"""RelaySGD: one process a peer against one for all, resumed runs, its tree, messages, refusals."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.algorithms.relay import spanning_tree
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import SimulatedMixer

GRAPHS = {
    "tree": (parse({"graph": {"kind": "tree", "peers": 7}}, "test"), {}),
    "ring": (parse({"graph": {"kind": "ring", "peers": 7}}, "test"), {"spanning_tree": True}),
}
CLIPS = Config().with_settings(["gossip.algorithm=relay", "gossip.weighting=clips"])


def start():
    return torch.randn(7, 11, generator=torch.Generator().manual_seed(0))


def method(graph, config=CLIPS):
    where, parameters = GRAPHS[graph]
    found = create("relay", parameters, config, where)
    assert validate(found, config, where) == ()
    return found


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_alone_equals_the_exact_simulation_bit_for_bit(graph, each_alone, waves):
    where = GRAPHS[graph][0]
    mixer = SimulatedMixer(where, exact=True)
    together = run(method(graph), State({"x": start()}), waves(mixer.peers), mixer, 8)
    alone = each_alone(where, lambda solo: run(
        method(graph), State({"x": start()[solo.peer :][:1].clone()}), waves(solo.peers), solo, 8))
    assert all(torch.equal(alone[i].rows["x"][0], together.rows["x"][i]) for i in range(7))


@pytest.mark.parametrize("graph", GRAPHS)
def test_resumed_from_a_checkpoint_equals_uninterrupted(graph, whole_and_resumed, waves):
    whole, resumed = whole_and_resumed(lambda: method(graph), start, waves(range(7)), GRAPHS[graph][0])
    assert torch.equal(resumed.rows["x"], whole.rows["x"])
    assert resumed.edges.keys() == whole.edges.keys()


def test_links_outside_the_tree_carry_empty_messages(waves):
    where = GRAPHS["ring"][0]
    mixer = SimulatedMixer(where)
    run(method("ring"), State({"x": start()}), waves(range(7)), mixer, 5)
    tree = spanning_tree(where.graph)
    assert mixer.messages_sent.tolist() == [10] * 7
    assert mixer.bytes_sent.tolist() == [5 * 4 * 12 * tree.degree(i) for i in range(7)]


@pytest.mark.parametrize("graph", [nx.cycle_graph(9), nx.complete_graph(6), nx.grid_2d_graph(4, 4), nx.path_graph(1)])
def test_the_spanning_tree_is_one_of_the_shortest_ways_from_a_centre(graph):
    graph = nx.convert_node_labels_to_integers(graph)
    tree = spanning_tree(graph)
    assert nx.is_tree(tree)
    assert set(map(frozenset, tree.edges)) <= set(map(frozenset, graph.edges))
    assert nx.diameter(tree) <= 2 * nx.radius(graph)
    shuffled = nx.Graph()
    shuffled.add_nodes_from(reversed(list(graph)))
    shuffled.add_edges_from(reversed(list(graph.edges)))
    assert set(map(frozenset, spanning_tree(shuffled).edges)) == set(map(frozenset, tree.edges))


def test_a_death_leaves_two_trees_whose_means_go_on():
    where = parse({"graph": {"kind": "chain", "peers": 7}}, "test")
    one = create("relay", {}, Config(), where)

    class Still:
        clips = (1,) * 7

        def train(self, state, round, *, rows=None, correction=None, only=None):
            return state.rows["x"].clone()

    mixer = SimulatedMixer(where, dead={3: Step(0, 0)})
    state = run(one, State({"x": start().double()}), Still(), mixer, 60)
    left, right = state.rows["x"][:3], state.rows["x"][4:]
    assert float((left - left[0]).abs().max()) <= 1e-9
    assert float((right - right[0]).abs().max()) <= 1e-9
    assert float((left[0] - right[0]).abs().max()) > 1e-2
    assert set(state.edges) == {(0, 1), (1, 0), (1, 2), (2, 1), (4, 5), (5, 4), (5, 6), (6, 5)}


@pytest.mark.parametrize("value", [b"", torch.ones(11), torch.zeros(12), torch.full((12,), float("nan")),
                                   torch.full((12,), 1e8), torch.cat([torch.full((11,), 1e9), torch.ones(1)])])
def test_a_wrong_message_is_a_strike_and_counts_as_missing(value, waves, lying):
    tree = GRAPHS["tree"][0]
    mixer = lying(tree, 0, 1, value)
    state = method("tree").round(State({"x": start()}), waves(range(7)), mixer, 0)
    assert [edge for edge, _, _ in mixer.strikes] == [(1, 0)]
    assert (1, 0) not in state.edges
    assert (0, 1) in state.edges
    assert torch.isfinite(state.rows["x"]).all()


@pytest.mark.parametrize(("document", "match"), [
    ({"graph": {"kind": "ring", "peers": 6}}, "spanning_tree=true"),
    ({"graph": {"kind": "directed-ring", "peers": 6}}, "one tree"),
    ({"graph": {"kind": "one-peer-exponential", "peers": 6}}, "one tree"),
])
def test_what_is_no_tree_is_refused(document, match):
    where = parse(document, "test")
    with pytest.raises(ConfigError, match=match):
        validate(create("relay", {}, Config(), where), Config(), where)
