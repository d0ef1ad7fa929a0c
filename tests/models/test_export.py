"""Models as ONNX: the same answers through another runtime."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.cli.export import export as command
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.inference.predictor import Predictor, load
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.export import export
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

LABELS = ("anger", "neutral", "sadness")
VECTOR = FeatureSettings()
MATRIX = FeatureSettings(kind="mfcc", n_mfcc=8, n_mels=16, seconds=0.6)
SAMPLES = FeatureSettings(kind="logmel", n_mels=16, seconds=0.6)
SIZES: dict[str, tuple[int, ...]] = {"mlp": (8,), "svm": (), "cnn2d": (4, 8), "gru": (6,), "lstm": (6,), "crnn": (4, 6),
                                     "cnn1d": (4, 8), "cnn1d-shallow": (4, 8)}


def made(name: str, settings: FeatureSettings, **card: Any) -> tuple[torch.nn.Module, Card]:
    from p2pser.features.normalisation import Statistics

    shape = clip_features.shape(settings)
    hidden = SIZES[name]
    parts = {"parameters": {"parts": f"100*0.3,{shape[0] - 100}*1"}} if name == "mlp" else {}
    model = ModelSettings(name=name, **({"hidden": hidden} if hidden else {}), **parts)
    given = {"normalise": "global", "task": "classes", **card}
    draws = np.random.default_rng(3)
    statistics = Statistics(9, draws.normal(size=shape[0]), draws.uniform(0.5, 2, shape[0]))
    statistics.std[0] = 0
    network = models.build(model, shape, models.outputs(given["task"], len(LABELS)), 0).eval()
    return network, Card(labels=LABELS, shape=shape, model=model, features=settings, statistics=statistics,
                         corpus=Origin("tones", "1"), **given)


def answered(path: Path, values: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: values})))


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"xgb", "adapter"}))  # adapters are refused: test_adapters.py
def test_every_family_answers_the_same(name: str, tmp_path: Path) -> None:
    network, card = made(name, VECTOR if name in ("mlp", "svm") else MATRIX, temperature=1.7)
    export(network, card, tmp_path / "m.onnx")
    values = np.random.default_rng(0).normal(size=(5, *card.shape)).astype(np.float32)
    if values.ndim == 3:
        values[:, :, 20:] = values[:, :, 20:21]  # clips that end in silence
    found = answered(tmp_path / "m.onnx", values)
    predictor = Predictor(network, card)
    said = predictor.answers(values)
    np.testing.assert_allclose(found["logits"], predictor.run(predictor.scale(values)), atol=1e-4)
    np.testing.assert_allclose(found["probabilities"], [list(one.probabilities.values()) for one in said], atol=1e-4)


def test_trees_answer_the_same(tmp_path: Path) -> None:
    model = ModelSettings(name="xgb", parameters={"held": 6, "depth": 2})
    network, draws = models.build(model, (5,), len(LABELS), 0).eval(), np.random.default_rng(4)
    grown = draws.normal(size=(3, len(LABELS), 10)).astype(np.float32)
    grown[..., :3] = draws.integers(0, 5, (3, len(LABELS), 3))
    with torch.no_grad():
        network.get_parameter("trees")[::2] = torch.from_numpy(grown)  # the other places are empty
    card = Card(labels=LABELS, shape=(5,), model=model, features=VECTOR, normalise="none", statistics=None,
                corpus=Origin("tones", "1"))
    export(network, card, tmp_path / "m.onnx")
    for clips in (1, 40):
        values = draws.normal(size=(clips, 5)).astype(np.float32)
        expected = network(torch.from_numpy(values)).detach().numpy()
        np.testing.assert_allclose(answered(tmp_path / "m.onnx", values)["logits"], expected, atol=1e-6)


def test_log_mel_models_take_samples(tmp_path: Path) -> None:
    network, card = made("cnn2d", SAMPLES, task="both")
    directory.save(tmp_path / "model", Schema.of(network).flatten(network), Schema.of(network), card)
    done = CliRunner().invoke(command, [str(tmp_path / "model"), "--onnx", str(tmp_path / "m.onnx"), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["input"] == "samples"
    assert document["input_shape"] == ["clips", 9600]
    draws = np.random.default_rng(1)
    clips = (0.1 * draws.normal(size=(3, 9600)) * np.linspace(0, 1, 9600)).astype(np.float32)
    found = answered(tmp_path / "m.onnx", clips)
    for place, clip in enumerate(clips):
        said = load(tmp_path / "model").predict_signal(clip, 16000)
        np.testing.assert_allclose(found["probabilities"][place], list(said.probabilities.values()), atol=1e-4)
        np.testing.assert_allclose(found["dimensions"][place], list(said.dimensions.values()), atol=1e-4)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    network, card = made("mlp", VECTOR, normalise="speaker")
    export(network, card, tmp_path / "sub" / "m.onnx")
    written = onnx.load(str(tmp_path / "sub" / "m.onnx"))
    told = {one.key: one.value for one in written.metadata_props}
    assert json.loads(told["id2label"]) == {"0": "anger", "1": "neutral", "2": "sadness"}
    assert "for a speaker with statistics" in told["input_is"]
    beside = json.loads((tmp_path / "sub" / "m.json").read_text(encoding="utf-8"))
    assert beside["features"]["kind"] == "functionals"


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    network, card = made("mlp", VECTOR)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write"):
        export(network, card, tmp_path / "file" / "m.onnx")
    with pytest.raises(ModelError, match="no training statistics"):
        export(network, dataclasses.replace(card, normalise="speaker", statistics=None), tmp_path / "m.onnx")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    network, card = made("mlp", VECTOR)
    (tmp_path / "m.onnx").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left on device"):
        export(network, card, tmp_path / "m.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
