"""Gossip against its theory: the mean is conserved, the contraction is the slem, late rows cause no drift."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.gossip.agreement.consensus import consensus, living_slem
from p2pser.gossip.mixer import Step
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import rounds_to, slem
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.wire.messages import SETTLE_WINDOW


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


GRAPHS = {
    "ring": nx.cycle_graph(10),
    "star": nx.star_graph(7),
    "chain": nx.path_graph(7),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4, periodic=True)),
}


def rows(size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(size, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)


def drift(x: torch.Tensor, start: torch.Tensor) -> float:
    return float((x.double().mean(0) - start.double().mean(0)).norm() / start.double().mean(0).norm())


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("exact", [False, True])
def test_the_mean_is_conserved(name, exact):
    x = start = rows(len(GRAPHS[name]))
    mixer = SimulatedMixer(topology(GRAPHS[name]), exact=exact)
    for round in range(100):
        x = mixer.mix(x, Step(round, 0))
    assert drift(x, start) <= 1e-13


@pytest.mark.parametrize("name", GRAPHS)
def test_the_slowest_mode_contracts_by_the_slem(slowest_mode, name):
    W = metropolis(GRAPHS[name])
    mixer, x = SimulatedMixer(topology(GRAPHS[name])), torch.from_numpy(slowest_mode(W)[:, None].copy())
    for round in range(20):
        x = mixer.mix(x, Step(round, 0))
    assert float(x.norm()) ** (1 / 20) == pytest.approx(slem(W), rel=1e-9)


def test_clip_weights_contract_by_the_slem_in_the_pi_norm():
    counts = dict(enumerate([3, 40, 7, 9, 100, 12, 5, 5, 60, 11]))
    top, pi = topology(GRAPHS["ring"]), np.array([3, 40, 7, 9, 100, 12, 5, 5, 60, 11]) / 252
    W = metropolis(top.graph, counts)
    mixer, x = SimulatedMixer(top, counts=counts), rows(10)
    mean = torch.from_numpy(pi) @ x
    before = float((torch.from_numpy(pi)[:, None] * (x - mean) ** 2).sum().sqrt())
    for round in range(30):
        x = mixer.mix(x, Step(round, 0))
    after = float((torch.from_numpy(pi)[:, None] * (x - mean) ** 2).sum().sqrt())
    assert torch.allclose(torch.from_numpy(pi) @ x, mean, atol=1e-13)
    assert after <= before * slem(W, pi) ** 30 * (1 + 1e-9)
    assert after >= before * slem(W, pi) ** 30 * 0.01


@pytest.mark.parametrize("name", GRAPHS)
def test_exact_and_fast_agree_after_ten_rounds_in_float32(name):
    fast = exact = rows(len(GRAPHS[name]), torch.float32)
    for round in range(10):
        fast = SimulatedMixer(topology(GRAPHS[name])).mix(fast, Step(round, 0))
        exact = SimulatedMixer(topology(GRAPHS[name]), exact=True).mix(exact, Step(round, 0))
    assert float((fast - exact).norm() / exact.norm()) <= 1e-5


def drift_with(settle: bool) -> float:
    faults = Faults(delay=0.05, longest=SETTLE_WINDOW - 1, until=200, settle=settle)
    mixer, x = SimulatedMixer(topology(nx.cycle_graph(20)), faults=faults), rows(20)
    start = x
    for round in range(210):
        x = mixer.mix(x, Step(round, 0))
    assert mixer.late + mixer.lost > 300
    return drift(x, start)


def test_five_percent_of_one_sided_misses_drift_only_where_late_rows_are_dropped():
    assert drift_with(settle=True) <= 1e-12
    assert drift_with(settle=False) > 1e-3


@pytest.mark.parametrize(("size", "most"), [(8, 30), (20, 75)])
def test_chebyshev_takes_a_fraction_of_plain_gossips_exchanges(size, most):
    top = topology(nx.cycle_graph(size))
    x = 1 + 0.1 * rows(size)
    rho = living_slem(top, None, (), 0)
    found = consensus(SimulatedMixer(top), x, 0, top, 1e-6, slem=rho)
    plain = consensus(SimulatedMixer(top), x, 0, top, 1e-6, slem=0.0)
    print(f"ring of {size}: {found.exchanges} exchanges, plain gossip {plain.exchanges}, theory {rounds_to(1e-6, rho)}")
    assert found.converged
    assert plain.converged
    assert found.exchanges <= most < plain.exchanges
