"""Overlap: the exchange during training, the fixed point, and no message on its way between rounds."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.run import checkpoint
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.wire.messages import SETTLE_WINDOW

GRAPHS = {name: parse(document, "test") for name, document in {
    "ring": {"graph": {"kind": "ring", "peers": 6}},
    "lazy": {"graph": {"kind": "chain", "peers": 6}, "weights": "lazy"},
    "one-peer": {"graph": {"kind": "one-peer-exponential", "peers": 6}},
}.items()}


class Steps:
    """Local work without gradients: x + a number that depends on peer and round; asks a spy what has been posted."""

    def __init__(self, peers, spy=None):
        self.peers, self.spy = peers, spy

    def train(self, state, round, *, rows=None, correction=None, only=None):
        if self.spy is not None:
            self.spy(round)
        return state.rows["x"] + torch.tensor(self.peers, dtype=state.rows["x"].dtype)[:, None] * 0.1 + round


def algorithm(name, parameters=None, config=None, topology=GRAPHS["ring"]):
    return create(name, parameters or {}, config or Config(), topology)


def start(dtype=torch.float32):
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_rows_are_on_their_way_while_it_trains():
    mixer = SimulatedMixer(GRAPHS["ring"])
    posted = []
    work = Steps(range(6), lambda round: posted.append(Step(round, 0) in mixer._posted))
    run(algorithm("overlap"), State({"x": start()}), work, mixer, 3)
    assert posted == [True] * 3
    assert mixer._posted == {}  # nothing between rounds


@pytest.mark.parametrize("graph", GRAPHS)
def test_what_is_trained_in_one_round_is_mixed_in_the_next(graph):
    where = GRAPHS[graph]
    state = run(algorithm("overlap"), State({"x": start(torch.float64)}), Steps(range(6)), SimulatedMixer(where), 8)
    X = start(torch.float64)
    for t in range(8):
        X = torch.from_numpy(where.matrix(t).copy()) @ X + torch.arange(6).double()[:, None] * 0.1 + t
    assert float((state.rows["x"] - X).abs().max()) <= 1e-12


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_alone_equals_the_exact_simulation_and_a_resumed_run_the_uninterrupted(graph, each_alone, tmp_path):
    where = GRAPHS[graph]
    together = run(algorithm("overlap"), State({"x": start()}), Steps(range(6)), SimulatedMixer(where, exact=True), 6)
    alone = each_alone(where, lambda solo: run(
        algorithm("overlap"), State({"x": start()[solo.peer :][:1].clone()}), Steps(solo.peers), solo, 6))
    assert all(torch.equal(alone[i].rows["x"][0], together.rows["x"][i]) for i in range(6))
    half = run(algorithm("overlap"), State({"x": start()}), Steps(range(6)), SimulatedMixer(where), 4)
    checkpoint.save(tmp_path, 4, half.rows, half.edges, {})
    found = checkpoint.load(tmp_path, 4)
    resumed = run(algorithm("overlap"), State(found.rows, found.edges), Steps(range(6)), SimulatedMixer(where), 6, 4)
    assert torch.equal(resumed.rows["x"], together.rows["x"])


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_mean_moves_by_the_local_steps_alone_though_rows_come_late(graph):
    faults = Faults(delay=0.2, longest=SETTLE_WINDOW - 1, until=40)
    mixer, rounds = SimulatedMixer(GRAPHS[graph], faults=faults), 40 + SETTLE_WINDOW
    state = run(algorithm("overlap"), State({"x": start(torch.float64)}), Steps(range(6)), mixer, rounds)
    assert mixer.late > 10
    expected = start(torch.float64).mean(0) + rounds * 0.25 + sum(range(rounds))
    assert float((state.rows["x"].mean(0) - expected).abs().max()) <= 1e-9


def test_matrices_that_do_not_average_are_refused():
    config = Config().with_settings(["gossip.algorithm=overlap"])
    digraph = parse({"graph": {"kind": "random-digraph", "peers": 6, "seed": 4}}, "test")
    with pytest.raises(ConfigError, match="push-sum"):
        validate(algorithm("overlap"), config, digraph)
    assert tuple(validate(algorithm("overlap"), config, GRAPHS["one-peer"])) == ()
