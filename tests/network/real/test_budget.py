"""Processes that average with a budget: one model, noise that no seed gives, and epsilon in what they write."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from p2pser.graph.spec import load
from p2pser.models.directory import read_card

pytestmark = pytest.mark.usefixtures("own_forkserver")

PEERS, ROUNDS = 4, 3
SETTINGS = ("gossip.algorithm=secure-average", f"training.rounds={ROUNDS}", "privacy.draws=secret", "privacy.epsilon=4",
            "privacy.unit=site")


def test_all_hold_one_model_with_noise_of_their_own_and_write_what_it_reveals(real: Any) -> None:
    config = real.config("out", *SETTINGS, peers=PEERS)
    story = real.run(config, load("ring", peers=PEERS))
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), story
    rows = real.rows(config, range(PEERS))
    assert torch.equal(rows, rows[:1].expand_as(rows))
    for peer, summary in story.summaries.items():
        report = summary["privacy"]
        assert report["unit"] == "site"
        assert report["units"] == PEERS
        assert report["rounds"] == ROUNDS
        assert report["delta"] == 1 / PEERS**2
        assert report["epsilon_model"] < report["epsilon_neighbour"] <= 4.0
        card, _ = read_card(real.peer_folder(config, peer) / "model")
        assert card.training["privacy"] == report
        assert card.statistics is None
        assert any("for neighbours (up to 1 together)" in sentence for sentence in story.sentences(peer)), story
    again = real.config("again", *SETTINGS, peers=PEERS)
    assert real.run(again, load("ring", peers=PEERS)).exit_codes == dict.fromkeys(range(PEERS), 0)
    assert (real.row(again, 0) - rows[0]).std() > 1e-3  # the same data, seed and user: other noise
