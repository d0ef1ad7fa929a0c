"""The budgets of pooled training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pser.config import Config
from p2pser.experiments import baselines
from p2pser.experiments.jobs import BASELINES
from p2pser.experiments.planning import baselines_of
from p2pser.features.federation import federate

PLAIN = ["training.rounds=1", "training.local_steps=2", "training.batch_size=8", "model.name=cnn2d", "model.hidden=[8]",
         "features.n_mels=16", "features.seconds=0.4", "corpus.name=folder"]


def test_pooled_has_the_peers_clips_and_pooled_steps_their_number_of_steps_too(
        spoken_tones: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config().with_settings([*PLAIN, f"corpus.data={json.dumps(str(spoken_tones(4)))}"])
    federation = federate(config, 3)
    assert [len(examples) for examples in federation.train.values()] == [9, 9, 9]
    trained: list[Any] = []
    monkeypatch.setattr(baselines, "_train", lambda cohort, *others: trained.append(cohort.training) or ())
    monkeypatch.setattr(baselines, "POOLED_BATCH", 12)
    found = [baselines.pooled(config, federation), baselines.pooled_steps(config, federation)]
    assert [baseline.name for baseline in found] == ["pooled", "pooled-steps"]
    # 3 peers draw 8 clips in each of 2 steps.
    assert [(each.local_steps, each.batch_size) for each in trained] == [(4, 12), (2, 24)]
    assert {each.rounds for each in trained} == {1}


def test_trees_have_no_second_budget() -> None:
    assert baselines_of(Config()) == tuple(kind for kind in BASELINES if kind != "voting")
    assert baselines_of(Config().with_settings(["model.name=xgb"])) == ("pooled", "local-only", "voting")
