"""Trees as a model: XGBoost's own answers, from a row, a file or a neighbour, without XGBoost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.config import AugmentSettings, Config, FeatureSettings, ModelSettings
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.networks.trees import TreeEnsemble, numbers
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.training.augmentation import Augmentation
from p2pser.training.boosting import TreeLearner, arrays
from p2pser.training.losses import Objective, Targets

xgboost = pytest.importorskip("xgboost", reason="the extra trees is not installed")

CLASSES, INPUTS, CLIPS, ROUNDS = 3, 8, 80, 6
NAMES = {"depth": "max_depth", "eta": "eta", "reg_lambda": "reg_lambda"}
"""Our names of XGBoost's parameters."""
DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, CLASSES, CLIPS)
FEATURES = (DRAW.normal(size=(CLASSES, INPUTS))[LABELS] + DRAW.normal(size=(CLIPS, INPUTS))).astype(np.float32)
SETTINGS = {"subsample": 1.0, "columns": 1.0}


def chosen(held: int = ROUNDS, **settings: Any) -> ModelSettings:
    return ModelSettings(name="xgb", parameters={**SETTINGS, "held": held, **settings})


def ensemble(held: int = ROUNDS, **settings: Any) -> TreeEnsemble:
    module = models.build(chosen(held, **settings), (INPUTS,), CLASSES, seed=0)
    assert isinstance(module, TreeEnsemble)
    return module


def grower(module: TreeEnsemble, peer: int = 0, targets: Any = None, rounds: int = ROUNDS, **more: Any) -> TreeLearner:
    training = Config().training.model_copy(update={"rounds": rounds})
    own = torch.from_numpy(LABELS) if targets is None else targets
    return TreeLearner(module, Schema.of(module), training, torch.from_numpy(FEATURES), own, seed=3, peer=peer, **more)


def grow(module: TreeEnsemble, learner: TreeLearner, rounds: int = ROUNDS) -> torch.Tensor:
    row = torch.zeros(Schema.of(module).size)
    for round in range(rounds):
        learner.train_(row, {}, round)
    return row


def margins(module: TreeEnsemble, row: torch.Tensor) -> np.ndarray:
    Schema.of(module).bind(module, row.clone())
    with torch.inference_mode():
        found: np.ndarray = module(torch.from_numpy(FEATURES)).numpy()
    return found


@pytest.mark.parametrize("settings", [{}, {"depth": 1}, {"depth": 5, "eta": 0.7, "reg_lambda": 0}])
def test_one_peer_is_plain_xgboost(settings: dict[str, Any]) -> None:
    module = ensemble(**settings)
    row = grow(module, grower(module))
    plain = xgboost.train(
        {"objective": "multi:softprob", "num_class": CLASSES, "base_score": 0.5, "tree_method": "hist", "nthread": 1,
         "eta": 0.3, "max_depth": 3, "reg_lambda": 1.0, **{NAMES[name]: value for name, value in settings.items()}},
        xgboost.DMatrix(FEATURES, label=LABELS), ROUNDS)
    # XGBoost adds its base score to every class's margin alike.
    expected = plain.predict(xgboost.DMatrix(FEATURES), output_margin=True) - 0.5
    np.testing.assert_allclose(margins(module, row), expected, atol=2e-5)


