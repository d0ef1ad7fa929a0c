"""Self-organising hubs: federated averaging while a candidate lives, by the next one after a death."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create
from p2pser.graph.spec import load, parse
from p2pser.simulation.mixer import SimulatedMixer

TWO = parse({"graph": {"kind": "star", "peers": 8, "centres": 2}}, "two")
"""Peers 0 and 1 are linked to all."""


def end(problem, where, rounds, weighting="uniform", dead=None, back=None):
    method = create("hubs", {}, Config().with_settings([f"gossip.weighting={weighting}"]), where)
    mixer = SimulatedMixer(where, slots=2, dead=dead, back=back)
    return run(method, State({"x": problem.start()}), problem.local, mixer, rounds).rows["x"], mixer


def averaged(problem, x, rounds, peers, weights=None):
    """FedAvg of some peers, from their rows."""
    weights = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    for round in range(rounds):
        z = problem.local.train(State({"x": x}), round)
        x = (weights[peers, None] * z[peers]).sum(0) / weights[peers].sum() + torch.zeros_like(x)
    return x


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("where", [TWO, load("complete", peers=8), load("star", peers=8)],
                         ids=["two", "complete", "star"])
def test_all_alive_it_is_federated_averaging_of_all_with_two_rows_a_peer(quadratics, where, weighting):
    problem = quadratics(8, lr=0.1, steps=3)
    found, mixer = end(problem, where, 10, weighting)
    weights = torch.tensor(problem.local.clips, dtype=torch.float64) if weighting == "clips" else None
    assert float((found - averaged(problem, problem.start(), 10, list(range(8)), weights)).abs().max()) <= 1e-13
    assert torch.equal(found, found[:1].expand_as(found))
    width = found.shape[1]
    assert mixer.bytes_sent.sum() == 10 * 7 * 8 * (width + width + 1)


@pytest.mark.parametrize("where", [TWO, load("complete", peers=8)], ids=["two", "complete"])
def test_a_dead_hub_costs_one_round_without_a_mean_and_the_next_one_averages_for_the_living(quadratics, where):
    problem, living = quadratics(8, lr=0.1), list(range(1, 8))
    before = averaged(problem, problem.start(), 4, list(range(8)))
    alone = problem.local.train(State({"x": before}), 4)
    expected = averaged(problem, alone, 5, living)
    found, _ = end(problem, where, 10, dead={0: Step(4, 0)})
    assert float((found[living] - expected[living]).abs().max()) <= 1e-13
    both, _ = end(problem, load("complete", peers=8), 40, dead={0: Step(4, 0), 1: Step(9, 1)})
    assert torch.equal(both[2:], both[2:3].expand_as(both[2:]))


def test_a_hub_that_comes_back_is_the_hub_again(quadratics):
    problem = quadratics(8, lr=0.1)
    found, _ = end(problem, TWO, 200, dead={0: Step(4, 0)}, back={0: 8})
    assert torch.equal(found, found[:1].expand_as(found))
    assert float((found - averaged(problem, problem.start(), 200, list(range(8)))).abs().max()) <= 1e-7


def test_graphs_without_a_candidate_are_refused_and_a_single_one_is_told():
    with pytest.raises(ConfigError, match="linked to all others, and 'ring'"):
        list(create("hubs", {}, Config(), load("ring", peers=6)).validate(Config(), load("ring", peers=6)))
    star = load("star", peers=6)
    (told,) = create("hubs", {}, Config(), star).validate(Config(), star)
    assert "only peer 0" in told
    assert not list(create("hubs", {}, Config(), TWO).validate(Config(), TWO))
    assert nx.is_connected(TWO.graph.subgraph(range(1, 8)))  # without the first hub, the second reaches all
