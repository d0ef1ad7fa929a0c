"""What algorithms beyond averaging ask of the local work: plain gradients, corrections, the proximal term."""

from __future__ import annotations

import pytest
import torch

from p2pser import models
from p2pser.config import ModelSettings, TrainingSettings
from p2pser.gossip.algorithm import State
from p2pser.models.rows import Schema
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner


def _work(**training: object) -> tuple[LocalWork, torch.Tensor]:
    settings = TrainingSettings(local_steps=3, batch_size=4, **training)  # type: ignore[arg-type]
    module = models.build(ModelSettings(hidden=(5,)), (6,), 3, 0)
    schema = Schema.of(module)
    drawn = torch.Generator().manual_seed(1)
    learners = [Learner(module, schema, settings, torch.randn(9, 6, generator=drawn), torch.arange(9) % 3,
                        seed=0, peer=peer) for peer in range(2)]
    return LocalWork(learners), schema.flatten(module).repeat(2, 1)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_one_plain_step_is_one_gradient_away(weight_decay: float) -> None:
    work, x = _work(momentum=0.0, weight_decay=weight_decay, schedule="constant")
    single = work.learners[0].training.model_copy(update={"local_steps": 1})
    one = LocalWork([Learner(learner.module, learner.schema, single, learner.features, learner.targets, seed=0,
                             peer=learner.peer) for learner in work.learners])
    stepped = one.train(State({"x": x}), round=0)
    torch.testing.assert_close(stepped, x - one.lr(0) * one.gradient(x, round=0), rtol=1e-6, atol=1e-8)
    assert (stepped - x).norm() > 1e-3


def test_gradients_depend_on_the_step_and_remember_nothing() -> None:
    work, x = _work()
    first, second = work.gradient(x, round=2, step=0), work.gradient(x, round=2, step=1)
    assert not torch.equal(first, second)
    assert torch.equal(first, work.gradient(x, round=2, step=0))
    assert len(work.losses) == 2


def test_a_correction_moves_every_local_step() -> None:
    work, x = _work(momentum=0.0, weight_decay=0.0, lr=1e-4, clip_norm=0.0)
    correction = torch.ones_like(x)
    plain, corrected = work.train(State({"x": x}), 0), work.train(State({"x": x}), 0, correction=correction)
    # At so small a rate the gradients do not change: three steps, each moved by lr times the correction.
    assert torch.allclose(plain - corrected, 3 * work.lr(0) * correction, rtol=1e-2, atol=1e-6)


def test_a_strong_proximal_term_keeps_the_row_near_its_start() -> None:
    free, x = _work(momentum=0.0, lr=0.1)
    held, _ = _work(momentum=0.0, lr=0.1, proximal=9.0)
    assert (held.train(State({"x": x}), 0) - x).norm() < (free.train(State({"x": x}), 0) - x).norm()


def test_training_starts_from_the_rows_that_are_given() -> None:
    work, x = _work(momentum=0.0)
    assert torch.equal(work.train(State({"x": x}), 0, rows=x + 1), work.train(State({"x": x + 1}), 0))
