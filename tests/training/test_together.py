"""Local steps of several peers at once are those that each would take alone, up to rounding."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from p2pser import models
from p2pser.base.errors import P2PSERError
from p2pser.config import Config, ModelSettings, TrainingSettings
from p2pser.models.rows import Schema
from p2pser.training import at_once
from p2pser.training.at_once import Choice, groups
from p2pser.training.augmentation import Augmentation
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner
from p2pser.training.losses import Moments, Objective, Targets

SHAPES = {"mlp": (10,), "cnn2d": (12, 20), "cnn1d": (12, 20), "crnn": (12, 20), "gru": (12, 20)}


def work(family: str = "mlp", clips: tuple[int, ...] = (9, 30, 9, 12, 0, 8), choice: Choice | None = None,
         augmentation: Augmentation | None = None, objective: Objective | None = None, ratings: bool = False,
         **training: object) -> tuple[LocalWork, SimpleNamespace]:
    """Peers of different numbers of clips, of which one has none; and the state that they start from."""
    shape, settings = SHAPES[family], TrainingSettings.model_validate({"batch_size": 8, "local_steps": 3, **training})
    module = models.build(ModelSettings(name=family, hidden=(8, 6)), shape, 6 if ratings else 3, seed=0)
    learners = []
    for peer, count in enumerate(clips):
        draws = np.random.default_rng(peer)
        features = torch.tensor(draws.standard_normal((count, *shape)), dtype=torch.float32)
        targets = Targets(torch.tensor(draws.integers(-1, 3, count)),
                          torch.tensor(draws.random((count, 3)), dtype=torch.float32) if ratings else None)
        learners.append(Learner(module, Schema.of(module), settings, features, targets, objective, seed=5, peer=peer,
                                idle=not count, augmentation=augmentation,
                                copies=features[None] * 1.1 if peer == 1 else None))
    made = LocalWork(learners)
    made.choice = choice
    start = Schema.of(module).flatten(models.build(ModelSettings(name=family, hidden=(8, 6)), shape,
                                                   6 if ratings else 3, seed=0))
    state = SimpleNamespace(rows={"x": start + 0.01 * torch.arange(len(clips))[:, None]})
    return made, state


def require_same(rounds: int = 3, correction: bool = False, only: set[int] | None = None, **how: object) -> None:
    """Train one after another and at once, and compare rows, the optimiser's rows and losses."""
    ends = []
    for choice in (None, Choice(4, rounds)):
        local, state = work(choice=choice, **how)  # type: ignore[arg-type]
        losses = []
        for round in range(rounds):
            extra = 0.01 * torch.sin(torch.arange(state.rows["x"].numel()).view_as(state.rows["x"]))
            state.rows["x"] = local.train(state, round, correction=extra if correction else None, only=only)
            losses.append(local.losses)
        ends.append((state.rows, losses))
    if choice is not None:
        assert choice.number == 4
    (alone, lost), (together, gained) = ends
    assert alone.keys() == together.keys()
    for name, rows in alone.items():
        torch.testing.assert_close(together[name], rows, rtol=1e-4, atol=1e-5, msg=name)
    np.testing.assert_allclose(gained, lost, rtol=1e-4)
    assert [math.isnan(each) for each in gained[0]] == [
        peer == 4 or (only is not None and peer not in only) for peer in range(6)]


@pytest.mark.parametrize("training", [
    {}, {"optimizer": "adamw", "lr": 0.01}, {"momentum": 0}, {"clip_norm": 0.05}, {"proximal": 0.5},
    {"label_smoothing": 0, "weight_decay": 0}, {"loss": "squared-hinge"}], ids=str)
def test_steps_of_an_mlp(training: dict[str, object]) -> None:
    require_same(**training)  # type: ignore[arg-type]


def test_steps_with_a_correction_of_some_peers() -> None:
    require_same(correction=True, only={0, 2, 3, 5})


@pytest.mark.parametrize("family", ["cnn2d", "cnn1d"])
def test_steps_of_networks_over_time(family: str) -> None:
    require_same(family=family)


def test_steps_of_both_tasks_with_weights() -> None:
    settings = TrainingSettings(task="both", batch_size=8, local_steps=3)
    objective = Objective(settings, weights=torch.tensor([0.5, 1.0, 2.0]),
                          moments=Moments(torch.full((3,), 0.5), torch.full((3,), 0.1)))
    require_same(objective=objective, ratings=True, task="both")


def test_steps_with_augmentation() -> None:
    config = Config().with_settings(["augment.mixup=0.4", "augment.noise=0.2"])
    require_same(augmentation=Augmentation.of(config, (10,), 3))


def test_gradients_of_one_local_step() -> None:
    found = []
    for choice in (None, Choice(4, 3)):
        local, state = work(choice=choice)
        found.append((local.gradient(state.rows["x"], 2, 1), local.losses))
    (alone, lost), (together, gained) = found
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gained, lost, rtol=1e-4)
    assert not alone[4].any()


def test_peers_of_other_batches_or_without_clips_are_apart() -> None:
    local, _ = work(clips=(9, 30, 5, 9, 0, 5, 40), augmentation=None)
    alike = sorted(groups(local.learners, [0, 1, 2, 3, 5, 6], 3))
    assert alike == [[0, 1], [2, 5], [3, 6]]
    assert sorted(groups(local.learners, [0, 2, 5], 1)) == [[0], [2], [5]]


def test_a_network_that_cannot_is_trained_one_after_another() -> None:
    choice = Choice(4, 3)
    local, state = work("gru", choice=choice)
    plain, other = work("gru")
    assert torch.equal(local.train(state, 0), plain.train(other, 0))
    assert choice.number == 1


def test_a_network_that_does_otherwise_is_trained_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    train = at_once.Together.train_
    monkeypatch.setattr(at_once.Together, "train_", lambda self, rows, memory, round: train(
        self, rows.mul_(1.01), memory, round))
    choice = Choice(4, 3)
    local, state = work(choice=choice)
    local.train(state, 0)
    assert choice.number == 1


def test_a_loss_that_is_not_finite_names_peer_and_step() -> None:
    local, state = work(choice=Choice(4, 3))
    local.train(state, 0)
    state.rows["x"][3] = math.inf
    with pytest.raises(P2PSERError, match=r"the loss of peer 3 is nan in round 1 \(local step 0\)"):
        local.train(state, 1)


def test_a_short_run_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once._Trial, "fastest", lambda *_: pytest.fail("measured"))
    choice = Choice(0, 2)
    local, state = work(choice=choice)
    local.train(state, 0)
    assert choice.number == 1


def test_a_measurement_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(at_once._Trial, "fastest", lambda self, numbers: calls.append(numbers) or 3)
    for _ in range(2):
        choice = Choice(0, 10**6)
        local, state = work(choice=choice)
        before = state.rows["x"].clone()
        local.train(state, 0)
        assert choice.number == 3
        assert torch.equal(state.rows["x"], before)
    assert calls == [(5,)]


def test_the_faster_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path))
    for cost, expected in (({1: 3.0, 5: 2.0}, 5), ({1: 2.1, 5: 2.0}, 1)):
        now = [0.0]
        monkeypatch.setattr(at_once.time, "perf_counter", lambda now=now: now[0])
        monkeypatch.setattr(at_once._Trial, "trained", lambda self, count, at_once, now=now, cost=cost:
                            now.__setitem__(0, now[0] + cost[at_once] * count))
        monkeypatch.setattr(at_once._Trial, "same", lambda *_: True)
        local, state = work()
        local.prepare(state)
        assert at_once._Trial(local.learners, state.rows["x"], 0).fastest((5,)) == expected
