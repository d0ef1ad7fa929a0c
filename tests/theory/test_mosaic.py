"""Mosaic learning: its closed forms on rings and hypercubes, its bytes, and the mean through losses and deaths."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from courses import run_until
from lockstep import run

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.matchings import matchings
from p2pser.graph.spec import load, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer


def topology(graph):
    return parse({"graph": {"edges": [list(edge) for edge in graph.edges]}}, "test")


def gossip(where, x, rounds, problem, faults=None, after_round=None, **parameters):
    method = create("mosaic", parameters, Config(), where)
    mixer = SimulatedMixer(where, slots=method.slots, faults=faults)
    return run(method, State({"x": x}), problem.work(), mixer, rounds, after_round=after_round), mixer


GRAPHS = [nx.cycle_graph(16), nx.cycle_graph(7), nx.star_graph(5), nx.complete_graph(6),
          nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4, periodic=True)), nx.path_graph(5)]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{len(graph)} peers, {len(graph.edges)} edges")
def test_no_peer_is_twice_in_a_matching_and_all_compute_the_same(graph):
    found = matchings(graph)
    assert len(found) == 2 * len(graph.edges)
    for i in graph:
        assert len({found[i, j] for j in graph[i]}) == len(graph[i])
    shuffled = nx.Graph()
    shuffled.add_nodes_from(reversed(list(graph)))
    shuffled.add_edges_from((j, i) for i, j in reversed(list(graph.edges)))
    assert matchings(shuffled) == found


def test_a_ring_contracts_by_the_square_of_a_cosine_in_two_exchanges_and_sends_one_row_in_each(quadratics):
    problem = quadratics(16, 12, lr=0.0)
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rate, rows = math.cos(math.pi / 8) ** 2, []
    _, mixer = gossip(load("ring", peers=16), x, 101, problem, exchanges=2,
                      after_round=lambda _, state: rows.append(state.rows["x"]))
    left = [float((after - x.mean(0)).norm()) for after in rows]
    assert all(float((after.mean(0) - x.mean(0)).abs().max()) <= 1e-15 for after in rows[99:])
    assert left[100] / left[99] == pytest.approx(rate, rel=1e-9)
    assert rate < (1 / 3 + 2 / 3 * math.cos(math.pi / 8)) ** 3  # fewer bytes than dfedavg's three rounds of two rows
    heads = 2 * 2  # one byte a message
    assert mixer.bytes_sent.tolist() == [101 * (2 * 12 * 8 + heads)] * 16


def test_a_hypercube_agrees_after_one_exchange_a_dimension_in_every_fragment(quadratics):
    problem = quadratics(16, 10, lr=0.0)
    x = torch.randn(16, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state, _ = gossip(load("hypercube", peers=16), x, 4, problem)
    assert float((state.rows["x"] - x.mean(0)).abs().max()) <= 1e-14


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{len(graph)} peers, {len(graph.edges)} edges")
def test_each_fragment_has_the_matrix_of_its_matching(quadratics, graph):
    where, size = topology(graph), len(graph)
    problem = quadratics(size, 13, lr=0.05)
    found = matchings(graph)
    count = 1 + max(found.values())
    state, _ = gossip(where, problem.start(), 5, problem)
    X = problem.start()
    for t in range(5):
        X = problem.local.train(State({"x": X}), t)
        for f in range(count):
            W = np.eye(size)
            for (i, j), c in found.items():
                if c == (t + f) % count:
                    W[i, i] = W[i, j] = 0.5
            X[:, f::count] = torch.from_numpy(W) @ X[:, f::count]
    assert float((state.rows["x"] - X).abs().max()) <= 1e-13


def test_with_the_buffer_identical_peers_take_the_steps_of_quasi_global_momentum(quadratics):
    where, problem = load("ring", peers=8), quadratics(8, heterogeneity=0.0, steps=3)
    ends = [run(create(name, {"momentum": 0.8}, Config(), where), State({"x": problem.start()}), problem.local,
                SimulatedMixer(where), 20).rows for name in ("mosaic", "quasi-global-momentum")]
    for name in ("x", "buffer"):
        assert float((ends[0][name] - ends[1][name]).abs().max()) <= 1e-12


def test_lost_messages_and_peers_that_differ(quadratics):
    where, problem = load("ring", peers=8), quadratics(8, lr=0.0)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state, mixer = gossip(where, x, 200, problem, faults=Faults(loss=0.2, delay=0.1, until=100), exchanges=2)
    assert mixer.lost > 100
    assert float((state.rows["x"] - x.mean(0)).abs().max()) <= 1e-12
    problem = quadratics(8, lr=0.02)
    end = run_until(lambda *_: False, create("mosaic", {"momentum": 0.8}, Config(), where),
                    State({"x": problem.start()}), problem.local, SimulatedMixer(where), 500)
    assert float((end.rows["x"].mean(0) - problem.optimum).abs().max()) < 0.1
