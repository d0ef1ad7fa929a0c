"""Runs that learn dimensions, balance classes or learn soft labels: what the target statistics of all peers are for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from p2pser.experiments import baselines
from p2pser.features.federation import Examples, Federation
from p2pser.simulation.engine import simulate

MadeUp = Callable[..., tuple[Any, Any, Federation]]


def rated(examples: Examples) -> Examples:
    """Give clips dimensions that their features tell: a linear map, a little off."""
    draw = np.random.default_rng(len(examples))
    map_ = np.random.default_rng(9).normal(size=(examples.features.shape[1], 3)) * 0.12
    values = examples.features @ map_ + 0.05 * draw.normal(size=(len(examples), 3))
    return dataclasses.replace(examples, dimensions=values.clip(-1, 1).astype(np.float32))


@pytest.fixture
def dimensional(made_up: MadeUp) -> MadeUp:
    def make(**settings: object) -> tuple[Any, Any, Federation]:
        config, topology, federation = made_up(**{"training.rounds": 30, **settings})
        assert federation.test is not None
        train = {i: rated(one) for i, one in federation.train.items()}
        labels = () if config.training.task == "dimensions" else federation.labels
        return config, topology, dataclasses.replace(federation, train=train, test=rated(federation.test),
                                                     labels=labels)

    return make


def test_dimensions_alone(dimensional: MadeUp) -> None:
    config, topology, federation = dimensional(**{"training.task": "dimensions"})
    run = simulate(config, topology, federation)
    assert run.predictions is None
    assert run.peer_predictions == ()
    assert run.outputs is not None
    assert run.outputs.ccc is not None
    assert min(value for value in run.outputs.ccc.values() if value is not None) > 0.7
    first, last = run.history[0], run.history[-1]
    assert last.loss < 0.5 * first.loss
    assert last.uar == {"mean": None, "worst": None, "consensus": None}
    assert last.ccc is not None
    assert set(last.ccc) == {"mean", "worst", "consensus"}
    agreed = last.ccc["consensus"]
    assert agreed is not None
    for name, value in run.outputs.ccc.items():
        assert value == pytest.approx(agreed[name], abs=1e-3)
    assert last.to_dict()["ccc"] == last.ccc
    pooled, local = baselines.pooled(config, federation), baselines.local_only(config, federation)
    assert pooled.uar is None
    assert pooled.predictions == ()
    assert pooled.ccc is not None
    assert local.ccc is not None
    assert pooled.ccc["arousal"] is not None
    assert local.ccc["arousal"] is not None
    assert pooled.ccc["arousal"] > local.ccc["arousal"]


def test_both_at_once(dimensional: MadeUp) -> None:
    config, topology, federation = dimensional(**{"training.task": "both"})
    run = simulate(config, topology, federation)
    assert run.predictions is not None
    assert run.outputs is not None
    assert run.outputs.uar is not None
    assert run.outputs.uar > 0.5
    assert run.outputs.ccc is not None
    assert run.outputs.ccc["valence"] is not None
    assert run.outputs.ccc["valence"] > 0.6


@pytest.mark.parametrize(("normalise", "settings"), [
    ("none", {"training.balance": "weights"}), ("none", {"training.balance": "sampling"}),
    ("none", {"training.task": "both"}), ("global", {"training.task": "dimensions"}),
])
def test_exact_and_fast_agree(dimensional: MadeUp, normalise: str, settings: dict[str, str]) -> None:
    config, topology, federation = dimensional(normalise=normalise, **{"training.rounds": 5, **settings})
    exact, fast = (simulate(config, topology, federation, exact=exact).row for exact in (True, False))
    assert float((exact - fast).norm() / exact.norm()) < 1e-5


def test_balance_helps_the_rare_class(made_up: MadeUp) -> None:
    config, topology, federation = made_up(**{"training.rounds": 20})
    rare = {i: one.take(np.flatnonzero((one.labels != 2) | (np.arange(len(one)) % 6 == 0)))
            for i, one in federation.train.items()}
    federation = dataclasses.replace(federation, train=rare)

    def recall(balance: str) -> float:
        run = simulate(config.with_settings([f"training.balance={balance}"]), topology, federation)
        assert run.predictions is not None
        there = run.predictions.targets == 2
        return float(np.mean(run.predictions.predicted[there] == 2))

    plain = recall("none")
    assert recall("weights") > plain + 0.02
    assert recall("sampling") > plain + 0.02


def test_soft_labels_are_learned(made_up: MadeUp) -> None:
    config, topology, federation = made_up(**{"training.label_smoothing": 0.0})
    sure = np.eye(3, dtype=np.float32) * 0.4 + 0.2
    soft = {i: dataclasses.replace(one, soft=sure[one.labels]) for i, one in federation.train.items()}
    hard, unsure = (simulate(config, topology, dataclasses.replace(federation, train=train))
                    for train in (federation.train, soft))
    spread = []
    for run in (hard, unsure):
        assert run.predictions is not None
        assert run.predictions.logits is not None
        spread.append(torch.from_numpy(run.predictions.logits).softmax(1).max(1).values.mean().item())
    assert spread[1] < spread[0] - 0.1  # as unsure as its listeners
