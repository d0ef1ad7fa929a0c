"""Low-rank adapters of a speech encoder: what they change, what a row holds, and a model's life on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("transformers", reason="the ssl extra is not installed")

import torch
from click.testing import CliRunner
from tiny_encoders import save

import p2pser
from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.cli.evaluate import evaluate
from p2pser.cli.export import export
from p2pser.cli.predict import predict
from p2pser.config import Config, FeatureSettings
from p2pser.features import clip_features, encoders, upper_layers
from p2pser.features.federation import Federation, federate
from p2pser.features.kinds.encoder_states import EncoderStates
from p2pser.features.normalisation import statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.networks.adapter import AdaptedEncoder
from p2pser.models.rows import Schema
from p2pser.simulation.engine import simulate

RATE, CLASSES = 16000, 3
FAMILIES = ("whisper", "hubert", "wav2vec2")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


def chosen(where: Path, *settings: str) -> Config:
    """The settings of a run of adapters in both layers of a tiny encoder."""
    return models.for_run(Config().with_settings([
        "model.name=adapter", f"features.encoder={where}", "features.seconds=1",
        "features.parameters={layers: 2, upper: 2}", "model.parameters.rank=3", "model.hidden=[5]", "model.dropout=0",
        *settings]), 2)


def clips(config: Config, *lengths: float) -> torch.Tensor:
    """The features of noise of these lengths [s]."""
    draws = np.random.default_rng(0)
    return torch.from_numpy(np.stack([clip_features.compute(
        draws.normal(0, 0.1, round(RATE * length)).astype(np.float32), config.features) for length in lengths]))


def built(config: Config, features: torch.Tensor) -> AdaptedEncoder:
    module = models.build(config.model, tuple(features.shape[1:]), CLASSES, seed=0)
    assert isinstance(module, AdaptedEncoder)
    return module


def moved(module: AdaptedEncoder) -> AdaptedEncoder:
    """The module with matrices B, and a query, that are not zero."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("b.weight") or name.startswith("score"):
                parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    return module


