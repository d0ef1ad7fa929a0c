"""Dimensions, balanced classes and support vector machines between processes: the simulator's bits, and refusals."""

from __future__ import annotations

import csv
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lives import Life

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.directory import read_card
from p2pser.simulation.engine import simulate

PEERS = 3
RING = load("ring", peers=PEERS)


@pytest.fixture
def rated(tones: Path, tmp_path: Path) -> Path:
    """The corpus of tones with a rating of each clip: a livelier tremolo is more aroused. A clip has no emotion."""
    with tones.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    draw = np.random.default_rng(0)
    path = tmp_path / "rated.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion", "arousal", "valence"])
        for number, row in enumerate(rows):
            arousal = 2 + 2 * (row["emotion"] == "excited") + draw.uniform(-0.4, 0.4)
            writer.writerow([tones.parent / row["path"], row["speaker"], row["emotion"] if number else "",
                             f"{arousal:.3f}", f"{draw.uniform(1, 5):.3f}" if number % 2 else ""])
    return path


@pytest.mark.parametrize("settings", [
    ("training.task=both", "training.balance=sampling", "features.normalise=global"),
    ("training.balance=weights", "model.name=svm", "model.parameters.random_features=64"),
])
def test_peers_end_with_the_simulators_model(real: Any, rated: Path, settings: tuple[str, ...]) -> None:
    config = real.config("out", f"corpus.data={rated}", "corpus.scale=[1,5]", "training.rounds=6", *settings,
                         peers=PEERS)
    federation = federate(config, PEERS, workers=1)
    story = real.run(config, RING)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    exact = simulate(config, RING, federation, exact=True)
    assert torch.equal(real.rows(config, range(PEERS)), exact.final.rows.to(torch.float32))
    assert exact.outputs is not None
    for one in story.summaries.values():
        assert one["uar"] == exact.outputs.uar
        expected = exact.outputs.ccc
        assert one.get("ccc") == (expected and {name: value and pytest.approx(value, abs=1e-5)
                                                for name, value in expected.items()})


def test_dimensions_alone_survive_a_resume(real: Any, rated: Path) -> None:
    config = real.config("out", f"corpus.data={rated}", "corpus.scale=[1,5]", "training.task=dimensions",
                         "training.rounds=8", "peer.checkpoint_every=2", "peer.evaluate_every=1", peers=PEERS)
    federation = federate(config, PEERS, workers=1)

    def stop(peers: Any, record: dict[str, Any]) -> None:
        if record.get("round") == 4 and "kind" not in record:
            for one in range(PEERS):
                peers.kill(one)

    first = real.run(config, RING, stop, lives=dict.fromkeys(range(PEERS), Life(held_after=4)))
    assert set(first.exit_codes.values()) == {-signal.SIGKILL}, str(first)
    story = real.run(config, RING)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    assert real.events(config, 0, "resumed")
    exact = simulate(config, RING, federation, exact=True)
    assert torch.equal(real.rows(config, range(PEERS)), exact.final.rows.to(torch.float32))
    told = [one for one in story.records if "kind" not in one and one["reporter"] == 0]
    assert all(one["uar"] is None and math.isfinite(one["ccc"]["arousal"]) for one in told)
    assert told[-1]["ccc"]["dominance"] is None  # nobody rated it
    card, _ = read_card(real.peer_folder(config, 0) / "model")
    assert (card.task, card.labels, card.dimensions) == ("dimensions", (), ("arousal", "valence", "dominance"))


def test_a_peer_that_learns_something_else_is_refused(real: Any) -> None:
    config = real.config("out", "network.refused_wait=0.5", peers=PEERS)
    other = config.with_settings(["training.balance=weights"])
    story = real.run(config, RING, odd={1: (other, RING)})
    assert story.exit_codes[1] == 2, str(story)
    said = " ".join(sentence for peer in range(PEERS) for sentence in story.sentences(peer))
    assert "settings training.balance differ" in said
