"""The loop over rounds, the table of algorithms, and decentralised averaging itself."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import SimulatedMixer

TOPOLOGY = Topology("ring", nx.cycle_graph(5), {}, "metropolis", {})


def algorithm(name, parameters=None, config=None, topology=TOPOLOGY):
    return create(name, parameters or {}, config or Config(), topology)


class Add:
    """Local work that adds round + peer to the row."""

    def train(self, state, round):
        return state.rows["x"] + round + torch.arange(5.0, dtype=torch.float64)[:, None]


def test_dfedavg_is_local_work_then_one_exchange():
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = run(algorithm("dfedavg"), State({"x": x.clone()}), Add(), SimulatedMixer(TOPOLOGY), 3)
    W, expected = torch.from_numpy(metropolis(TOPOLOGY.graph)), x
    for round in range(3):
        expected = W @ (expected + round + torch.arange(5.0, dtype=torch.float64)[:, None])
    assert torch.allclose(state.rows["x"], expected, rtol=1e-13, atol=0)


def test_hooks_see_each_round_in_order():
    seen = []
    run(
        algorithm("dfedavg"),
        State({"x": torch.zeros(5, 1, dtype=torch.float64)}),
        Add(),
        SimulatedMixer(TOPOLOGY),
        5,
        3,
        before_round=lambda r, s: seen.append(("before", r, s.rows["x"][0, 0].item())),
        after_round=lambda r, s: seen.append(("after", r, s.rows["x"].mean().item())),
    )
    assert [(when, r) for when, r, _ in seen] == [("before", 3), ("after", 3), ("before", 4), ("after", 4)]
    assert [value for _, _, value in seen[1::2]] == pytest.approx([5.0, 11.0])


def test_a_round_may_jump_ahead_but_not_back():
    seen = []
    run(
        algorithm("dfedavg"),
        State({"x": torch.zeros(5, 1, dtype=torch.float64)}),
        Add(),
        SimulatedMixer(TOPOLOGY),
        8,
        before_round=lambda r, s: seen.append(r),
        next_round=lambda r: 5 if r == 1 else 0,
    )
    assert seen == [0, 1, 5, 6, 7]


def test_an_unknown_algorithm_names_the_nearest():
    with pytest.raises(ConfigError, match="dfedavg"):
        algorithm("dfedav")


class Wave:
    """Local work that depends on the row, for the hosted peers only."""

    def __init__(self, peers):
        self.peers = peers

    def train(self, state, round):
        return torch.sin(state.rows["x"] * (1 + torch.tensor(self.peers, dtype=torch.float32))[:, None] + round)


def test_each_alone_equals_the_exact_simulation_bit_for_bit(each_alone):
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    mixer = SimulatedMixer(TOPOLOGY, exact=True)
    together = run(algorithm("dfedavg"), State({"x": x.clone()}), Wave(mixer.peers), mixer, 6).rows["x"]

    def one(solo):
        state = State({"x": x[solo.peer :][:1].clone()})
        return run(algorithm("dfedavg"), state, Wave(solo.peers), solo, 6).rows["x"][0]

    alone = each_alone(TOPOLOGY, one)
    assert all(torch.equal(alone[i], together[i]) for i in range(5))
