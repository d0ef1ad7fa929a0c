"""A peer's own model: steps from the common one on its own clips, and narrow learners inside whole rows."""

from __future__ import annotations

import pytest
import torch

from p2pser.config import ModelSettings, TrainingSettings
from p2pser.models.nested import nest
from p2pser.training.fine_tuning import fine_tuned
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner
from p2pser.training.subnetwork import SubnetworkLearner


class Rows:
    def __init__(self, x):
        self.rows = {"x": x}


def learners(width, **training):
    draw = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 12, generator=draw), torch.randint(0, 3, (30,), generator=draw)
    networks = nest(ModelSettings(hidden=(8,)), (12,), 3, 1, [width])
    settings = TrainingSettings(**{"rounds": 4, "local_steps": 3, **training})
    own = Learner(networks[width].module, networks[width].schema, settings, features, labels, seed=0, peer=2)
    return networks, own, SubnetworkLearner(own, networks[width], networks[1.0].schema)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_inside_a_whole_row_a_narrow_learner_takes_the_steps_of_its_own_row(optimizer):
    networks, narrow, inside = learners(0.5, optimizer=optimizer)
    held, whole = networks[0.5].held, networks[1.0].start
    own, spread = Rows(whole[held][None]), Rows(whole[None].clone())
    work, within = LocalWork([narrow]), LocalWork([inside])
    for round in range(3):
        own.rows["x"], spread.rows["x"] = work.train(own, round), within.train(spread, round)
    assert torch.equal(spread.rows["x"][0][held], own.rows["x"][0])
    assert torch.equal(spread.rows["x"][0][~held], whole[~held])
    for name, memory in own.rows.items():
        assert torch.equal(spread.rows[name][0][held] if memory.shape[1] > 1 else spread.rows[name][0], memory[0])
    gradient, expected = within.gradient(spread.rows["x"], 3), work.gradient(own.rows["x"], 3)
    assert torch.equal(gradient[0][held], expected[0])
    assert not gradient[0][~held].any()
    assert within.losses == work.losses


@pytest.mark.parametrize("inside", [False, True])
def test_fine_tuning_lowers_the_loss_on_the_peers_own_clips_and_leaves_the_common_row(inside):
    networks, narrow, within = learners(0.5, fine_tune=40, fine_tune_lr=0.05)
    learner, row = (within, networks[1.0].start) if inside else (narrow, networks[0.5].start)
    before = row.clone()
    tuned = fine_tuned(learner, row)
    assert torch.equal(row, before)
    assert learner.gradient(tuned, 0)[1] < learner.gradient(row, 0)[1] - 0.1
    assert torch.equal(tuned, fine_tuned(learner, row))
    assert learner.training.local_steps == 3
    if inside:
        assert torch.equal(tuned[~networks[0.5].held], row[~networks[0.5].held])


def test_without_steps_the_personal_model_is_the_common_one():
    networks, narrow, _ = learners(0.5)
    assert torch.equal(fine_tuned(narrow, networks[0.5].start), networks[0.5].start)


def test_steps_of_fine_tuning_are_of_its_own_constant_learning_rate():
    def moved(rate, **training):
        networks, narrow, _ = learners(0.5, fine_tune=1, fine_tune_lr=rate, **training)
        return fine_tuned(narrow, networks[0.5].start) - networks[0.5].start

    step = moved(0.01)
    torch.testing.assert_close(moved(0.02), 2 * step, atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(moved(0.01, lr=0.9, proximal=0.3), step)
    assert step.abs().max() > 1e-4
