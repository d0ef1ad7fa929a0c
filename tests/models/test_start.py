"""A run starts from the parameters of a model directory, its outputs by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.config import Config
from p2pser.features.normalisation import Statistics
from p2pser.models import directory
from p2pser.models.directory import Card, Origin
from p2pser.models.rows import Schema
from p2pser.models.start import Start

SHAPE, BEFORE, NOW = (554,), ("anger", "fear", "joy"), ("calm", "joy", "anger")


def written(folder: Path, *settings: str, task: str = "classes", seed: int = 0) -> tuple[Config, nn.Module]:
    """Write a model, and return settings that start from it."""
    config = Config().with_settings([*settings, f"training.task={task}", f"seed={seed}"])
    shape = SHAPE if config.features.vector else (12, 40)
    module = models.build(config.model, shape, models.outputs(task, 3), seed)
    schema = Schema.of(module)
    row = torch.from_numpy(np.random.default_rng(3).normal(size=schema.size).astype(np.float32))
    schema.bind(module, row)
    statistics = Statistics(9, np.zeros(shape[0]), np.ones(shape[0]))
    directory.save(folder / "model", row, schema, Card(
        BEFORE, shape, config.model, config.features, "global", statistics, Origin("elsewhere", "1"), {"seed": seed},
        task=task))
    return config.with_settings([f"peer.start={folder / 'model'}"]), module


def started(config: Config, labels: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the parameters with which a run of these emotions starts."""
    shape = SHAPE if config.features.vector else (12, 40)
    drawn = models.build(config.model, shape, models.outputs(config.training.task, len(labels) or 2), config.seed)
    schema, start = Schema.of(drawn), Start.of(config)
    assert start is not None
    return dict(schema.views(start.row(config.model, shape, labels, schema.flatten(drawn))))


@pytest.mark.parametrize("task", ["classes", "both"])
def test_outputs_are_taken_over_by_name_and_new_ones_drawn(tmp_path: Path, task: str) -> None:
    config, old = written(tmp_path, "model.hidden=[5]", task=task)
    before = dict(old.named_parameters())
    drawn = dict(models.build(config.model, SHAPE, models.outputs(task, 3), 0).named_parameters())
    new = started(config, NOW)
    assert new.keys() == before.keys()
    for name, value in new.items():
        if value.shape[0] == 5:
            assert torch.equal(value, before[name]), name
            continue
        assert torch.equal(value[0], drawn[name][0])  # calm
        assert torch.equal(value[1], before[name][2])
        assert torch.equal(value[2], before[name][0])
        assert torch.equal(value[3:], before[name][3:])  # the dimensions
    last = list(new)[-1]
    assert started(config, ("anger", "joy"))[last].shape[0] == new[last].shape[0] - 1


@pytest.mark.parametrize("settings", [("model.name=svm", "model.parameters.random_features=8"),
                                      ("model.name=crnn", "model.hidden=[4,4]", "features.kind=logmel"),
                                      ("model.name=cnn1d", "model.hidden=[4,4]", "features.kind=logmel"),
                                      ("model.name=mlp", "model.hidden=[]")], ids=lambda settings: settings[0])
def test_every_family_but_trees_starts_from_its_own_kind(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config, old = written(tmp_path, *settings)
    same = started(config, BEFORE)
    assert all(torch.equal(same[name], value) for name, value in old.named_parameters())
    unknown, changed = started(config, ()), started(config, ("x", *BEFORE))
    assert {name for name in same if same[name].shape != changed[name].shape} == \
        {name for name in same if same[name].shape != unknown[name].shape} != set()


@pytest.mark.parametrize(("setting", "normalise", "named"), [
    ("model.name=svm", "global", "model.name=mlp, and this run has svm"),
    ("model.hidden=[7]", "global", r"model.hidden=\[6\], and this run has \[7\]"),
    ("training.task=dimensions", "global", "training.task=classes"),
    ("features.kind=egemaps", "global", "features.kind=functionals, and this run has egemaps"),
    ("features.sample_rate=8000", "global", "features.sample_rate=16000"),
    ("model.dropout=0.1", "speaker", "features.normalise=global, and this run has speaker"),
    ("model.name=xgb", "global", "trees"),
], ids=lambda value: value if "=" in str(value) else "")
def test_another_family_or_other_features_are_refused_by_name(tmp_path: Path, setting: str, normalise: str,
                                                             named: str) -> None:
    config, _ = written(tmp_path, "model.hidden=[6]")
    start = Start.of(config)
    assert start is not None
    start.require_fit(config, "global")
    with pytest.raises(ModelError, match=named) as caught:
        start.require_fit(config.with_settings([setting]), normalise)
    assert caught.value.exit_code == 2


def test_numbers_drawn_from_another_seed_are_refused(tmp_path: Path) -> None:
    config, _ = written(tmp_path, "model.name=svm", "model.parameters.random_features=8", seed=3)
    start = Start.of(config)
    assert start is not None
    with pytest.raises(ModelError, match="set --seed 3"):
        start.require_fit(config.with_settings(["seed=4"]), "global")


def test_what_is_told_of_a_start_names_no_path(tmp_path: Path) -> None:
    config, _ = written(tmp_path, "model.hidden=[6]")
    start, again = Start.of(config), Start.of(config)
    assert start is not None
    assert again is not None
    assert start.digest == again.digest
    assert start.facts == {"digest": start.digest, "name": "mlp trained on elsewhere"}
    assert start.in_words(NOW) == (
        f"the run starts from a model (mlp trained on elsewhere, digest {start.digest}, "
        "features.normalise=global) and takes over joy and anger, begins anew with calm, leaves out fear")
    other, _ = written(tmp_path / "other", "model.hidden=[6]", task="both")
    third = Start.of(other)
    assert third is not None
    assert third.digest != start.digest
