"""Outer steps with momentum (noloco, gasloc): their mean is one server's, their disagreement has its closed form."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from courses import run_until

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer


def topology(graph: nx.Graph) -> Topology:
    return parse({"graph": {"edges": [list(edge) for edge in graph.edges]}}, "test")


RING = topology(nx.cycle_graph(8))


def end(name, problem, where, rounds, mixer=None, x=None, **parameters):
    """Return the state after ``rounds`` from the rows ``x``, by default zeros."""
    return run_until(lambda *_: False, create(name, parameters, Config(), where),
                     State({"x": problem.start() if x is None else x.clone()}), problem.local,
                     SimulatedMixer(where) if mixer is None else mixer, rounds)


@pytest.mark.parametrize("name", ["noloco", "gasloc"])
def test_without_momentum_they_are_averaging(quadratics, name):
    problem = quadratics(8, lr=0.05, steps=5)
    found = end(name, problem, RING, 50, momentum=0.0, rate=1.0).rows["x"]
    assert float((found - end("dfedavg", problem, RING, 50).rows["x"]).abs().max()) <= 1e-13
    with_momentum = end(name, problem, RING, 50).rows["x"]
    assert float((with_momentum - found).abs().max()) > 1e-2


@pytest.mark.parametrize("where", [RING, topology(nx.star_graph(6))], ids=["ring", "star"])
@pytest.mark.parametrize("name", ["noloco", "gasloc"])
def test_the_mean_moves_as_one_server_with_momentum(quadratics, name, where):
    """Exactly so where all peers have the same curvature: then the mean gradient is the gradient at the mean."""
    problem = quadratics(where.size, lr=0.1)
    problem.A[:] = problem.A[0]
    target = problem.C.mean(0)
    x = before = torch.zeros_like(target)
    velocity = torch.zeros_like(target)
    for _ in range(40):
        change = 0.1 * problem.A[0] * (target - x)
        if name == "noloco":
            velocity = 0.6 * velocity + 0.8 * change
            x = x + velocity
        else:
            moved = x + 0.8 * change
            x, before = moved + 0.6 * (moved - before), moved
    found = end(name, problem, where, 40, momentum=0.6, rate=0.8).rows["x"]
    assert float((found.mean(0) - x).abs().max()) <= 1e-12
    assert float((found - x).abs().max()) > 1e-2  # the peers differ, their mean does not


def course(eigenvalue: float, momentum: float, strength: float, round: int) -> float:
    """What is left of a disagreement of 1 along an eigenvector, from rest: its two roots' powers."""
    pull = strength * (1 - eigenvalue)
    first, second = np.roots([1, -(1 + momentum - pull), momentum]).astype(complex)
    share = (1 - pull - second) / (first - second)
    return float((share * first**round + (1 - share) * second**round).real)


@pytest.mark.parametrize(("momentum", "strength"), [(0.3, 1.0), (0.5, 0.6), (0.7, 1.6)])
@pytest.mark.parametrize("name", ["noloco", "gasloc"])
def test_a_disagreement_has_its_closed_form(quadratics, name, momentum, strength):
    problem = quadratics(8, lr=0.0)
    values, vectors = np.linalg.eigh(metropolis(RING.graph))
    for k in (6, 3, 0):  # the slowest mode, one between, the fastest
        x = torch.from_numpy(vectors[:, k : k + 1].repeat(problem.C.shape[1], 1).copy())
        for rounds in (1, 7, 30):
            found = end(name, problem, RING, rounds, x=x, momentum=momentum,
                        **{"pull" if name == "noloco" else "gossip": strength}).rows["x"]
            assert float((found - course(values[k], momentum, strength, rounds) * x).abs().max()) <= 1e-12


def test_the_momentum_of_accelerated_gossip_brings_a_ring_together_sooner(quadratics):
    problem = quadratics(8, lr=0.0)
    values, vectors = np.linalg.eigh(metropolis(RING.graph))
    x = torch.from_numpy(vectors[:, 6:7].repeat(problem.C.shape[1], 1).copy())
    best = (1 - math.sqrt(1 - values[6])) ** 2
    left = {momentum: float(end("gasloc", problem, RING, 60, x=x, momentum=momentum).rows["x"].norm() / x.norm())
            for momentum in (0.0, best, 0.7)}
    assert left[0.0] == pytest.approx(values[6] ** 60, rel=1e-6)
    # A double root: (1 + 60 (values[6] / q - 1)) q^60 from rest.
    assert left[best] == pytest.approx((1 + 60 * (values[6] / math.sqrt(best) - 1)) * best**30, rel=1e-4)
    assert left[best] < left[0.7] / 100 < left[0.0]


@pytest.mark.parametrize("name", ["noloco", "gasloc"])
def test_what_is_settled_late_leaves_the_mean_where_it_is(quadratics, name):
    problem = quadratics(8, lr=0.0)
    x = torch.linspace(-1, 2, 8, dtype=torch.float64)[:, None] ** 3 * torch.ones(1, problem.C.shape[1])
    mixer = SimulatedMixer(RING, faults=Faults(delay=0.1, until=100, settle=True))
    state = end(name, problem, RING, 400, mixer, x=x)
    assert mixer.late > 20
    steady = state.rows["x"].mean(0)
    # A flow that comes late is in the row without its counterpart for some rounds; once all have come the sums agree.
    assert float((state.rows["x"] - steady).abs().max()) <= 1e-9
    assert float((steady - x.mean(0)).abs().max()) <= 1e-9


@pytest.mark.parametrize("name", ["noloco", "gasloc"])
def test_peers_that_differ_end_near_the_optimum_also_where_one_dies(quadratics, name):
    problem = quadratics(8, lr=0.02)
    mixer = SimulatedMixer(RING, dead={3: Step(1000, 0)})
    whole = end(name, problem, RING, 1500).rows["x"].mean(0)
    assert float((whole - problem.optimum).abs().max()) < 0.1
    living = end(name, problem, RING, 1500, mixer).rows["x"][[0, 1, 2, 4, 5, 6, 7]]
    assert bool(torch.isfinite(living).all())
