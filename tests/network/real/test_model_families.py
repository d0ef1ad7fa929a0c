"""Recurrent and convolutional networks between real processes: the simulator's bits, also after all were killed."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import torch
from lives import Life

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.run.checkpoint import load as load_checkpoint
from p2pser.simulation.engine import simulate

PEERS, ROUNDS = 4, 6
SIZES = {"gru": "[5]", "lstm": "[4]", "cnn1d": "[8,8]", "crnn": "[4,5]"}


def settings(real: Any, name: str, out: str) -> Config:
    config: Config = real.config(
        out, f"model.name={name}", f"model.hidden={SIZES[name]}", "features.kind=mfcc", "features.seconds=0.4",
        "features.n_mels=16", "features.n_mfcc=8", f"training.rounds={ROUNDS}", "training.local_steps=2",
        "training.optimizer=adamw", "training.lr=0.01", "peer.checkpoint_every=1", peers=PEERS)
    return config


@pytest.mark.parametrize("name", SIZES)
def test_network_and_simulator_have_the_same_bits(real: Any, name: str) -> None:
    config, topology = settings(real, name, "whole"), load("ring", peers=PEERS)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    trained = torch.cat([load_checkpoint(real.peer_folder(config, i) / "checkpoint", ROUNDS)[0]["x"]
                         for i in range(PEERS)])
    exact = simulate(config, topology, federate(config, PEERS, workers=1), exact=True)
    assert torch.equal(trained, exact.rows)
    rows = real.rows(config, range(PEERS))
    assert torch.equal(rows, exact.final.rows.to(torch.float32))


def test_a_recurrent_run_killed_and_started_again_ends_with_the_simulator_s_bits(real: Any) -> None:
    config, topology = settings(real, "lstm", "torn"), load("ring", peers=PEERS)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if "kind" not in record and record["round"] >= 3:
            for peer in range(PEERS):
                peers.kill(peer)

    story = real.run(config, topology, kill, lives=dict.fromkeys(range(PEERS), Life(held_after=3)))
    assert story.exit_codes == dict.fromkeys(range(PEERS), -signal.SIGKILL), str(story)
    assert real.run(config, topology).exit_codes == dict.fromkeys(range(PEERS), 0)
    exact = simulate(config, topology, federate(config, PEERS, workers=1), exact=True)
    assert torch.equal(real.rows(config, range(PEERS)), exact.final.rows.to(torch.float32))
