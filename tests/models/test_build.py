"""The networks: equal on all peers, of the promised size, and refused where they do not fit."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.config import Config, ModelSettings
from p2pser.models.rows import Schema


@pytest.mark.parametrize(("name", "shape"), [("mlp", (684,)), ("cnn2d", (64, 188))])
def test_about_a_hundred_thousand_parameters_and_logits(name: str, shape: tuple[int, ...]) -> None:
    module = models.build(ModelSettings(name=name), shape, 7, seed=0)
    assert 80_000 <= Schema.of(module).size <= 120_000
    logits = module(torch.zeros(3, *shape))
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "shape"), [("mlp", (30,)), ("cnn2d", (16, 40))])
def test_start_depends_on_the_seed_alone(name: str, shape: tuple[int, ...]) -> None:
    settings = ModelSettings(name=name)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = models.build(settings, shape, 4, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = models.build(settings, shape, 4, seed=3), models.build(settings, shape, 4, seed=4)
    schema = Schema.of(first)
    assert torch.equal(schema.flatten(first), schema.flatten(second))
    assert not torch.equal(schema.flatten(first), schema.flatten(other))


def test_start_is_the_same_on_every_machine_and_version() -> None:
    module = models.build(ModelSettings(hidden=(2,)), (3,), 2, seed=0)
    row = Schema.of(module).flatten(module)
    assert row.tolist() == pytest.approx(GOLDEN_START, abs=1e-7)


GOLDEN_START = [
    0.39685372, -0.28004909, -0.07737996, -0.41960075, -0.19630644, 0.30399451, 0.0, 0.0,
    0.55999225, -0.14342965, 0.51778615, -0.21676591, 0.0, 0.0,
]


def test_scale_of_the_start() -> None:
    module = models.build(ModelSettings(), (400,), 4, seed=0)
    weight = module.hidden[0].weight  # type: ignore[union-attr, index]
    assert weight.abs().max().item() == pytest.approx(1 / 20, rel=1e-3)
    assert weight.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert not module.hidden[0].bias.any()  # type: ignore[union-attr, index]


def test_convolutions_keep_the_variance_through_relu() -> None:
    """Uniform within sqrt(6 / fan_in): of 16 channels and 3 x 3 weights, sqrt(6 / 144)."""
    module = models.build(ModelSettings(name="cnn2d"), (64, 100), 4, seed=0)
    weights = dict(module.named_parameters())["convolutions.1.weight"]
    assert weights.shape == (32, 16, 3, 3)
    assert weights.abs().max().item() == pytest.approx(0.2041241, rel=2e-3)


def test_dropout_only_in_training() -> None:
    module = models.build(ModelSettings(dropout=0.5), (30,), 4, seed=0)
    inputs = torch.ones(2, 30)
    module.eval()
    assert torch.equal(module(inputs), module(inputs))
    module.train()
    assert not torch.equal(module(inputs), module(inputs))


def test_cnn_takes_short_and_narrow_matrices() -> None:
    module = models.build(ModelSettings(name="cnn2d"), (8, 3), 4, seed=0).eval()
    assert torch.isfinite(module(torch.randn(2, 8, 3))).all()


def test_cnn_channels_are_a_setting() -> None:
    small = models.build(ModelSettings(name="cnn2d", hidden=(4, 8)), (16, 20), 4, seed=0)
    assert [weight.shape[0] for name, weight in small.named_parameters() if "convolutions" in name] == [4, 8]


def test_one_clip_does_not_depend_on_its_batch() -> None:
    module = models.build(ModelSettings(name="cnn2d"), (16, 20), 4, seed=0).eval()
    clips = torch.randn(5, 16, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(clips)[:1], module(clips[:1]))


@pytest.mark.parametrize(("name", "shape", "classes", "says"), [
    ("mlp", (64, 188), 4, "set features.kind=functionals"),
    ("cnn2d", (684,), 4, "set features.kind=logmel"),
    ("mlp", (30,), 1, "at least 2 emotions"),
])
def test_refused_with_what_to_do(name: str, shape: tuple[int, ...], classes: int, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        models.build(ModelSettings(name=name), shape, classes, seed=0)


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.name = 'mpl': there is no model family 'mpl'; did you mean 'mlp'"):
        Config().with_settings(["model.name=mpl"])


def test_cnn_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="at least one block"):
        models.build(ModelSettings(name="cnn2d", hidden=()), (16, 20), 4, seed=0)


def test_mlp_without_hidden_layer_is_linear() -> None:
    module = models.build(ModelSettings(hidden=()), (5,), 3, seed=0)
    a, b = torch.randn(1, 5), torch.randn(1, 5)
    torch.testing.assert_close(module(a + b) + module(torch.zeros(1, 5)), module(a) + module(b))


@pytest.mark.parametrize(("kind", "parts"), [
    ("functionals+covariance", "691*1,1332*0.5"), ("covariance+functionals", "1332*0.5,691*1"), ("covariance", ""),
    ("functionals+dynamics", ""),
])
def test_a_covariance_beside_others_is_scaled_down(kind: str, parts: str) -> None:
    config = models.for_run(Config().with_settings([f"features.kind={kind}"]), 3)
    assert config.model.parameters["parts"] == parts


def test_the_parts_of_an_mlps_features_have_factors() -> None:
    plain, scaled = (models.build(ModelSettings.model_validate({"name": "mlp", "parameters": parameters}), (5,), 3, 0)
                     for parameters in ({}, {"parts": "2*0.3,3*1"}))
    features = torch.arange(10.0).reshape(2, 5)
    torch.testing.assert_close(scaled.eval()(features),
                               plain.eval()(features * torch.tensor([0.3, 0.3, 1.0, 1.0, 1.0])))
    assert Schema.of(scaled).entries == Schema.of(plain).entries
    with pytest.raises(ModelError, match="are not the 6 features of a clip"):
        models.build(ModelSettings.model_validate({"name": "mlp", "parameters": {"parts": "2*0.3,3*1"}}), (6,), 3, 0)
    for wrong in ("2", "2*", "0*1", "2*0.3,", "2*nan", "2*-1", "2*0.3;3*1"):
        with pytest.raises(ValidationError, match=r"must be COUNT\*FACTOR,\.\.\."):
            ModelSettings.model_validate({"name": "mlp", "parameters": {"parts": wrong}})


def test_names() -> None:
    assert {"mlp", "cnn2d", "gru", "lstm"} <= set(FAMILIES)
