"""Batches varied as they are drawn: masks, noise and mixup, as functions of (seed, peer, round, step)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from p2pser.base.errors import ConfigError
from p2pser.config import AugmentSettings, Config, TrainingSettings
from p2pser.models.rows import Schema
from p2pser.training.augmentation import Augmentation, variants
from p2pser.training.learner import Learner
from p2pser.training.losses import Targets

AT = {"seed": 3, "peer": 1, "round": 2}


def augmentation(**settings: float) -> Augmentation:
    return Augmentation(AugmentSettings(**settings), classes=4, time_width=30)


def test_nothing_to_do_is_none() -> None:
    assert Augmentation.of(Config(), (10,), 4) is None


def test_masks_need_matrices() -> None:
    config = Config().with_settings(["augment.time_masks=1"])
    with pytest.raises(ConfigError, match=r"gives features of shape \(691,\)"):
        Augmentation.of(config, (691,), 4)
    found = Augmentation.of(config.with_settings(["features.kind=logmel", "features.hop=0.02"]), (64, 150), 4)
    assert found is not None
    assert found.time_width == 15


def test_masks_are_whole_bands_and_stretches_within_their_widths() -> None:
    features = torch.ones(200, 40, 100)
    targets = Targets(torch.zeros(200, dtype=torch.int64))
    masked, same = augmentation(band_masks=1, band_width=8)(features, targets, step=0, **AT)
    assert same is targets
    lost = (masked == 0).all(dim=2)
    assert torch.equal(lost, (masked == 0).any(dim=2))
    widths = lost.sum(dim=1)
    assert widths.min() == 0
    assert widths.max() == 8
    runs = (lost[:, 1:] != lost[:, :-1]).sum(dim=1)
    assert runs.max() <= 2
    assert lost.any(dim=0).all()
    both, _ = augmentation(time_masks=2, band_masks=1)(features, targets, step=0, **AT)
    gaps = (both == 0).all(dim=1).sum(dim=1)
    assert 30 < gaps.max() <= 60
    assert float(features.min()) == 1


def test_mixup_mixes_features_and_targets_by_the_same_share() -> None:
    features = torch.eye(4)[torch.arange(64) % 4]
    labels = torch.arange(64) % 4
    mixed, targets = augmentation(mixup=0.4)(features, Targets(labels), step=1, **AT)
    assert targets.classes is not None
    torch.testing.assert_close(mixed, targets.classes)
    torch.testing.assert_close(targets.classes.sum(1), torch.ones(64))
    assert float((targets.classes.max(1).values < 0.9).float().mean()) > 0.05


def test_noise_has_the_size_that_is_asked_for() -> None:
    noisy, _ = augmentation(noise=0.25)(torch.zeros(50, 400), Targets(torch.zeros(50, dtype=torch.int64)), step=0, **AT)
    assert float(noisy.std()) == pytest.approx(0.25, rel=0.03)


def test_draws_depend_on_seed_peer_round_and_step_alone() -> None:
    features, targets = torch.zeros(8, 20), Targets(torch.zeros(8, dtype=torch.int64))

    def drawn(**change: int) -> torch.Tensor:
        return augmentation(noise=1.0)(features, targets, **{**AT, "step": 0, **change})[0]

    assert torch.equal(drawn(), drawn())
    for change in ({"seed": 4}, {"peer": 2}, {"round": 3}, {"step": 1}):
        assert not torch.equal(drawn(), drawn(**change))


def test_copies_are_drawn_as_often_as_the_recording() -> None:
    drawn = variants(3, 200, 20, **AT)
    assert np.bincount(drawn.ravel()) == pytest.approx([1000] * 4, rel=0.15)
    np.testing.assert_array_equal(drawn, variants(3, 200, 20, **AT))


class Seen(nn.Module):
    """A linear model that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.batches: list[torch.Tensor] = []

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.batches.append(features.detach().clone())
        return self.head(features)


def test_a_learner_takes_copies_of_the_clips_that_it_draws() -> None:
    module = Seen()
    schema = Schema.of(module)
    clips = torch.stack([torch.arange(10.0), torch.zeros(10)], dim=1)
    copies = torch.stack([clips + torch.tensor([0.0, k]) for k in (1.0, 2.0)])
    training = TrainingSettings(local_steps=6, batch_size=5)
    labels = torch.zeros(10, dtype=torch.int64)
    learner = Learner(module, schema, training, clips, labels, seed=0, peer=0, copies=copies)
    plain = Learner(Seen(), schema, training, clips, labels, seed=0, peer=0)
    row = schema.flatten(module)
    learner.train_(row.clone(), learner.memory(), 0)
    plain.train_(row.clone(), plain.memory(), 0)
    seen, bare = torch.cat(module.batches), torch.cat(plain.module.batches)  # type: ignore[arg-type]
    assert torch.equal(seen[:, 0], bare[:, 0])  # the same clips in the same order
    assert set(seen[:, 1].tolist()) == {0.0, 1.0, 2.0}
    module.batches.clear()
    learner.gradient(row, 0, step=4)
    assert torch.equal(module.batches[0], seen[20:25])


def test_one_step_alone_is_augmented_as_within_its_round() -> None:
    module = Seen()
    schema = Schema.of(module)
    features = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    learner = Learner(module, schema, TrainingSettings(local_steps=3, batch_size=4), features,
                      torch.arange(20) % 3, seed=0, peer=0,
                      augmentation=Augmentation(AugmentSettings(mixup=0.3, noise=0.1), 3))
    row = schema.flatten(module)
    learner.train_(row.clone(), learner.memory(), 1)
    whole = list(module.batches)
    module.batches.clear()
    learner.gradient(row, 1, step=2)
    assert torch.equal(module.batches[0], whole[2])
