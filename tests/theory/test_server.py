"""Server federated learning on quadratics: the fixed point of FedAvg, and that of SCAFFOLD.

Peer 0 is the hub, which does not train: its quadratic must not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from courses import Reached, at_rest, run_until

from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import Faults, SimulatedMixer

CLIENTS = 8
TOPOLOGY = Topology("server", nx.star_graph(CLIENTS), {}, "metropolis", {}, hub=0)
RATE = 0.2


def method(name: str, *settings: str, **parameters: Any) -> Algorithm:
    config = Config().with_settings(["training.momentum=0", f"gossip.algorithm={name}", *settings])
    made = create(name, parameters, config, TOPOLOGY)
    assert validate(made, config, TOPOLOGY) == ()
    return made


def server(made: Algorithm, problem: Any, rounds: int, *, faults: Faults | None = None,
           each: Callable[[int, State], None] | None = None, reached: Reached = lambda round, state: False) -> State:
    """Run on the quadratics; clients' rows and the hub's are equal at the end."""
    state = run_until(reached, made, State({"x": problem.start()}), problem.local,
                      SimulatedMixer(TOPOLOGY, faults=faults), rounds, after_round=each)
    if faults is None:
        assert torch.equal(state.rows["x"], state.rows["x"][:1].expand_as(state.rows["x"]))
    return state


def fixed_point(problem: Any, weights: torch.Tensor) -> torch.Tensor:
    """Return FedAvg's fixed point with K exact local steps, which shrink x - C_i by (1 - lr A_i)^K."""
    A, C = problem.A[1:], problem.C[1:]
    pull = weights[:, None] * (1 - (1 - problem.local.rate * A) ** problem.local.steps)
    return (pull * C).sum(0) / pull.sum(0)


def optimum(problem: Any, weights: torch.Tensor) -> torch.Tensor:
    A, C = problem.A[1:] * weights[:, None], problem.C[1:]
    return (A * C).sum(0) / A.sum(0)


def uniform() -> torch.Tensor:
    return torch.full((CLIENTS,), 1 / CLIENTS, dtype=torch.float64)


def by_clips(problem: Any) -> torch.Tensor:
    counts = torch.tensor(problem.local.clips[1:], dtype=torch.float64)
    return counts / counts.sum()


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
def test_fedavg_with_one_local_step_is_centralised_gradient_descent(quadratics, weighting):
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=1)
    weights = uniform() if weighting == "uniform" else by_clips(problem)
    central = torch.zeros_like(problem.C[0])
    off: list[float] = []

    def compare(round: int, state: State) -> None:
        nonlocal central
        central = central - RATE * weights @ (problem.A[1:] * (central - problem.C[1:]))
        off.append(float((state.rows["x"][0] - central).abs().max()))

    server(method("fedavg", f"gossip.weighting={weighting}"), problem, 50, each=compare)
    assert max(off) <= 1e-14
    assert float((central - optimum(problem, weights)).abs().max()) <= 1e-3


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_fedavg_ends_at_its_fixed_point_and_with_local_steps_that_is_not_the_optimum(quadratics, steps, weighting):
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=steps)
    weights = uniform() if weighting == "uniform" else by_clips(problem)
    x = server(method("fedavg", f"gossip.weighting={weighting}"), problem, 400).rows["x"][0]
    assert float((x - fixed_point(problem, weights)).abs().max()) <= 1e-10
    bias = float((x - optimum(problem, weights)).norm())
    assert bias <= 1e-10 if steps == 1 else bias >= 1e-2


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_scaffold_reaches_the_optimum_with_any_number_of_local_steps(quadratics, steps, weighting):
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=steps)
    weights = uniform() if weighting == "uniform" else by_clips(problem)
    state = server(method("scaffold", f"gossip.weighting={weighting}"), problem, 300)
    assert float((state.rows["x"][0] - optimum(problem, weights)).abs().max()) <= 1e-8
    # There each client's control variate is its gradient, and their mean is nil.
    gradient = problem.local.gradient(state.rows["x"], 0)
    assert float((state.rows["c_own"] - gradient)[1:].abs().max()) <= 1e-7
    assert float(state.rows["c"].abs().max()) <= 1e-7


def test_scaffold_with_sampled_clients_converges_and_fedavg_does_not(quadratics):
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=5)
    best = optimum(problem, uniform())
    errors: dict[str, list[float]] = {"fedavg": [], "scaffold": []}
    for name, found in errors.items():
        server(method(name, sample=0.5), problem, 600,
               each=lambda _, state, found=found: found.append(float((state.rows["x"][0] - best).norm())))
    assert errors["scaffold"][-1] <= 1e-8
    assert min(errors["fedavg"][300:]) >= 1e-2
    assert sum(errors["fedavg"][300:]) / 300 >= 0.2  # the floor: each sample pulls to its own clients' minimum


def test_scaffold_makes_lost_messages_good(quadratics):
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=5)
    faults = Faults(loss=0.2, until=400, seed=3)
    state = server(method("scaffold"), problem, 500, faults=faults)
    assert float((state.rows["x"][0] - optimum(problem, uniform())).abs().max()) <= 1e-8
    assert torch.equal(state.rows["x"], state.rows["x"][:1].expand_as(state.rows["x"]))


@pytest.mark.parametrize(("optimizer", "parameters", "rounds"), [
    ("sgdm", {"lr": 1.0, "beta1": 0.5}, 400),
    ("sgdm", {"lr": 0.3, "beta1": 0.0}, 400),
    ("adagrad", {"lr": 0.3}, 4000),
])
def test_a_server_optimizer_that_settles_does_so_where_fedavg_does(quadratics, optimizer, parameters, rounds):
    """It rests only where the clients' mean step is 0, whatever the optimiser."""
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=5)
    x = server(method("fedopt", optimizer=optimizer, **parameters), problem, rounds, reached=at_rest()).rows["x"][0]
    assert float((x - fixed_point(problem, uniform())).abs().max()) <= 1e-8


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_adaptive_server_optimizers_come_near_where_fedavg_ends(quadratics, optimizer):
    """With a constant rate their normalised steps oscillate by the order of that rate, not more."""
    problem = quadratics(CLIENTS + 1, lr=RATE, steps=5)
    x = server(method("fedopt", optimizer=optimizer, lr=0.01), problem, 600, reached=at_rest()).rows["x"][0]
    assert float((x - fixed_point(problem, uniform())).abs().max()) <= 0.05
