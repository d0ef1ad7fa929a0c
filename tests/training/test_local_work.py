"""From examples and settings to the learner of the model's family."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser import models
from p2pser.config import Config
from p2pser.features.federation import Examples
from p2pser.models.rows import Schema
from p2pser.training.learner import Learner
from p2pser.training.local_work import learner
from p2pser.training.machines import MachineLearner
from p2pser.training.target_statistics import TargetStatistics


def made(*settings: str, clips: int | None = None) -> Learner:
    draw = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 0, 1, 1, 2], dtype=np.int64)
    held = Examples(draw.normal(size=(7, 5)).astype(np.float32), labels, ("s",) * 7, tuple("abcdefg"))
    config = Config().with_settings(["model.hidden=[4]", *settings])
    module = models.build(config.model, (5,), 3, 0)
    statistics = None if clips is None else TargetStatistics(clips=clips)
    return learner(module, Schema.of(module), config, held, held.features, ("x", "y", "z"), peer=0,
                   target_statistics=statistics)


@pytest.mark.parametrize(("settings", "kind", "loss"), [
    ((), Learner, "cross-entropy"),
    (("model.name=svm",), MachineLearner, "squared-hinge"),
    (("model.name=svm", "training.loss=cross-entropy"), MachineLearner, "cross-entropy"),
    (("training.loss=squared-hinge",), Learner, "squared-hinge"),
])
def test_the_family_chooses_the_learner_and_the_loss(settings: tuple[str, ...], kind: type, loss: str) -> None:
    work = made(*settings)
    assert type(work) is kind
    assert work.objective.loss == loss


def test_the_penalty_of_machines_is_over_all_peers_clips() -> None:
    assert made("model.name=svm", "model.parameters.c=0.5", clips=30).training.weight_decay == 9 / (0.5 * 30)
    assert made("model.name=svm").training.weight_decay == 9 / 7
    assert made("training.weight_decay=0.25", clips=30).training.weight_decay == 0.25


def test_machines_map_clips_once_unless_they_vary() -> None:
    assert made("model.name=svm", "model.parameters.random_features=10").features.shape == (7, 10)
    assert made("model.name=svm", "augment.noise=0.1").features.shape == (7, 5)


def test_trees_are_grown_by_their_own_learner() -> None:
    pytest.importorskip("xgboost", reason="the extra trees is not installed")
    from p2pser.training.boosting import TreeLearner

    config = models.for_run(Config().with_settings(["model.name=xgb"]), 1)
    assert type(made("model.name=xgb", f"model.parameters.held={config.model.parameters['held']}")) is TreeLearner


def test_rare_classes_are_drawn_more_often() -> None:
    work = made("training.balance=sampling")
    np.testing.assert_allclose(work.often, [7 / 12] * 4 + [7 / 6] * 2 + [7 / 3], rtol=1e-6)
