"""What every family of networks promises, and what is its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.config import Config, FeatureSettings, ModelSettings, TrainingSettings
from p2pser.features import clip_features
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.networks.recurrent import Attention, padding, pooled, steps
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner

BANDS, FRAMES, CLASSES = 6, 20, 3
SIZES = {"mlp": (8,), "cnn1d-shallow": (8,), "cnn1d": (8, 12), "cnn2d": (4, 8), "crnn": (4, 8, 5), "gru": (5,),
         "lstm": (5, 4)}
"""Tiny networks of each family."""
RECURRENT = ("crnn", "gru", "lstm")
OVER_TIME = ("cnn1d-shallow", "cnn1d", *RECURRENT)


def shape(name: str) -> tuple[int, ...]:
    return (BANDS,) if name == "mlp" else (BANDS, FRAMES)


def tiny(name: str, **settings: object) -> ModelSettings:
    # Every layer of a cnn2d halves both sides.
    stride = {"stride": 1} if name == "cnn2d" else {}
    return ModelSettings.model_validate({"name": name, "hidden": SIZES[name], **stride, **settings})


def build(name: str, seed: int = 0, **settings: object) -> torch.nn.Module:
    return models.build(tiny(name, **settings), shape(name), CLASSES, seed)


def clips(name: str, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape(name), generator=torch.Generator().manual_seed(seed))


def test_every_network_is_here() -> None:
    assert set(SIZES) == set(FAMILIES) - {"adapter", "svm", "xgb"}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_settings_that_count_are_settings(name: str) -> None:
    assert set(FAMILIES[name].uses) <= set(ModelSettings.model_fields) - {"name", "parameters"}
    assert FAMILIES[name].uses or ModelSettings(name=name).parameters


@pytest.mark.parametrize("name", SIZES)
def test_answers_are_finite_and_each_clip_has_its_own(name: str) -> None:
    module = build(name).eval()
    inputs = clips(name, 5)
    answers = module(inputs)
    assert answers.shape == (5, CLASSES)
    assert torch.isfinite(answers).all()
    torch.testing.assert_close(module(inputs[2:3]), answers[2:3])
    assert not torch.allclose(answers[0], answers[1])


@pytest.mark.parametrize("name", SIZES)
def test_every_parameter_learns(name: str) -> None:
    module = build(name, dropout=0.0).train()
    # A bias of GRU's update gate multiplies a state that is zero at first: more than one step must be read.
    torch.nn.functional.cross_entropy(module(clips(name, 16)), torch.arange(16) % CLASSES).backward()
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.flatten(1).abs().amax(-1).gt(0).float().mean() > 0.5 if parameter.dim() > 1 else \
            parameter.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", SIZES)
def test_the_start_is_a_function_of_the_seed(name: str) -> None:
    before = torch.random.get_rng_state()
    first, second, other = (build(name, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    schema = Schema.of(first)
    assert torch.equal(schema.flatten(first), schema.flatten(second))
    assert not torch.equal(schema.flatten(first), schema.flatten(other))


@pytest.mark.parametrize("name", SIZES)
def test_a_row_learns_the_same_bits_wherever_it_lies(name: str) -> None:
    module = build(name)
    schema = Schema.of(module)
    labels = torch.arange(12) % CLASSES
    inputs = clips(name, 12) * 0.3 + labels.float().view(-1, *[1] * len(shape(name)))
    training = TrainingSettings(lr=0.05, rounds=30, label_smoothing=0.0)
    learner = Learner(module, schema, training, inputs, labels, seed=0, peer=2)
    rows = torch.zeros(3, schema.size + 1)[:, 1:]
    rows[:] = schema.flatten(module)
    ends = []
    for row in (rows[1].clone(), rows[0], rows[2]):
        memory = learner.memory()
        if row.data_ptr() == rows[0].data_ptr():
            module = build(name, seed=9)  # as if in another process
            learner = Learner(module, schema, training, inputs, labels, seed=0, peer=2)
        losses = [learner.train_(row, memory, round) for round in range(15)]
        ends.append(row.clone())
    assert losses[-1] < losses[0] * 0.7
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("name", SIZES)
def test_a_model_on_disk_answers_as_before(name: str, tmp_path: Path) -> None:
    module = build(name, seed=5).eval()
    card = Card(labels=("a", "b", "c"), shape=shape(name), model=tiny(name),
                features=FeatureSettings(), normalise="none", statistics=None, corpus=Origin("emodb", "1"))
    directory.save(tmp_path / "model", Schema.of(module).flatten(module), Schema.of(module), card)
    loaded, found = directory.load(tmp_path / "model")
    assert found.model == card.model
    assert torch.equal(loaded(clips(name, 4)), module(clips(name, 4)))


@pytest.mark.parametrize("name", OVER_TIME)
@pytest.mark.parametrize("size", [(6, 1), (1, 7), (64, 3)])
def test_short_and_narrow_matrices(name: str, size: tuple[int, int]) -> None:
    module = models.build(ModelSettings(name=name, hidden=SIZES[name]), size, CLASSES, seed=0)
    for mode in (True, False):
        assert torch.isfinite(module.train(mode)(torch.randn(2, *size))).all()


@pytest.mark.parametrize("kernel_size", [1, 4, 25])
def test_convolutions_of_any_length(kernel_size: int) -> None:
    module = build("cnn1d", kernel_size=kernel_size, stride=1).eval()
    spans = [weight.shape[2] for path, weight in module.named_parameters() if "convolutions" in path]
    assert spans == [kernel_size] * 2
    assert torch.isfinite(module(clips("cnn1d", 2))).all()


@pytest.mark.parametrize("name", OVER_TIME)
def test_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ModelError, match=r"set features\.kind="):
        models.build(ModelSettings(name=name), (684,), CLASSES, seed=0)
    with pytest.raises(ModelError, match=r"set model\.hidden=\["):
        models.build(ModelSettings(name=name, hidden=(16,) if name == "crnn" else ()), (6, 20), CLASSES, seed=0)


# -- over time -----------------------------------------------------------------------------------------------


def test_steps_are_the_means_of_frames() -> None:
    features = torch.arange(14.0).view(1, 2, 7)
    assert steps(features, 3).tolist() == [[[1.0, 8.0]], [[4.0, 11.0]]]
    assert steps(features, 1).shape == (7, 1, 2)
    assert steps(features, 100).tolist() == [[[3.0, 10.0]]]


def test_padding_is_the_run_of_equal_frames_at_either_end() -> None:
    values = torch.tensor([[0, 0, 1, 1, 2, 3, 3], [0, 1, 1, 1, 1, 1, 0], [4, 4, 4, 4, 4, 4, 4]], dtype=torch.float32)
    frames = values.T.unsqueeze(-1).repeat(1, 1, 3)
    frames[0, 0, 0] += 1e-5  # rounding
    frames[:, 1, 2] += torch.tensor([0, 0, 0, 0, 0, 0, 0.5])
    assert padding(frames).T.int().tolist() == [[1, 1, 0, 0, 0, 1, 1], [0] * 7, [1] * 7]
    assert not padding(frames[:1]).any()


def test_clips_are_pooled_over_what_is_no_padding() -> None:
    attention = Attention(4)
    models.initialise(attention, 0)
    states = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(5, 2, dtype=torch.bool)
    hidden[3:, 0] = True
    weights = torch.softmax(states[:3, 0] @ attention.score.weight[0], 0)
    torch.testing.assert_close(attention(states, hidden)[0], weights @ states[:3, 0])
    clip = states[:3, 0]
    expected = torch.cat([weights @ clip, clip.mean(0), (clip.var(0, correction=0) + 1e-5).sqrt()])
    torch.testing.assert_close(pooled(states, hidden, attention)[0], expected)
    hidden[:] = True
    none = torch.zeros_like(hidden)
    torch.testing.assert_close(attention(states, hidden), attention(states, none))
    torch.testing.assert_close(pooled(states, hidden, attention), pooled(states, none, attention))


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_silence_around_a_clip_is_not_attended_to(name: str) -> None:
    module = build(name, bidirectional=False, stride=1).eval()
    clip = clips(name, 1)
    silence = torch.full((1, BANDS, 6), -2.0)
    after = torch.cat([clip, silence], 2)
    torch.testing.assert_close(module(after), module(torch.cat([after, silence], 2)))


def test_a_silent_clip_has_an_answer() -> None:
    module = build("gru").eval()
    assert torch.isfinite(module(torch.zeros(1, BANDS, FRAMES))).all()


def test_both_directions_read_the_whole_clip() -> None:
    for both in (True, False):
        module = build("gru", bidirectional=both, stride=1).eval()
        clip = clips("gru", 1)
        changed = clip.clone()
        changed[..., -1] += 1
        layer = module.layers[0]  # type: ignore[index, union-attr]
        first, second = (layer(steps(one, 1))[0] for one in (clip, changed))
        assert torch.equal(first, second) != both


def test_forget_gates_are_open_at_the_start() -> None:
    layer = build("lstm").layers[0]  # type: ignore[index, union-attr]
    expected = [0.0] * 5 + [1.0] * 5 + [0.0] * 10
    assert layer.bias_ih_l0.tolist() == layer.bias_ih_l0_reverse.tolist() == expected
    assert not layer.bias_hh_l0.any()
    assert 0.95 / np.sqrt(5) < layer.weight_hh_l0.abs().max() <= 1 / np.sqrt(5)


# -- what is not set follows the family ----------------------------------------------------------------------


def test_what_is_not_set_follows_the_family() -> None:
    config = Config().with_settings(["model.name=gru"])
    assert (config.model.hidden, config.model.stride, config.features.kind) == ((64,), 6, "contours")
    assert (config.augment.time_masks, config.augment.band_width) == (2, 6)
    assert (config.training.optimizer, config.training.lr) == ("adamw", 0.008)
    assert config.with_settings(["seed=1"]).model.hidden == (64,)
    assert config.with_settings(["model.name=mlp"]) == Config()
    told = Config().with_settings(["features.kind=logmel", "model.hidden=[9]"]).with_settings(["model.name=lstm"])
    assert (told.model.hidden, told.features.kind) == ((9,), "logmel")
    assert Config.model_validate(config.model_dump()) == config
    assert Config().features.kind == "functionals"


def test_a_family_has_its_learning_rate_for_its_own_optimiser_alone() -> None:
    def told(*settings: str) -> tuple[str, float]:
        training = Config().with_settings(["model.name=lstm", *settings]).training
        return training.optimizer, training.lr

    assert told("training.optimizer=sgd") == ("sgd", Config().training.lr)
    assert told("training.optimizer=adamw") == ("adamw", 0.008)
    assert told("training.lr=0.1") == ("adamw", 0.1)
    assert told("training.lr=0.1", "training.optimizer=sgd") == ("sgd", 0.1)


@pytest.mark.parametrize("name", SIZES)
def test_a_family_trains_with_its_name_alone(name: str) -> None:
    config = Config().with_settings([f"model.name={name}"])
    size = clip_features.shape(config.features)
    module = models.build(config.model, size, 7, config.seed)
    schema = Schema.of(module)
    inputs = torch.zeros(2, *size)
    learner = Learner(module, schema, config.training.model_copy(update={"local_steps": 1}), inputs,
                      torch.tensor([0, 1]), seed=0, peer=0)
    work = LocalWork([learner])
    assert 10_000 < schema.size < 120_000
    assert np.isfinite(learner.train_(schema.flatten(module), learner.memory(), 0))
    assert work.clips == (2,)
