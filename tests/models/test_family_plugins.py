"""Model families from outside p2pser: their settings, their defaults, their learner, runs and stored models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.cli.models import models as command
from p2pser.config import Config, ModelSettings
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.family import Family
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.simulation.engine import simulate
from p2pser.training.learner import Learner


class Projection(nn.Module):
    """A product of two matrices."""

    def __init__(self, inputs: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(inputs, rank), nn.Linear(rank, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.into(features))  # type: ignore[no-any-return]


class Counting(Learner):
    """Counts its outputs."""

    batches = 0

    def outputs(self, batch: Tensor) -> Tensor:
        Counting.batches += 1
        return super().outputs(batch)


@dataclass(frozen=True, kw_only=True)
class LowRank(Family):
    """Softmax regression of low rank: a plug-in."""

    takes = "vector"
    uses = ("dropout",)
    defaults: ClassVar[Mapping[str, Any]] = {"training.lr": 0.025, "model.hidden": (7,), "gossip.algorithm": "d-psgd"}
    learner = f"{__name__}:Counting"

    rank: int = 4
    """dimensions of the projection"""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"model.parameters.rank = {self.rank} must be 1 or more")

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        return Projection(shape[0], self.rank, outputs)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    FAMILIES.register("low-rank")(LowRank)
    yield
    del FAMILIES._registered["low-rank"], FAMILIES._sources["low-rank"]


def test_its_defaults_and_parameters_are_settings() -> None:
    config = Config().with_settings(["model.name=low-rank"])
    assert config.model.parameters == {"rank": 4}
    assert (config.training.lr, config.model.hidden, config.gossip.algorithm) == (0.025, (7,), "d-psgd")
    assert config.with_settings(["training.lr=0.5"]).training.lr == 0.5
    assert config.with_settings(["model.name=mlp"]).training.lr == 0.05  # what was not set follows the next family
    partly = Config().with_settings(["model.name=low-rank", "training.rounds=3"])
    assert partly.training.lr == 0.025
    assert partly.with_settings(["model.name=mlp"]).training.lr == 0.05
    chosen = config.with_settings(["model.parameters.rank=2"])
    assert chosen.shared()["model.parameters"] == {"rank": 2}
    assert chosen.shared() != config.shared()


@pytest.mark.parametrize(("setting", "says"), [
    ("model.parameters.rnak=2", "low-rank has no parameter 'rnak'; did you mean 'rank'?"),
    ("model.parameters.rank=two", r"model.parameters.rank = 'two' must be a whole number"),
    ("model.parameters.rank=0", "must be 1 or more"),
])
def test_wrong_parameters_are_refused(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config().with_settings(["model.name=low-rank", setting])


@pytest.mark.parametrize(("name", "value", "says"), [
    ("svm", "kernel=cubic", "must be linear or rbf"), ("svm", "c=0", "must be above 0"),
    ("svm", "gamma=-1", "must be above 0"), ("svm", "random_features=7", "must be even"),
    ("xgb", "depth=9", "must be 1 to 8"), ("xgb", "eta=0", "must be above 0"), ("xgb", "gain=0.5", "must be 1 or more"),
    ("xgb", "reg_lambda=-1", "must be 0 or more"), ("xgb", "subsample=0", "must be above 0, and at most 1"),
    ("xgb", "columns=1.5", "must be above 0, and at most 1"), ("xgb", "held=-1", "must be 0 or more"),
])
def test_wrong_parameters_of_the_built_in_are_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config().with_settings([f"model.name={name}", f"model.parameters.{value}"])


@pytest.mark.parametrize(("old", "new"), [
    ("kernel", "kernel"), ("svm_c", "c"), ("gamma", "gamma"), ("random_features", "random_features"),
    ("trees_depth", "depth"), ("trees_eta", "eta"), ("trees_gain", "gain"), ("trees_lambda", "reg_lambda"),
    ("trees_subsample", "subsample"), ("trees_columns", "columns"), ("trees_held", "held"),
])
def test_old_names_are_refused_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    from p2pser.config import load

    with pytest.raises(ConfigError, match=rf"model\.{old} is now model\.parameters\.{new}, a hyper-parameter of "):
        Config().with_settings([f"model.{old}=1"])
    (tmp_path / "run.yaml").write_text(f"model: {{name: svm, {old}: 1}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"run\.yaml: .*model\.{old} is now model\.parameters\.{new}, a "):
        load(tmp_path / "run.yaml")


def federation(peers: int) -> Federation:
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(3, 6))

    def examples(speaker: str, clips: int) -> Examples:
        labels = draw.integers(0, 3, clips)
        features = (centres[labels] + draw.normal(size=(clips, 6)) * 0.7).astype(np.float32)
        return Examples(features, labels, (speaker,) * clips, tuple(map(str, range(clips))))

    corpus = Corpus("made-up", "1", (), (), default_split="none")
    return Federation(("joy", "anger", "fear"), {i: examples(f"s{i}", 20 + i) for i in range(peers)},
                      examples("t", 90), Split("made-up", (), (), ("t",), True), corpus, "none", [], 0, ((),) * peers)


def test_it_trains_in_a_simulated_run_and_is_stored(tmp_path: Path) -> None:
    config = Config().with_settings(["model.name=low-rank", "model.parameters.rank=2", "training.rounds=10",
                                     "training.local_steps=3", "gossip.algorithm=dfedavg"])
    Counting.batches = 0
    run = simulate(config, Topology("ring", nx.cycle_graph(4), {}, "metropolis", {}), federation(4))
    assert Counting.batches == 4 * 10 * 3
    assert run.schema.entries[0] == ("into.weight", (2, 6))
    assert run.history[-1].uar["consensus"] > 0.5  # chance: 1 / 3
    card = Card(labels=("joy", "anger", "fear"), shape=(6,), model=run.config.model, features=config.features,
                normalise="none", statistics=None, corpus=Origin("made-up", "1"))
    directory.save(tmp_path / "m", run.row, run.schema, card)
    module, found = directory.load(tmp_path / "m")
    assert found.model.parameters == {"rank": 2}
    assert torch.equal(Schema.of(module).flatten(module), run.row)


def test_it_is_refused_where_it_does_not_fit() -> None:
    settings = ModelSettings(name="low-rank")
    with pytest.raises(ModelError, match="'low-rank' takes functionals"):
        models.build(settings, (6, 30), 3, 0)
    with pytest.raises(ModelError, match="one width"):
        models.build(ModelSettings(name="low-rank", width=(0.5,)), (6,), 3, 0)


def test_it_is_listed_with_where_it_comes_from() -> None:
    listed = {family["name"]: family for family in
              json.loads(CliRunner().invoke(command, ["--json"], catch_exceptions=False).stdout)}
    assert listed["low-rank"]["from"] == __name__
    assert listed["mlp"]["from"].startswith("p2pser ")
    assert listed["low-rank"]["about"] == "Softmax regression of low rank"
    text = CliRunner().invoke(command, ["low-rank"], catch_exceptions=False).stdout
    assert "model.parameters.rank = 4: dimensions of the projection" in text
    assert "model.dropout = 0.3: " in text
    assert "gossip.algorithm=" in text
