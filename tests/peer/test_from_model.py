"""Peers start a run from a model of an earlier one."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch
from crew import PATIENCE, Crew

from p2pser.base.errors import ConfigError
from p2pser.models.directory import load as load_model
from p2pser.peer.process import Peer


def test_all_start_from_one_model_and_its_card_says_which(crew: Crew) -> None:
    first = crew.configured("first", "training.rounds=2", "features.kind=functionals")
    crew.run(first)
    model = shutil.copytree(crew.path(first, 0) / "model", crew.folder / "a model to start from")
    second = crew.configured("second", "training.rounds=0", f"peer.start={model}")
    assert all(one.finished for one in crew.run(second))
    digests = set()
    for i in range(3):
        assert torch.allclose(crew.row(second, i), crew.row(first, 0), atol=1e-6)
        _, card = load_model(crew.path(second, i) / "model")
        assert card.training["start"]["name"] == "mlp trained on numbers"
        digests.add(card.training["start"]["digest"])
        assert "a model to start from" not in (crew.path(second, i) / "model" / "card.json").read_text()
        assert json.loads((crew.path(second, i) / "run.json").read_text())["settings"]["model to start from"] in digests
    assert len(digests) == 1
    mark = digests.pop()
    told = f"digest {mark}, features.normalise=global) and takes over calm and cross and glad"
    assert any(told in said for said in crew.said)
    without = crew.configured("second", "training.rounds=0")
    with pytest.raises(ConfigError, match="another value of model to start from"):
        crew.peer(without, 1).run()


def test_peers_that_start_from_different_models_refuse_each_other_by_name(crew: Crew) -> None:
    first = crew.configured("first", "training.rounds=1")
    crew.run(first)
    reasons: dict[int, str] = {}

    def refused(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("kind") == "refused":
            reasons[peer.me] = record["reason"]
            if len(reasons) == len(peers):  # the other would wait for ever for a peer that left before
                for one in peers:
                    one.interrupt()

    start = [f"peer.start={crew.path(first, 0) / 'model'}"]
    peers = [crew.peer(crew.configured("second", *more), i, refused) for i, more in enumerate([start, []])]
    ends = [crew.pool.submit(peer.run) for peer in peers]
    assert not any(end.result(timeout=PATIENCE).finished for end in ends)
    assert all("settings model to start from differ: " in reason and "--from" in reason for reason in reasons.values())
