"""Trees between real processes, one of which is killed (what all do undisturbed or resumed: ``test_algorithms``)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lives import Life

from p2pser.graph.spec import load

pytest.importorskip("xgboost", reason="the extra trees is not installed")

pytestmark = pytest.mark.usefixtures("own_forkserver")

PEERS, ROUNDS, VICTIM = 4, 9, 2


def test_the_living_end_with_the_same_bytes(real: Any) -> None:
    # A small step, so that there is something to learn to the end: for next to nothing XGBoost grows trees of zeros.
    config = real.config("out", "model.name=xgb", "model.parameters.depth=2", "model.parameters.eta=0.1",
                         f"training.rounds={ROUNDS}", "network.ping_after=0.3", "network.suspect_after=1.0",
                         "network.dead_after=3.0", peers=PEERS)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == VICTIM and "kind" not in record and record["round"] == 3:
            peers.kill(VICTIM)

    story = real.run(config, load("ring", peers=PEERS), kill, lives={VICTIM: Life(held_after=3)})
    living = [i for i in range(PEERS) if i != VICTIM]
    assert {i: one["peers_dead"] for i, one in story.summaries.items()} == {i: [VICTIM] for i in living}, str(story)
    assert {story.exit_codes[i] for i in living} == {3}
    files = {(real.peer_folder(config, i) / "model" / "model.safetensors").read_bytes() for i in living}
    assert len(files) == 1
    grown = (real.row(config, 0).view(ROUNDS, PEERS, -1) != 0).any(2)
    assert torch.all(grown[:4])
    assert torch.all(grown[:, living])
    assert not torch.any(grown[5:, VICTIM])
    for one in story.summaries.values():
        assert one["consensus"]
        assert one["consensus_distance"] == 0.0
        assert one["uar"] > 0.5