@pytest.mark.parametrize("family", FAMILIES)
def test_the_upper_layers_give_what_the_whole_encoder_gives(family: str, saved: dict[str, Path]) -> None:
    signal = np.random.default_rng(1).normal(0, 0.1, 30 * RATE).astype(np.float32)  # without silence that is cut
    hidden = encoders.states(saved[family], signal, RATE, 2)
    run = upper_layers.load(saved[family], 2, 2)
    steps = hidden.shape[1]
    padded = np.concatenate([hidden[0], np.full((7, 16), 50.0, dtype=np.float32)])
    outputs = run(torch.from_numpy(np.stack([padded, padded])), torch.tensor([steps, 40]))
    for layer, output in enumerate(outputs, 1):
        np.testing.assert_allclose(output[0, :steps].detach(), hidden[layer], atol=2e-5)
    alone = run(torch.from_numpy(hidden[:1, :40]), torch.tensor([40]))
    torch.testing.assert_close(outputs[-1][1, :40], alone[-1][0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_training_starts_from_the_frozen_layers(pooling: str, saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"], f"model.parameters.pooling={pooling}")
    features = clips(config, 0.3, 0.9, 1.7)
    adapted = built(config, features)
    frozen = built(chosen(saved["whisper"], "model.parameters.rank=0"), features)
    frozen.load_state_dict(adapted.state_dict(), strict=False)
    _, _, heard, means, states = adapted.layout.unpack(features)
    assert heard.tolist() == [15, 45, 50]
    without = upper_layers.load(adapted.path, 2, 2)(states, heard)
    shares = (torch.arange(50) < heard.unsqueeze(1)) / heard.unsqueeze(1)
    plain = torch.stack([(shares.unsqueeze(-1) * output).sum(1) for output in without], 1)
    if pooling == "mean":  # B = 0: not one bit changes
        assert torch.equal(adapted.pooled(states, heard), plain)
    torch.testing.assert_close(adapted.pooled(states, heard), means, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(adapted(features), frozen(features), atol=2e-6, rtol=1e-5)
    assert not torch.allclose(moved(adapted)(features), frozen(features), atol=1e-3)


def test_merged_weights_give_the_same(saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"])
    features = clips(config, 0.8, 1.2)
    module = moved(built(config, features))
    _, _, heard, _, states = module.layout.unpack(features)
    one: Any = module.adapters[0]
    inputs = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))
    weight = upper_layers.load(module.path, 2, 2).weight(0, "q_proj")
    apart = inputs @ weight.T + 16 / 3 * (inputs @ one["q_proj"].a.weight.T) @ one["q_proj"].b.weight.T
    torch.testing.assert_close(inputs @ (weight + one["q_proj"]()).T, apart, atol=1e-6, rtol=1e-6)
    # An encoder whose weights are the merged ones needs no adapters.
    whole = encoders.model(saved["whisper"])
    with torch.no_grad():
        for layer, added in zip(whole.layers, module.adapters):
            for name in upper_layers.PROJECTIONS:
                getattr(layer.self_attn, name).weight += added[name]()  # type: ignore[index, operator]
        last = upper_layers.Upper(tuple(whole.layers), whole.layer_norm, "self_attn")(states, heard)[-1]
    changed = module.pooled(states, heard)[:, -1]
    shares = (torch.arange(50) < heard.unsqueeze(1)) / heard.unsqueeze(1)
    torch.testing.assert_close(changed, (shares.unsqueeze(-1) * last).sum(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_gradients_are_right_and_the_encoder_has_none(pooling: str, saved: dict[str, Path]) -> None:
    config = chosen(saved["hubert"], f"model.parameters.pooling={pooling}")
    features = clips(config, 0.4, 1.0)
    module = moved(built(config, features))
    schema = Schema.of(module)
    row = schema.flatten(module)
    gradient = schema.bind(module, row)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(features), torch.tensor([0, 2]))

    loss().backward()
    for name, slope in schema.views(gradient):
        assert slope.abs().max() > 0, name
    direction = torch.randn(row.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        here = row.clone()
        sides = [(row.copy_(here + side * 5e-4 * direction), loss())[1] for side in (1, -1)]
    assert float(sides[0] - sides[1]) / 1e-3 == pytest.approx(float(gradient @ direction), rel=2e-2)
    assert all(not parameter.requires_grad and parameter.grad is None
               for layer in upper_layers.load(module.path, 2, 2).layers for parameter in layer.parameters())


def test_a_row_holds_what_is_trained_and_nothing_of_the_encoder(saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"], "model.parameters.pooling=attention")
    schema = Schema.of(built(config, clips(config, 1.0)))
    names = [f"adapters.{layer}.{projection}.{part}.weight" for layer in (0, 1) for projection in ("q_proj", "v_proj")
             for part in "ab"]
    assert [name for name, _ in schema.entries] == [
        "weights", *names, "score.weight", "head.hidden.0.weight", "head.hidden.0.bias", "head.head.weight",
        "head.head.bias"]
    assert schema.size == 3 + 2 * 2 * 2 * 3 * 16 + 16 + 16 * 5 + 5 + 5 * CLASSES + CLASSES


def test_the_encoder_is_loaded_without_a_draw_and_can_be_trained_after_predictions(saved: dict[str, Path]) -> None:
    config = chosen(saved["wav2vec2"])
    features = clips(config, 1.0)
    module = built(config, features)
    upper_layers.load.cache_clear()
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        module(features)
    assert torch.equal(torch.random.get_rng_state(), before)
    module(features).sum().backward()


def test_scores_and_slopes_come_from_the_same_statistics(saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"])
    features = clips(config, 0.5, 0.7, 0.9, 1.1).numpy()
    found = statistics(features)
    scaled = found.apply(features)
    assert found.mean.shape == (3 * 16,)
    np.testing.assert_allclose(scaled[:, :, 0, 0].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[:, :, 0, 1], np.tile(1 / found.std, (4, 1)), rtol=1e-5)
    np.testing.assert_array_equal(scaled[:, :, 0, 2:], features[:, :, 0, 2:])


def test_a_changed_layer_counts_in_standard_deviations(saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"])
    features = clips(config, 0.5, 0.7, 0.9, 1.1).numpy()
    found = statistics(features)
    features_of = torch.from_numpy(features)
    module = moved(built(config, features_of))
    scaled = torch.from_numpy(found.apply(features))
    plain, _, heard, means, states = module.layout.unpack(features_of)
    raw = plain[:, 1:] + module.pooled(states, heard) - means
    mean, std = (torch.from_numpy(value.astype(np.float32)).view(3, 16)[1:] for value in (found.mean, found.std))
    scores = torch.cat([module.layout.unpack(scaled)[0][:, :1], (raw - mean) / std], 1)
    torch.testing.assert_close(module(scaled), module.head(scores.mean(1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("settings", "message"), [
    (["features.parameters={layers: 3}"], "layers = 3 must be 1 to 2"),
    (["features.parameters={layers: 1, upper: 2}"], "upper = 2 must be 1 to 1"),
    (["features.kind=mfcc", "features.parameters={}"], r"takes features\.kind=encoder-states, not mfcc"),
    (["model.parameters.pooling=max"], "must be mean or attention"),
    (["model.parameters.rank=-1"], "must be 0 or more"),
    (["features.kind=functionals+encoder-states"], "encoder-states is not joined to other kinds"),
])
def test_what_does_not_fit_is_refused_in_one_sentence(settings: list[str], message: str,
                                                      saved: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(saved["whisper"], *settings)


def test_an_encoder_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of type wavlm cannot be adapted"):
        chosen(save("wavlm", tmp_path / "wavlm"))


def test_without_transformers_the_extra_is_named(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_layers.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"need the extra ssl: pip install 'p2pser\[ssl\]'"):
        chosen(saved["whisper"])


def test_other_families_refuse_the_states_and_adapters_other_features(saved: dict[str, Path]) -> None:
    config = chosen(saved["whisper"])
    shape = EncoderStates.of(config.features).shape()
    with pytest.raises(ModelError, match="takes functionals"):
        models.build(Config().model, shape, CLASSES, seed=0)
    with pytest.raises(ModelError, match=r"set features\.kind=encoder-states"):
        models.build(config.model, (684,), CLASSES, seed=0)


# -- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 3 speakers with 4 clips each, of two emotions that differ in their tremolo."""
    folder = tmp_path_factory.mktemp("tremolo")
    lines, time = ["path,emotion,speaker"], np.arange(round(0.4 * RATE)) / RATE
    for speaker in range(3):
        for take in range(4):
            emotion, rate = (("calm", 2.0), ("excited", 9.0))[take % 2]
            draws = np.random.default_rng([speaker, take])
            tone = np.sin(2 * np.pi * (150 + 40 * speaker) * time) * (1 + 0.8 * np.sin(2 * np.pi * rate * time))
            soundfile.write(folder / f"{speaker}-{take}.wav", 0.2 * tone + draws.normal(0, 0.01, len(time)), RATE)
            lines.append(f"{speaker}-{take}.wav,{emotion},s{speaker}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def run_of(corpus: Path, encoder: Path, *settings: str) -> tuple[Config, Federation]:
    config = Config().with_settings([
        "corpus.name=manifest", f"corpus.data={corpus}", "corpus.split=speakers:s2", "model.name=adapter",
        "features.kind=encoder-states", f"features.encoder={encoder}", "features.seconds=0.3", "model.hidden=[4]",
        "model.parameters.rank=2", "training.rounds=2", "training.local_steps=2", "training.batch_size=3",
        "features.normalise=global", *settings])
    return config, federate(config, 2, workers=1)


def test_a_model_directory_holds_adapters_and_the_encoder_s_identity(
    saved: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    encoder = saved["whisper"]
    config, federation = run_of(corpus, encoder)
    result = simulate(config, p2pser.topology("ring", peers=2), federation)
    model = tmp_path / "model"
    schema = Schema.of(models.build(result.config.model, federation.train[0].features.shape[1:], 2, 0))
    directory.save(model, result.final.rows[0], schema, Card.of(result.config, federation, result.statistics))
    card = json.loads((model / "card.json").read_text())
    identity = encoders.identity(encoder)
    assert (card["features"]["encoder"], card["model"]["parameters"]["encoder"]) == (f"@{identity}", f"@{identity}")
    assert str(encoder) not in (model / "card.json").read_text()
    size = (model / "model.safetensors").stat().st_size
    assert size < 4 * result.final.rows.shape[1] + 4096
    wave = str(corpus.parent / "2-1.wav")
    for command, arguments in ((predict, [wave]), (predict, [wave, "--enrol", str(corpus.parent)]),
                               (evaluate, ["--corpus", "manifest", "--data", str(corpus)])):
        answer = CliRunner().invoke(command, [str(model), *arguments, "--json", "--encoder", str(encoder)])
        assert answer.exit_code == 0, answer.output
    refused = CliRunner().invoke(export, [str(model), "--onnx", str(tmp_path / "model.onnx")])
    assert "its speech encoder is not part of the model" in str(refused.exception)
    other = save("whisper", tmp_path / "other", seed=1)
    wrong = CliRunner().invoke(predict, [str(model), wave, "--encoder", str(other)])
    assert "was trained with another speech encoder" in str(wrong.exception)


def test_the_cache_is_told_by_layers_seconds_and_encoder(saved: dict[str, Path]) -> None:
    base = {"kind": "encoder-states", "encoder": str(saved["whisper"])}
    settings = [FeatureSettings(**{**base, **more}) for more in (  # type: ignore[arg-type]
        {}, {"parameters": {"upper": 1}}, {"parameters": {"layers": 1, "upper": 1}}, {"seconds": 2.0},
        {"encoder": str(saved["hubert"])})]
    assert len({clip_features.settings_key(one) for one in settings}) == len(settings)
