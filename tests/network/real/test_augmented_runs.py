"""Augmentation and fairness between processes: the same clips, copies, batches and weights as in the simulator, also
after all were killed.
"""

from __future__ import annotations

import signal
from typing import Any

import torch
from lives import Life

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.directory import read_card
from p2pser.simulation.engine import simulate

SETTINGS = ("augment.mixup=0.4", "augment.noise=0.1", "augment.copies=2", "augment.snr=10", "augment.gain=6",
            "features.level=-26", "features.trim=40")


def test_peers_vary_clips_as_the_simulator_does(real: Any) -> None:
    ring = load("ring", peers=3)
    config = real.config("out", *SETTINGS, "training.rounds=6", peers=3)
    federation = federate(config, 3, workers=1)
    story = real.run(config, ring)
    assert story.exit_codes == dict.fromkeys(range(3), 0), str(story)
    card, _ = read_card(real.peer_folder(config, 0) / "model")
    assert card.training["augment"] == {"mixup": 0.4, "noise": 0.1, "copies": 2, "snr": 10.0, "gain": 6.0}
    rows = real.rows(config, range(3))
    assert torch.equal(rows, simulate(config, ring, federation, exact=True).final.rows.to(torch.float32))
    plain = config.with_settings(["augment.mixup=0", "augment.noise=0", "augment.copies=0", "augment.snr=null",
                                  "augment.gain=0"])
    assert not torch.allclose(rows[0], simulate(plain, ring, federate(plain, 3, workers=1)).row, atol=1e-3)


def test_masked_matrices_of_weighed_speakers_survive_a_resume(real: Any) -> None:
    ring = load("ring", peers=3)
    settings = ("features.kind=mfcc+chroma", "features.n_mfcc=8", "features.deltas=0", "features.seconds=0.5",
                "model.name=cnn2d", "model.hidden=[4]", "augment.time_masks=1", "augment.time_width=0.1",
                "training.fairness=speaker", "training.fairness_strength=2",
                "augment.band_masks=1", "training.rounds=6", "peer.checkpoint_every=2")
    config = real.config("out", *settings, peers=3)
    federation = federate(config, 3, workers=1)

    def stop(peers: Any, record: dict[str, Any]) -> None:
        if record.get("round") == 4 and "kind" not in record:
            for one in range(3):
                peers.kill(one)

    first = real.run(config, ring, stop, lives=dict.fromkeys(range(3), Life(held_after=4)))
    assert set(first.exit_codes.values()) == {-signal.SIGKILL}, str(first)
    story = real.run(config, ring)
    assert story.exit_codes == dict.fromkeys(range(3), 0), str(story)
    assert real.events(config, 0, "resumed")
    exact = simulate(config, ring, federation, exact=True)
    rows = real.rows(config, range(3))
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    plain = config.with_settings(["training.fairness=none"])
    assert not torch.allclose(rows[0], simulate(plain, ring, federation).row, atol=1e-3)
