"""RelaySGD and overlap on quadratics: the relayed average, and the fixed point of each."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from courses import at_rest, run_until
from lockstep import run

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

TREES = {
    "chain": nx.path_graph(6),
    "star": nx.star_graph(7),
    "binary": nx.balanced_tree(2, 3),
    "caterpillar": nx.Graph([(0, 1), (1, 2), (2, 3), (1, 4), (2, 5), (2, 6)]),
}


def topology(graph: nx.Graph) -> Topology:
    return parse({"graph": {"edges": [list(edge) for edge in graph.edges]}}, "test")


def relayed(where, work, x, rounds, weighting="uniform", faults=None, **parameters):
    """Return the state after ``rounds``, or when the rows rest."""
    method = create("relay", parameters, Config().with_settings([f"gossip.weighting={weighting}"]), where)
    return run_until(at_rest(0 if faults is None else faults.until), method, State({"x": x.clone()}), work,
                     SimulatedMixer(where, faults=faults), rounds)


def share(size: int, weighting: str) -> torch.Tensor:
    p = torch.arange(1, size + 1, dtype=torch.float64) if weighting == "clips" else torch.ones(size).double()
    return p / p.sum()


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("tree", TREES)
def test_after_one_diameter_a_row_is_the_mean_of_all_each_as_old_as_its_way(quadratics, tree, weighting):
    graph = TREES[tree]
    size, problem = len(graph), quadratics(len(graph), lr=0.05, steps=2)
    far = dict(nx.all_pairs_shortest_path_length(graph))
    diameter, trained = nx.diameter(graph), []

    class Spy(type(problem.local)):
        def train(self, state, round, **more):
            trained.append(super().train(state, round, **more))
            return trained[-1]

    work = Spy(problem.A, problem.C, 0.05, 2)
    state = relayed(topology(graph), work, problem.start(), diameter + 3, weighting)
    p, last = share(size, weighting), diameter + 2
    for i in range(size):
        expected = sum(p[j] * trained[last - max(0, far[i][j] - 1)][j] for j in range(size))
        assert float((state.rows["x"][i] - expected).abs().max()) <= 1e-12


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("tree", TREES)
def test_unlike_peers_reach_the_optimum(quadratics, tree, weighting):
    size = len(TREES[tree])
    problem, p = quadratics(size, lr=0.1), share(size, weighting)[:, None]
    optimum = (p * problem.A * problem.C).sum(0) / (p * problem.A).sum(0)
    state = relayed(topology(TREES[tree]), problem.local, problem.start(), 2000, weighting)
    assert float((state.rows["x"] - optimum).abs().max()) <= 1e-8


@pytest.mark.parametrize("tree", TREES)
def test_unlike_peers_do_not_reach_it_with_d_psgd(quadratics, tree):
    problem = quadratics(len(TREES[tree]), lr=0.1)
    plain = run_until(at_rest(), create("d-psgd", {}, Config(), topology(TREES[tree])), State({"x": problem.start()}),
                      problem.local, SimulatedMixer(topology(TREES[tree])), 1500)
    assert float((plain.rows["x"] - problem.optimum).abs().max()) > 1e-3


def test_a_ring_relays_over_its_spanning_tree(quadratics):
    problem = quadratics(8, lr=0.05)
    state = relayed(topology(nx.cycle_graph(8)), problem.local, problem.start(), 1500, spanning_tree=True)
    assert float((state.rows["x"] - problem.optimum).abs().max()) <= 1e-8


def test_lost_messages_do_not_spoil_it(quadratics):
    problem, faults = quadratics(7, lr=0.05), Faults(loss=0.2, delay=0.1, until=100)
    state = relayed(topology(nx.balanced_tree(2, 2)), problem.local, problem.start(), 1500, faults=faults)
    assert float((state.rows["x"] - problem.optimum).abs().max()) <= 1e-8


@pytest.mark.parametrize("graph", [nx.cycle_graph(8), nx.star_graph(6), nx.complete_graph(5)])
def test_overlap_ends_at_its_closed_form_and_keeps_the_mean_of_the_gradients_at_zero(quadratics, graph):
    where, lr = topology(graph), 0.1
    problem = quadratics(where.size, lr=lr)
    found = run_until(at_rest(), create("overlap", {}, Config(), where), State({"x": problem.start()}), problem.local,
                      SimulatedMixer(where), 1500)
    x = found.rows["x"]
    W, one = torch.from_numpy(where.matrix().copy()), torch.eye(where.size, dtype=torch.float64)
    for c in range(x.shape[1]):
        A, C = torch.diag(problem.A[:, c]), problem.C[:, c]
        expected = torch.linalg.solve(one - W + lr * A, lr * A @ C)
        assert float((x[:, c] - expected).abs().max()) <= 1e-10
    assert float((problem.A * (x - problem.C)).mean(0).abs().max()) <= 1e-10


def test_overlap_diverges_beyond_its_bound_and_not_below_it(quadratics):
    where = topology(nx.complete_bipartite_graph(4, 4))
    smallest = float(torch.linalg.eigvalsh(torch.from_numpy(where.matrix().copy()))[0])
    end = {}
    for factor in (0.6, 1.9):
        problem = quadratics(8, lr=factor * (1 + smallest), heterogeneity=0.0)
        start = State({"x": torch.randn(8, 6).double()})
        end[factor] = run(create("overlap", {}, Config(), where), start, problem.local,
                          SimulatedMixer(where), 200).rows["x"]
    assert float((end[0.6] - problem.optimum).abs().max()) <= 1e-8
    assert float((end[1.9] - problem.optimum).abs().max()) > 1e3


def test_overlap_with_momentum_is_its_recursion_and_ends_where_it_does_without(quadratics):
    """The mean gradient is 0 at rest, so that the buffer is at 0 there: W X - X = lr G(X) in both forms."""
    where, lr = topology(nx.cycle_graph(8)), 0.05
    problem = quadratics(8, lr=lr)
    W = torch.from_numpy(where.matrix().copy())
    X, M = problem.start(), torch.zeros_like(problem.C)
    for _ in range(30):
        new = W @ X - lr * (problem.A * (X - problem.C) + 0.8 * M)
        X, M = new, 0.5 * M + 0.5 * (X - new) / lr
    found = {momentum: run_until(at_rest(), create("overlap", {"momentum": momentum}, Config(), where),
                                 State({"x": problem.start()}), problem.local, SimulatedMixer(where), rounds).rows["x"]
             for momentum, rounds in ((0.8, 30), (0.0, 1500))}
    assert float((found[0.8] - X).abs().max()) <= 1e-12
    rest = run_until(at_rest(), create("overlap", {"momentum": 0.8}, Config(), where), State({"x": problem.start()}),
                     problem.local, SimulatedMixer(where), 1500).rows["x"]
    assert float((rest - found[0.0]).abs().max()) <= 1e-8
