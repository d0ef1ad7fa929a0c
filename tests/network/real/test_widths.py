"""Peers of different width between processes: the simulator's bits, a model a width, the same after a kill."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from lives import Life

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph.spec import Topology, load
from p2pser.inference.predictor import load as load_predictor
from p2pser.models.directory import load as load_model
from p2pser.run.checkpoint import load as load_checkpoint
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation

WIDTHS = (0.25, 0.25, 0.5, 0.5, 1.0, 1.0)
PEERS = len(WIDTHS)
EVERYBODY = range(PEERS)
ROUNDS = 8
CASES = {
    "widths": ("model.width=0.25*2,0.5*2,1*2",),
    "widths and a local head, gradient tracking": (
        "model.width=0.25*2,0.5*2,1*2", "gossip.share=body", "gossip.algorithm=gradient-tracking",
        "training.momentum=0", "training.local_steps=1"),
    "local first layer, by clips": ("gossip.share=upper", "gossip.weighting=clips"),
}


def settings(real: Any, out: str, name: str) -> Config:
    config: Config = real.config(out, f"training.rounds={ROUNDS}", "training.local_steps=2", "peer.checkpoint_every=2",
                                 "gossip.consensus_tolerance=1e-5", *CASES[name], peers=PEERS)
    return config


def simulated(config: Config, topology: Topology) -> Simulation:
    return simulate(config, topology, federate(config, PEERS), exact=True)


def held(run: Simulation, i: int) -> torch.Tensor:
    return run.networks[run.widths[i]].held


@pytest.mark.parametrize("name", CASES)
def test_network_and_simulator_have_the_same_bits_and_each_peer_its_model(real: Any, name: str) -> None:
    config, topology = settings(real, "whole", name), load("ring", peers=PEERS)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    run = simulated(config, topology)
    for i in EVERYBODY:
        rows, _, _ = load_checkpoint(real.peer_folder(config, i) / "checkpoint", ROUNDS)
        assert torch.equal(rows["x"][0], run.rows[i][held(run, i)])
        found, expected = real.row(config, i), run.final.rows[i][held(run, i)]
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
        module, card = load_model(real.peer_folder(config, i) / "model")
        assert card.model.width == (run.widths[i],)
        assert sum(p.numel() for p in module.parameters()) == int(held(run, i).sum())
        assert story.summaries[i]["consensus"]
        assert story.summaries[i]["consensus_distance"] <= config.gossip.consensus_tolerance
        assert story.summaries[i]["drift"] == 0
    assert len(load_predictor(real.peer_folder(config, 0) / "model").labels) == 2


def test_killed_and_started_again_it_ends_as_if_nothing_had_been(real: Any) -> None:
    name, topology = "widths and a local head, gradient tracking", load("ring", peers=PEERS)
    config = settings(real, "killed", name)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record.get("round") == 5 and record["peer"] == 2:
            for i in EVERYBODY:
                peers.kill(i)

    real.run(config, topology, kill, lives={2: Life(held_after=5)})
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert any(real.events(config, i, "resumed") for i in EVERYBODY)
    run = simulated(config, topology)
    for i in EVERYBODY:
        rows, _, _ = load_checkpoint(real.peer_folder(config, i) / "checkpoint", ROUNDS)
        assert torch.equal(rows["x"][0], run.rows[i][held(run, i)])


def test_each_peer_says_its_own_width_and_all_find_out_that_its_holders_are_apart(real: Any) -> None:
    topology = load("ring", peers=4)
    config = real.config("apart", "training.rounds=2", "network.start_timeout=60", peers=4)
    wide = config.with_settings(["model.width=1"])
    narrow = config.with_settings(["model.width=0.5"])
    story = real.run(wide, topology, odd={1: (narrow, topology), 3: (narrow, topology)})
    assert story.exit_codes == dict.fromkeys(range(4), 2), str(story)
    assert all("can reach the others of model.width 1 or more only through narrower peers" in reason
               for reason in story.failures.values())
    assert json.dumps(story.failures).count("peer 0 of the topology") == 4
