"""First-order algorithms on quadratics with exact gradients: each ends at the point of its theorem."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from courses import at_rest, run_until

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

GRAPHS = {
    "ring": nx.cycle_graph(8),
    "star": nx.star_graph(6),
    "chain": nx.path_graph(6),
    "complete": nx.complete_graph(5),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3, periodic=True)),
    "bipartite": nx.complete_bipartite_graph(4, 4),
}


def topology(graph: nx.Graph) -> Topology:
    return parse({"graph": {"edges": [list(edge) for edge in graph.edges]}}, "test")


def end(name, problem, where, rounds, mixer=None, *, events_until=0, **parameters):
    """Return the state after ``rounds`` from rows of zeros, or when they rest, nothing happening any more."""
    if mixer is None:
        mixer = SimulatedMixer(where)
    return run_until(at_rest(events_until), create(name, parameters, Config(), where), State({"x": problem.start()}),
                     problem.local, mixer, rounds)


def away(state, optimum):
    return float((state.rows["x"] - optimum).abs().max())


@pytest.mark.parametrize("graph", GRAPHS)
def test_d_psgd_ends_at_its_closed_form(quadratics, graph):
    where, lr = topology(GRAPHS[graph]), 0.1
    problem = quadratics(where.size, lr=lr)
    found = end("d-psgd", problem, where, 1500).rows["x"]
    W, one = torch.from_numpy(metropolis(where.graph).copy()), torch.eye(where.size, dtype=torch.float64)
    for c in range(found.shape[1]):
        A, C = torch.diag(problem.A[:, c]), problem.C[:, c]
        expected = torch.linalg.solve(one - W @ (one - lr * A), W @ (lr * A @ C))
        assert float((found[:, c] - expected).abs().max()) <= 1e-10
    if graph != "complete":
        assert float((found - problem.optimum).abs().max()) > 1e-2  # and that is not the optimum


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", ["d2", "gradient-tracking", "k-gt"])
def test_corrected_methods_reach_the_optimum(quadratics, name, graph):
    where = topology(GRAPHS[graph])
    problem = quadratics(where.size, lr=0.1)
    whole = 1500 if graph == "ring" else 0  # there to the last round: what rests grows no error of rounding
    assert away(end(name, problem, where, 1500, events_until=whole), problem.optimum) <= 1e-8


@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("graph", GRAPHS)
def test_k_gt_reaches_the_optimum_with_any_number_of_local_steps(quadratics, graph, steps):
    where = topology(GRAPHS[graph])
    problem = quadratics(where.size, lr=0.02 if steps == 20 else 0.1, steps=steps)
    state = end("k-gt", problem, where, 1500)
    assert away(state, problem.optimum) <= 1e-8
    assert float(state.rows["c"].sum(0).abs().max()) <= 1e-12
    assert torch.allclose(state.rows["c"], -problem.local.gradient(state.rows["x"], 0), atol=1e-8)


def test_k_gt_reaches_it_with_another_communication_rate(quadratics):
    where = topology(GRAPHS["ring"])
    problem = quadratics(8, lr=0.1, steps=5)
    assert away(end("k-gt", problem, where, 1500, communication_rate=0.5), problem.optimum) <= 1e-8


def test_averaging_local_steps_ends_beside_the_optimum(quadratics):
    where = topology(GRAPHS["complete"])  # the rows agree after each exchange: what is left is the local steps' bias
    problem = quadratics(5, lr=0.1, steps=5)
    bias = away(end("dfedavg", problem, where, 1500), problem.optimum)
    print(f"dfedavg with 5 local steps ends {bias:.1e} beside the optimum on a complete graph")
    assert bias > 1e-3
    assert away(end("k-gt", problem, where, 1500), problem.optimum) <= 1e-8


def test_plain_w_in_place_of_d2s_half_lazy_one_diverges_on_a_bipartite_graph(quadratics):
    where, lr = topology(GRAPHS["bipartite"]), 0.1
    problem = quadratics(8, lr=lr)
    W, x = torch.from_numpy(metropolis(where.graph).copy()), problem.start()
    psi = x
    for round in range(200):
        new = x - lr * problem.local.gradient(x, round)
        x, psi = W @ (new + x - psi), new
    assert float(x.abs().max()) > 1e6
    assert away(end("d2", problem, where, 1500), problem.optimum) <= 1e-8


@pytest.mark.parametrize(("name", "steps"), [("gradient-tracking", 1), ("k-gt", 1), ("k-gt", 5)])
@pytest.mark.parametrize("kind", ["one-peer-exponential", "random-matching"])
def test_trackers_reach_the_optimum_over_doubly_stochastic_schedules(quadratics, name, steps, kind):
    where = parse({"graph": {"kind": kind, "peers": 8}}, "test")
    problem = quadratics(8, lr=0.05, steps=steps)
    assert away(end(name, problem, where, 1500), problem.optimum) <= 1e-8


@pytest.mark.parametrize(("name", "steps"), [("gradient-tracking", 1), ("k-gt", 5)])
def test_with_clip_weights_the_optimum_is_the_clip_weighted_one(quadratics, name, steps):
    where, counts = topology(GRAPHS["ring"]), [10, 30, 5, 20, 40, 8, 16, 12]
    problem = quadratics(8, lr=0.1, steps=steps)
    share = torch.tensor(counts, dtype=torch.float64)[:, None]
    weighted = (share * problem.A * problem.C).sum(0) / (share * problem.A).sum(0)
    state = end(name, problem, where, 4000, SimulatedMixer(where, counts=dict(enumerate(counts))))
    assert float((weighted - problem.optimum).abs().max()) > 1e-2
    assert away(state, weighted) <= 1e-8


@pytest.mark.parametrize(("name", "steps"), [("d2", 1), ("gradient-tracking", 1), ("k-gt", 5)])
def test_what_is_settled_late_costs_nothing_and_what_is_lost_does(quadratics, name, steps):
    where, away_by = topology(GRAPHS["ring"]), {}
    problem = quadratics(8, lr=0.1, steps=steps)
    for settle in (True, False):
        mixer = SimulatedMixer(where, faults=Faults(delay=0.05, until=200, settle=settle))
        away_by[settle] = away(end(name, problem, where, 2500, mixer, events_until=200), problem.optimum)
        assert mixer.late + mixer.lost > 50
    print(f"{name}: {away_by[True]:.1e} from the optimum with late settlement, {away_by[False]:.1e} without")
    assert away_by[True] <= 1e-8
    assert away_by[False] > 1e-4


@pytest.mark.parametrize(("name", "steps"), [("d2", 1), ("gradient-tracking", 1), ("k-gt", 5)])
def test_a_peer_that_dies_leaves_its_last_gradient_behind(quadratics, name, steps):
    """A death late in the run moves no peer: the last gradient of the dead peer stays in the sums."""
    where = topology(GRAPHS["ring"])
    problem = quadratics(8, lr=0.1, steps=steps)
    state = end(name, problem, where, 2500, SimulatedMixer(where, dead={3: Step(1000, 0)}), events_until=1040)
    living = state.rows["x"][[i for i in range(8) if i != 3]]
    assert float((living - problem.optimum).abs().max()) <= 1e-8


def test_quasi_global_momentum_of_identical_peers_is_quasi_hyperbolic_momentum(quadratics):
    """With momentum beta and decay mu: QHM with rate lr / (1 - beta), decay 1 - (1 - mu)(1 - beta), and
    nu = beta / decay (J. Ma, D. Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019).
    """
    where, lr, beta, mu = topology(GRAPHS["ring"]), 0.05, 0.8, 0.6
    problem = quadratics(8, heterogeneity=0.0, lr=lr)
    state = end("quasi-global-momentum", problem, where, 60, momentum=beta, decay=mu)
    x, buffer = problem.start(), torch.zeros_like(problem.C)
    decay = 1 - (1 - mu) * (1 - beta)
    nu = beta / decay
    for round in range(60):
        gradient = problem.local.gradient(x, round)
        buffer = decay * buffer + (1 - decay) * gradient
        x = x - lr / (1 - beta) * ((1 - nu) * gradient + nu * buffer)
    assert float((state.rows["x"] - x).abs().max()) <= 1e-12
    assert float((x - problem.start()).abs().max()) > 0.1


def test_without_momentum_quasi_global_momentum_is_averaging(quadratics):
    where = topology(GRAPHS["ring"])
    problem = quadratics(8, lr=0.05, steps=5)
    with_none = end("quasi-global-momentum", problem, where, 50, momentum=0.0)
    assert torch.equal(with_none.rows["x"], end("dfedavg", problem, where, 50).rows["x"])


def test_quasi_global_momentum_accelerates(quadratics):
    """For peers with the same quadratic, flat in some directions, at the same learning rate."""
    where = topology(GRAPHS["ring"])
    problem = quadratics(8, heterogeneity=0.0, lr=0.05)
    problem.A[:, ::2] *= 0.05
    plain = away(end("d-psgd", problem, where, 400), problem.optimum)
    quick = away(end("quasi-global-momentum", problem, where, 400), problem.optimum)
    print(f"after 400 rounds: {plain:.1e} from the optimum plain, {quick:.1e} with quasi-global momentum")
    assert quick <= plain / 100
