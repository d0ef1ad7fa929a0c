"""Push-sum against its theorem: the weighted mean on any strongly connected graph, with any loss of messages."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer


def topology(kind: str, peers: int, **parameters: object) -> Topology:
    return parse({"graph": {"kind": kind, "peers": peers, **parameters}}, "test")


def pushed(where, work, x, rounds, weighting="uniform", faults=None, after_round=None):
    """Return the state after ``rounds`` of push-sum, and the mixer."""
    method = create("push-sum", {}, Config().with_settings([f"gossip.weighting={weighting}"]), where)
    mixer = SimulatedMixer(where, faults=faults)
    return run(method, State({"x": x.clone()}), work, mixer, rounds, after_round=after_round), mixer


def rows(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(x: torch.Tensor, weighting: str) -> torch.Tensor:
    p = torch.arange(1, len(x) + 1, dtype=torch.float64) if weighting == "clips" else torch.ones(len(x)).double()
    return (p / p.sum()) @ x


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("seed", range(4))
def test_all_reach_the_weighted_mean_though_a_third_is_lost_or_late_for_200_exchanges(quadratics, seed, weighting):
    size = 5 + 3 * seed
    where, x = topology("random-digraph", size, seed=seed), rows(size, seed)
    still = quadratics(size, 7, lr=0.0).local  # takes no step: consensus alone
    faults = Faults(loss=0.2, delay=0.1, duplication=0.1, until=200, seed=seed)
    masses = []
    state, mixer = pushed(where, still, x, 300, weighting, faults,
                          lambda round, state: masses.append(state.rows["mass"].clone()))
    lossy = masses[199]
    assert mixer.lost > 100
    assert float((state.rows["x"] - mean(x, weighting)).abs().max()) <= 1e-6
    # The shares on their way at exchange 200 have arrived: the mass is complete again, and was not before.
    assert float((state.rows["mass"].sum(0) - _whole(x, weighting)).abs().max()) <= 1e-9 * size**2
    assert float((lossy.sum(0) - _whole(x, weighting)).abs().max()) > 1e-3


def _whole(x: torch.Tensor, weighting: str) -> torch.Tensor:
    p = torch.arange(1, len(x) + 1, dtype=torch.float64) if weighting == "clips" else torch.ones(len(x)).double()
    return torch.cat([p @ x, p.sum()[None]])


@pytest.mark.parametrize(("kind", "parameters"), [
    ("directed-ring", {}), ("directed-exponential", {}), ("one-peer-exponential", {}), ("one-peer-hypercube", {}),
    ("base", {"k": 2}), ("epidemic", {"form": "local"}), ("random-matching", {}), ("chain", {}), ("star", {}),
])
def test_it_reaches_the_mean_on_schedules_and_undirected_graphs_too(quadratics, kind, parameters):
    x = rows(8)
    state, _ = pushed(topology(kind, 8, **parameters), quadratics(8, 7, lr=0.0).local, x, 400)
    assert float((state.rows["x"] - x.mean(0)).abs().max()) <= 1e-10
    assert float((state.rows["mass"].sum(0) - _whole(x, "uniform")).abs().max()) <= 1e-12 * 400


def test_averaging_the_rows_alone_would_not_reach_the_mean():
    where, x = topology("random-digraph", 8, seed=1), rows(8)
    P = torch.from_numpy(where.matrix(0).copy()).T.contiguous()  # row-stochastic: everybody averages what it hears
    assert torch.allclose(P.sum(1), torch.ones(8, dtype=torch.float64))
    averaged = torch.linalg.matrix_power(P, 400) @ x
    assert float((averaged - averaged[0]).abs().max()) <= 1e-10
    assert float((averaged - x.mean(0)).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["directed-ring", "one-peer-exponential"])
def test_where_all_send_to_equally_many_it_is_d_psgd(quadratics, kind):
    where, problem = topology(kind, 8), quadratics(8, lr=0.1)
    state, _ = pushed(where, problem.local, problem.start(), 60)
    X = problem.start()
    for t in range(60):
        X = torch.from_numpy(where.matrix(t).copy()) @ (X - 0.1 * problem.A * (X - problem.C))
    assert float((state.rows["x"] - X).abs().max()) <= 1e-12
    assert float((state.rows["mass"][:, -1] - 1).abs().max()) <= 1e-12


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
def test_it_ends_beside_the_optimum_of_the_weighted_sum_by_no_more_than_the_rate_is_large(quadratics, weighting):
    where = topology("random-digraph", 8, seed=2)
    off = {}
    for lr, rounds in ((0.04, 300), (0.02, 500)):
        problem = quadratics(8, lr=lr)
        state, _ = pushed(where, problem.local, problem.start(), rounds, weighting)
        p = torch.arange(1, 9, dtype=torch.float64)[:, None] if weighting == "clips" else torch.ones(8, 1).double()
        optimum = (p * problem.A * problem.C).sum(0) / (p * problem.A).sum(0)
        off[lr] = float((state.rows["x"] - optimum).norm(dim=1).max())
    assert off[0.02] <= 0.1
    assert off[0.02] <= 0.6 * off[0.04]


def test_a_death_takes_only_its_own_share_of_the_mass(quadratics):
    where, x = topology("directed-exponential", 8), rows(8)
    method = create("push-sum", {}, Config(), where)
    mixer = SimulatedMixer(where, dead={3: Step(5, 0)})
    state = run(method, State({"x": x}), quadratics(8, 7, lr=0.0).local, mixer, 300)
    living = [0, 1, 2, 4, 5, 6, 7]
    found = state.rows["x"][living]
    assert float((found - found[0]).abs().max()) <= 1e-10
    assert float((found[0] - x.mean(0)).norm()) < 0.2 * float(x.std(0).norm())
    assert 4 < float(state.rows["mass"][living, -1].sum()) < 8
