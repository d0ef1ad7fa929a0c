"""What agreements come to beforehand is what their messages come to: exchanges, distances, rows, bytes."""

from __future__ import annotations

import msgpack
import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.gossip.agreement.consensus import consensus, living_slem
from p2pser.gossip.agreement.flood import agree_on_cuts
from p2pser.gossip.agreement.foreseen import Foresight, costs, largest_of_sums
from p2pser.gossip.agreement.statistics import TOLERANCE, statistics
from p2pser.graph.mixing import metropolis_entries
from p2pser.graph.paths import balls
from p2pser.graph.spec import Topology, load
from p2pser.graph.translations import convolution
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.results import distance

GRAPHS = [("ring", 17), ("torus", 20), ("hypercube", 16), ("complete", 6), ("exponential", 20),  # alike from every peer
          ("chain", 9), ("grid", 12), ("star", 8), ("tree", 15), ("watts-strogatz", 21), ("base-2", 11), ("ring", 2)]


def rows_of(peers: int, width: int) -> torch.Tensor:
    draw = np.random.default_rng(peers)
    return torch.from_numpy(draw.normal(size=(peers, width)) + draw.normal(size=width)).to(torch.float32)


@pytest.mark.parametrize(("name", "peers"), GRAPHS)
@pytest.mark.parametrize("counted", [False, True])  # clip counts make W look different from every peer
@pytest.mark.parametrize(("width", "limit"), [(7, 2000), (100, 15)])
def test_a_consensus_ends_as_with_messages(name, peers, counted, width, limit):
    topology, rows = load(name, peers), rows_of(peers, width)
    counts = {i: 10 + 7 * i % 11 for i in range(peers)} if counted else None
    share = torch.tensor([float(counts[i]) if counts else 1.0 for i in range(peers)], dtype=torch.float64)
    share /= share.sum()
    slem, mixer, seen = living_slem(topology, counts, (), 0), SimulatedMixer(topology, counts=counts, rounds=0), []
    final = consensus(mixer, rows, 0, topology, 1e-9, slem=slem, max_exchanges=limit,
                      observe=lambda k, y: seen.append(distance(y, share @ y)))
    foreseen = Foresight(mixer.weights).consensus(rows, 1e-9, slem=slem, max_exchanges=limit, share=share)
    assert (foreseen.final.exchanges, foreseen.final.converged) == (final.exchanges, final.converged)
    assert foreseen.final.distance == pytest.approx(final.distance, rel=1e-4, abs=1e-15)
    torch.testing.assert_close(foreseen.final.rows, final.rows, rtol=1e-12, atol=1e-13)
    assert len(foreseen.distances) == len(seen)
    # Those at the end differ by rounding only: of rows that agree to 1e-9.
    assert foreseen.distances == pytest.approx(seen, rel=1e-5, abs=1e-15)
    assert (mixer.weights.sent * foreseen.posts).tolist() == mixer.messages_sent.tolist()


@pytest.mark.parametrize(("name", "peers"), [*GRAPHS, ("torus", 140)])
def test_a_flood_of_cuts_costs_the_same(name, peers):
    topology = load(name, peers)
    mixer = SimulatedMixer(topology, rounds=0)
    assert set(agree_on_cuts(mixer, 0, topology.graph).values()) == {frozenset()}
    sent, messages = Foresight(mixer.weights).flood()
    assert sent.tolist() == mixer.bytes_sent.tolist()
    assert messages.tolist() == mixer.messages_sent.tolist()


def test_the_bytes_of_a_value_in_a_flood():
    each = costs(70_000)
    for peer in (0, 127, 128, 255, 256, 65_535, 65_536, 69_999):
        assert each[peer] == len(msgpack.packb([(peer, b"")])) - 1


@pytest.mark.parametrize(("name", "peers"), [("torus", 12), ("grid", 12)])
def test_statistics_end_as_with_messages(name, peers):
    topology, draw = load(name, peers), np.random.default_rng(3)
    values = draw.normal(size=(peers, 5)) * [1e-3, 1, 1e4, 1, 0]
    sums = torch.from_numpy(np.concatenate([np.full((peers, 1), 20.0), 20 * values, 30 * values**2], axis=1))
    slem = living_slem(topology, None, (), 0)
    agreed = statistics(SimulatedMixer(topology), sums, -2, topology, slem=slem)
    foreseen = Foresight(metropolis_entries(topology.graph)).consensus(
        sums, TOLERANCE, slem=slem, max_exchanges=2000, worst=largest_of_sums).final
    assert foreseen.converged
    assert agreed.converged
    # The last differences are near rounding: one epoch more or less.
    assert abs(foreseen.exchanges - agreed.exchanges) <= 3
    torch.testing.assert_close(foreseen.rows, agreed.rows, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("name", "peers", "shape"), [
    ("ring", 9, (9,)), ("torus", 12, (3, 4)), ("hypercube", 8, (2, 2, 2)), ("complete", 7, (7,)), ("grid", 9, None),
    ("chain", 5, None), ("star", 4, None), ("tree", 7, None)])
def test_which_graphs_look_the_same_from_every_peer(name, peers, shape):
    W = metropolis_entries(load(name, peers).graph)
    found = convolution(W)
    assert (None if found is None else found.shape) == shape
    if found is not None:
        np.testing.assert_allclose(np.sort(found.eigenvalues), np.sort(np.linalg.eigvalsh(W.dense())), atol=1e-14)


@pytest.mark.parametrize("words", [1, 1 << 22])
def test_shortest_paths(words, monkeypatch):
    monkeypatch.setattr("p2pser.graph.paths.WORDS", words)
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(15, 14))
    topology = Topology("grid", graph, {}, "metropolis", {})
    around = balls(metropolis_entries(topology.graph), costs(210), None)
    away = dict(nx.all_pairs_shortest_path_length(graph))
    assert around.furthest.tolist() == [max(away[i].values()) for i in range(210)]
    assert around.count[3].tolist() == [sum(d <= 3 for d in away[i].values()) for i in range(210)]
    each = costs(210)
    assert around.total.tolist() == [sum((max(away[i].values()) + 1 - d) * each[o] for o, d in away[i].items())
                                     for i in range(210)]