def test_trees_answer_as_xgboost_does_at_their_thresholds() -> None:
    booster = xgboost.train({"objective": "multi:softprob", "num_class": CLASSES, "base_score": 0.5, "max_depth": 4,
                             "min_child_weight": 3}, xgboost.DMatrix(FEATURES, label=LABELS), 1)
    module = ensemble(held=1, depth=4)
    found = arrays(booster, CLASSES, 4)
    thresholds = found[:, 15:30]
    clips = np.repeat(thresholds.reshape(-1, 1), INPUTS, axis=1)  # every feature right at some threshold
    clips = np.concatenate([clips, np.nextafter(clips, np.float32(-9))]).astype(np.float32)
    with torch.inference_mode():
        module.trees.copy_(torch.from_numpy(found)[None])
        ours = module(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(ours, booster.predict(xgboost.DMatrix(clips), output_margin=True) - 0.5, atol=1e-6)
    assert len(np.unique(ours)) > CLASSES


def test_each_of_several_peers_takes_its_share_of_the_step_at_its_own_place() -> None:
    alone, shared = ensemble(held=1), ensemble(held=4, gain=1.5)
    one = grow(alone, grower(alone, rounds=1), 1)
    row = torch.zeros(Schema.of(shared).size)
    grower(shared, peer=2, rounds=1).train_(row, {}, 0)
    sets = row.view(4, CLASSES, -1)
    assert [bool(part.any()) for part in sets] == [False, False, True, False]
    np.testing.assert_allclose(margins(shared, row), margins(alone, one) * 1.5 / 4, atol=1e-6)
    two = ensemble(held=2, gain=3)  # no tree counts more than all of its step
    assert grow(two, grower(two, rounds=1), 1)[: len(one)].equal(one)


def test_draws_depend_on_seed_peer_and_round_alone() -> None:
    module = ensemble(held=2 * ROUNDS, subsample=0.5, columns=0.3)
    row = grow(module, grower(module, peer=1))
    again = torch.zeros_like(row)
    for round in range(ROUNDS):  # another learner for each round, as after a restart
        grower(module, peer=1).train_(again, {}, round)
    assert torch.equal(row, again)
    other = grow(module, grower(module, peer=0))
    assert not torch.equal(row.view(ROUNDS, 2, -1)[:, 1], other.view(ROUNDS, 2, -1)[:, 0])


def test_the_loss_falls_and_is_that_before_the_round() -> None:
    module = ensemble()
    learner, row = grower(module), torch.zeros(Schema.of(module).size)
    losses = [learner.train_(row, {}, round) for round in range(ROUNDS)]
    assert losses[0] == pytest.approx(np.log(CLASSES), rel=1e-6)
    assert losses == sorted(losses, reverse=True)
    assert (margins(module, row).argmax(1) == LABELS).mean() > 0.9


def test_soft_labels_and_weights_of_classes_count() -> None:
    module = ensemble(held=1)
    hard = grow(module, grower(module, rounds=1), 1)
    shares = torch.nn.functional.one_hot(torch.from_numpy(LABELS), CLASSES).float()
    assert torch.equal(hard, grow(module, grower(module, targets=Targets(shares), rounds=1), 1))
    uniform = Targets(torch.full((CLIPS, CLASSES), 1 / CLASSES))
    none = margins(module, grow(module, grower(module, targets=uniform, rounds=1), 1))
    assert np.abs(none).max() < 1e-6  # nothing to tell apart
    training = Config().training
    heavy = Objective(training, weights=torch.tensor([5.0, 1.0, 1.0]))
    weighted = margins(module, grow(module, grower(module, rounds=1, objective=heavy), 1))
    assert (weighted.argmax(1) == 0).sum() > (margins(module, hard).argmax(1) == 0).sum()
    unknown = Targets(torch.where(torch.arange(CLIPS) < 40, torch.from_numpy(LABELS), -1))
    assert grow(module, grower(module, targets=unknown, rounds=1), 1).any()


def test_varied_clips_are_seen_by_the_trees_of_their_round() -> None:
    module, settings = ensemble(held=2), AugmentSettings(mixup=0.4, noise=0.1)
    varied = {"augmentation": Augmentation(settings, CLASSES), "rounds": 2}
    row = grow(module, grower(module, **varied), 2)
    again = torch.zeros_like(row)
    for round in range(2):
        grower(module, **varied).train_(again, {}, round)
    assert torch.equal(row, again)
    assert not torch.equal(row, grow(module, grower(module, rounds=2), 2))
    one = ensemble(held=1)
    same = torch.from_numpy(np.stack([FEATURES, FEATURES]))  # copies in which nothing was changed count once in all
    copied = margins(one, grow(one, grower(one, copies=same, rounds=1), 1))
    np.testing.assert_allclose(copied, margins(one, grow(one, grower(one, rounds=1), 1)), atol=1e-5)


def test_a_directory_keeps_the_trees_and_needs_no_xgboost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ensemble()
    row = grow(module, grower(module))
    card = Card(labels=("a", "b", "c"), shape=(INPUTS,), model=chosen(), features=FeatureSettings(),
                normalise="none", statistics=None, corpus=Origin("emodb", "1"))
    for name in ("one", "two"):
        directory.save(tmp_path / name, row, Schema.of(module), card)
    files = [(tmp_path / name / directory.WEIGHTS).read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    monkeypatch.setitem(sys.modules, "xgboost", None)
    found, read = directory.load(tmp_path / "one")
    assert isinstance(found, TreeEnsemble)
    assert read.model == chosen()
    with torch.inference_mode():
        assert np.array_equal(found(torch.from_numpy(FEATURES)).numpy(), margins(module, row))


def test_any_numbers_in_a_file_answer_something() -> None:
    module = ensemble(held=3)
    with torch.inference_mode():
        module.trees.copy_(torch.from_numpy(np.random.default_rng(1).normal(scale=1e30, size=module.trees.shape)))
        module.trees[0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        assert module(torch.from_numpy(FEATURES)).shape == (CLIPS, CLASSES)


def test_without_xgboost_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ConfigError, match=r"pip install p2pser\[trees\]"):
        grower(ensemble())


def test_an_empty_ensemble_guesses() -> None:
    module = ensemble()
    assert not margins(module, Schema.of(module).flatten(module)).any()
    assert Schema.of(module).size == ROUNDS * CLASSES * numbers(3)


@pytest.mark.parametrize(("settings", "shape", "says"), [
    ({}, (64, 188), "takes functionals"),
    ({}, (1 << 17,), "up to 65536 numbers"),
    ({"held": 10**6, "depth": 8}, (INPUTS,), "lower training.rounds or model.parameters.depth"),
])
def test_what_cannot_be_built(settings: dict[str, Any], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        models.build(ModelSettings(name="xgb", parameters=settings), shape, CLASSES, seed=0)


def test_a_deeper_tree_or_more_of_them_are_refused() -> None:
    matrix = xgboost.DMatrix(FEATURES, label=LABELS)
    plain = {"objective": "multi:softprob", "num_class": CLASSES, "max_depth": 4}
    with pytest.raises(ModelError, match="deeper than 2"):
        arrays(xgboost.train(plain, matrix, 1), CLASSES, 2)
    with pytest.raises(ModelError, match="grew 6 trees"):
        arrays(xgboost.train(plain, matrix, 2), CLASSES, 4)


def test_a_run_makes_room_for_its_trees() -> None:
    config = Config().with_settings(["model.name=xgb", "training.rounds=7"])
    assert config.gossip.algorithm == "trees"
    assert models.for_run(config, 5).model.parameters["held"] == 35
    assert models.for_run(models.for_run(config, 5), 1).model.parameters["held"] == 7
    assert models.for_run(Config(), 5) == Config()
    with pytest.raises(ConfigError, match=r"training\.rounds is 0"):
        models.for_run(config.with_settings(["training.rounds=0"]), 5)
    with pytest.raises(ConfigError, match=r"training\.task is both"):
        models.for_run(config.with_settings(["training.task=both"]), 5)
