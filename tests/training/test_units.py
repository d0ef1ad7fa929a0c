"""The update of a unit depends on the clips of that unit alone."""

from __future__ import annotations

import numpy as np
import torch

from p2pser.config import Config, TrainingSettings
from p2pser.features.federation import Examples
from p2pser.models.rows import Schema
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner
from p2pser.training.local_work import units

SETTINGS = TrainingSettings(batch_size=3, local_steps=4)


def learner(clips: int, groups: np.ndarray, copies: bool = False) -> tuple[Learner, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    module = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Dropout(0.3), torch.nn.Linear(6, 3))
    schema, row = Schema.of(module), torch.randn(Schema.of(module).size, generator=generator)
    features, labels = torch.randn(clips, 5, generator=generator), torch.arange(clips) % 3
    varied = torch.randn(2, clips, 5, generator=generator) if copies else None
    return Learner(module, schema, SETTINGS, features, labels, seed=3, peer=1, groups=groups, copies=varied), row


def test_units_are_clips_speakers_or_the_site() -> None:
    examples = Examples(np.zeros((4, 2), np.float32), np.zeros(4, np.int64), ("b", "a", "b", "c"), ("",) * 4)
    assert units(examples, "clip").tolist() == [0, 1, 2, 3]
    assert units(examples, "speaker").tolist() == [1, 0, 1, 2]
    assert units(examples, "site").tolist() == [0, 0, 0, 0]
    assert Config().privacy.unit == "speaker"


def test_the_update_of_a_unit_is_that_of_a_learner_of_its_clips() -> None:
    groups = np.array([0, 1, 0, 1, 1, 0, 2, 1])
    for copies in (False, True):
        whole, row = learner(8, groups, copies)
        assert whole.units == 3
        own = groups == 1
        alone = Learner(whole.module, whole.schema, SETTINGS, whole.features[own], whole.targets.of_classes()[own],
                        seed=3, peer=1, copies=whole._versions.view(3, 8, 5)[1:, own] if copies else None)
        trained = row.clone()
        loss = alone.train_(trained, alone.memory(), 2)
        added, same = whole.update(row, 2, 1)
        assert torch.equal(added, trained - row)
        assert same == loss


def test_other_units_clips_change_nothing() -> None:
    groups = np.array([0, 1, 0, 1])
    whole, row = learner(4, groups)
    before, _ = whole.update(row, 0, 0)
    whole._versions = whole._versions.clone()
    whole._versions[groups == 1] = 7.0
    assert torch.equal(whole.update(row, 0, 0)[0], before)
    assert not torch.equal(whole.update(row, 0, 1)[0], before)


def test_the_loss_of_a_peer_is_the_mean_over_its_units() -> None:
    whole, row = learner(4, np.array([0, 1, 0, 1]))
    work = LocalWork([whole])
    steps: list[tuple[int, int]] = []
    work.report = lambda peer, k: steps.append((peer, k))
    for unit in range(work.units[0]):
        work.update(0, row, 1, unit)
    assert work.losses == [(whole.update(row, 1, 0)[1] + whole.update(row, 1, 1)[1]) / 2]
    assert steps == [(1, 1), (1, 2), (1, 3), (1, 4)] * 2
