"""``p2pser models``: what there is, its size, and what it is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.cli.models import models


def told(*arguments: str) -> Any:
    result = CliRunner().invoke(models, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_all_families_are_listed_with_their_size() -> None:
    listed = told()
    assert [one["name"] for one in listed] == list(FAMILIES)
    assert all(one["about"] for one in listed)
    # Trees grow with the rounds, and adapters are as wide as their encoder; all others have a size.
    assert {one["name"] for one in listed if not one["parameters"]} == {"adapter", "xgb"}
    text = CliRunner().invoke(models, []).stdout
    assert all(name in text for name in FAMILIES)


def test_parameters_and_multiply_adds_by_hand() -> None:
    mlp = told("mlp", "--classes", "4", "--set", "model.hidden=[10]")
    inputs = mlp["shape"][0]
    assert mlp["parameters"] == (inputs + 1) * 10 + 11 * 4 == sum(one["parameters"] for one in mlp["layers"])
    assert mlp["operations"] == inputs * 10 + 10 * 4
    assert mlp["message_bytes"] == 4 * mlp["parameters"]
    cnn = told("cnn1d-shallow", "--features", "chroma", "--set", "model.hidden=[8]", "--set", "model.kernel_size=3",
               "--set", "features.seconds=1.5")
    assert cnn["shape"] == [12, 150]
    assert cnn["operations"] == 50 * 8 * 12 * 3 + 2 * 8 * 7


@pytest.mark.parametrize(("name", "gates"), [("gru", 3), ("lstm", 4)])
def test_multiply_adds_of_recurrent_layers_by_hand(name: str, gates: int) -> None:
    found = told(name, "--features", "chroma", "--set", "model.hidden=[8]", "--set", "features.seconds=1.5")
    steps, units, both = 25, 8, 2
    recurrent = steps * both * gates * units * (12 + units)
    attention = steps * both * units
    assert recurrent + attention + 3 * both * units * 7 == found["operations"]


def test_one_is_explained() -> None:
    text = CliRunner().invoke(models, ["gru", "--set", "model.hidden=[9]"]).stdout
    assert "layers.0.weight_hh_l0" in text
    assert "27 x 9" in text
    assert "model.hidden = [9]: " in text
    assert "model.bidirectional = true: " in text
    assert 'features.kind="contours"' in text
    assert 'training.optimizer="adamw", training.lr=0.008, training.batch_size=4, training.local_steps=20' in text
    assert "kernel_size" not in text


def test_what_does_not_fit_the_features_is_said() -> None:
    listed = {one["name"]: one["parameters"] for one in told("--features", "logmel")}
    assert listed["mlp"] is None
    assert listed["cnn2d"] > 0
    assert "not logmel" in CliRunner().invoke(models, ["--features", "logmel"]).stdout
    with pytest.raises(ModelError, match=r"set features\.kind=functionals"):
        told("mlp", "--features", "logmel")


def test_the_unknown_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'lstm'"):
        told("lsmt")
    with pytest.raises(ConfigError, match="kind"):
        told("--features", "spectrum")
