"""Adapters of a tiny speech encoder between real processes: the simulator's bits, also after a death; the encoder's
digest is compared when peers meet.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the ssl extra is not installed")

import torch
from lives import Life
from tiny_encoders import save

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.simulation.engine import simulate

pytestmark = pytest.mark.usefixtures("own_forkserver")

PEERS, ROUNDS = 4, 6
SINGLE = ("training.local_steps=1", "training.momentum=0", "training.optimizer=sgd")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("whisper", tmp_path_factory.mktemp("encoder"))


def settings(real: Any, encoder: Path, out: str, *more: str) -> Config:
    config: Config = real.config(
        out, "model.name=adapter", f"features.encoder={encoder}", "features.seconds=0.4", "features.parameters.upper=1",
        "features.normalise=global", "model.hidden=[4]", "model.parameters.rank=2", f"training.rounds={ROUNDS}",
        "training.local_steps=2", "training.lr=0.01", "peer.checkpoint_every=1", *more, peers=PEERS)
    # What is not under test, and costs most: each clip takes the encoder half a minute of silence.
    federate(config, PEERS, workers=1)
    return config


@pytest.mark.parametrize("more", [
    ("gossip.algorithm=gradient-tracking", *SINGLE),
    ("gossip.algorithm=choco", "gossip.parameters={compressor: top-k, share: 0.1}"),
], ids=["gradient-tracking", "choco"])
def test_network_and_simulator_have_the_same_bits(real: Any, encoder: Path, more: tuple[str, ...]) -> None:
    config, topology = settings(real, encoder, "whole", *more), load("ring", peers=PEERS)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    exact = simulate(config, topology, federate(config, PEERS, workers=1), exact=True)
    assert torch.equal(real.rows(config, range(PEERS)), exact.final.rows.to(torch.float32))


def test_a_peer_is_killed_and_the_resumed_run_ends_with_the_undisturbed_bits(real: Any, encoder: Path) -> None:
    config, topology = settings(real, encoder, "torn", "network.ping_after=0.1", "network.suspect_after=0.3"), \
        load("ring", peers=PEERS)
    gone: set[int] = set()

    def kill(peers: Any, record: dict[str, Any]) -> None:
        due = {2} if "kind" not in record and record["reporter"] == 2 and record["round"] == 3 else set()
        if gone and record.get("kind") == "suspect":
            due = set(range(PEERS))  # the others have stopped, as they wait for it: all are started again
        for peer in due - gone:
            gone.add(peer)
            peers.kill(peer)

    story = real.run(config, topology, kill, lives={2: Life(held_after=3)})
    assert story.exit_codes == dict.fromkeys(range(PEERS), -signal.SIGKILL), str(story)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    assert {one["round"] for i in range(PEERS) for one in real.events(config, i, "resumed")} <= set(range(1, ROUNDS))
    exact = simulate(config, topology, federate(config, PEERS, workers=1), exact=True)
    assert torch.equal(real.rows(config, range(PEERS)), exact.final.rows.to(torch.float32))


def test_a_peer_with_another_encoder_is_refused(real: Any, encoder: Path, tmp_path: Path) -> None:
    config, topology = settings(real, encoder, "out", "network.refused_wait=1"), load("ring", peers=PEERS)
    other = save("whisper", tmp_path / "other", seed=1)
    odd = config.with_settings([f"features.encoder={other}"])
    federate(odd, PEERS, only=2, workers=1)
    story = real.run(config, topology, odd={2: (odd, topology)})
    assert story.exit_codes == {0: 3, 1: 3, 2: 2, 3: 3}, str(story)
    assert "features.version" in story.failures[2], story.failures
    assert "the same encoder's files" in story.failures[2]
