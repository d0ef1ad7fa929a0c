"""Predictions from a model written as ONNX: torch's answers, in a process that has none of what training needs."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from served import LABELS, RATE, wav

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.cli.evaluate import evaluate
from p2pser.cli.export import export as command
from p2pser.cli.main import ONLY_WHOLE
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.features.normalisation import Statistics
from p2pser.inference.predictor import load
from p2pser.inference.timeline import timeline
from p2pser.models import directory, onnx_operators
from p2pser.models.directory import CARD, NETWORK, WEIGHTS, Card
from p2pser.models.export import export_light
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

MODELS: dict[str, tuple[FeatureSettings, ModelSettings]] = {
    "functionals": (FeatureSettings(), ModelSettings(name="mlp", hidden=(8,))),
    "logmel": (FeatureSettings(kind="logmel", n_mels=16, seconds=0.6), ModelSettings(name="cnn2d", hidden=(4, 8))),
    "mfcc": (FeatureSettings(kind="mfcc+chroma", n_mfcc=8, seconds=0.6), ModelSettings(name="gru", hidden=(6,))),
}

CHILD = """
import contextlib, io, json, os, sys
blocked, folder, names = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
sys.modules.update(dict.fromkeys(blocked))  # an import of them fails
import p2pser
from p2pser.cli.main import main

def called(*arguments):
    sys.argv, out, said = ["p2pser", *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return [end.code, out.getvalue(), said.getvalue()]

found = {}
for name in names:
    model = p2pser.load(f"{folder}/{name}")
    found[name] = {
        "whole": model.predict(f"{folder}/a.wav", enrol=f"{folder}/b.wav")[0].to_dict(),
        "windows": [each.to_dict() for each in p2pser.timeline(model, f"{folder}/a.wav", window=0.5, hop=0.25)]}
found["predict"] = called("predict", f"{folder}/{names[0]}", f"{folder}/a.wav", "--json", "--csv", f"{folder}/a.csv")
found["whole model"] = called("predict", f"{folder}/torch-{names[0]}", f"{folder}/a.wav")
found["simulate"] = called("simulate", "--peers", "2")
import asyncio
from p2pser.serve import forms
from p2pser.serve.app import Server
from p2pser.serve.question import Question
from p2pser.serve.work import Limits
server, recording = Server(model, Limits()), open(f"{folder}/a.wav", "rb").read()
body = forms.read("audio/wav", recording)
found["served"] = asyncio.run(server.workers.run(lambda left: Question().answer(model, body, 60, left)))
server.workers.close()
found["open"] = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")
                 if os.path.exists(f"/proc/self/fd/{each}")]
print(json.dumps(found))
"""


def speech(seed: int, seconds: float) -> np.ndarray:
    """Return samples of a voice that rises, with noise (n,) float32."""
    draws, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (140 + 20 * seed + 60 * time) * time
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.clip(np.sin(5 * time), 0.05, 1)
    return (0.2 * voice + 0.01 * draws.normal(size=time.size)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, and of each kind of model its directory ``torch-KIND`` and the light one ``KIND``."""
    root = tmp_path_factory.mktemp("light")
    (root / "a.wav").write_bytes(wav(speech(1, 1.3)))
    (root / "b.wav").write_bytes(wav(speech(2, 0.9)))
    for name, (features, settings) in MODELS.items():
        shape = clip_features.shape(features)
        module = models.build(settings, shape, len(LABELS) + 3, seed=4)
        values = np.stack([clip_features.compute(speech(seed, 1.0), features) for seed in range(4)])
        over = (0, *range(2, values.ndim))
        card = Card(labels=LABELS, shape=shape, model=settings, features=features, normalise="speaker",
                    statistics=Statistics(4.0, values.mean(axis=over), values.std(axis=over).astype(float)),
                    corpus=Origin("tones", "1"), temperature=1.4, task="both")
        schema = Schema.of(module)
        directory.save(root / f"torch-{name}", schema.flatten(module), schema, card)
        export_light(root / f"torch-{name}", root / name)
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    arguments = [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps(ONLY_WHOLE), str(folder), *MODELS]
    run = subprocess.run(arguments, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answers: dict[str, Any] = json.loads(run.stdout)
    return answers


def numbers(answer: dict[str, Any]) -> list[float]:
    return [*answer["probabilities"].values(), *answer["dimensions"].values()]


@pytest.mark.filterwarnings("ignore:the model expects")
@pytest.mark.parametrize("name", sorted(MODELS))
def test_answers_equal_those_of_torch(name: str, folder: Path, found: dict[str, Any]) -> None:
    model = load(folder / f"torch-{name}")
    (expected,) = model.predict(folder / "a.wav", enrol=folder / "b.wav")
    assert found[name]["whole"]["label"] == expected.label
    np.testing.assert_allclose(numbers(found[name]["whole"]), numbers(expected.to_dict()), atol=1e-5)
    windows = [each.to_dict() for each in timeline(model, folder / "a.wav", window=0.5, hop=0.25)]
    assert [each["start"] for each in found[name]["windows"]] == [each["start"] for each in windows]
    for one, other in zip(found[name]["windows"], windows):
        np.testing.assert_allclose(numbers(one), numbers(other), atol=1e-5)


def test_the_command_line_predicts_and_says_what_is_missing(folder: Path, found: dict[str, Any]) -> None:
    code, out, _ = found["predict"]
    assert (code, json.loads(out)["errors"]) == (0, [])
    assert (folder / "a.csv").read_text(encoding="utf-8").startswith("path,label,p_anger")
    code, _, said = found["whole model"]
    assert code == 2
    assert said.strip().endswith(f"p2pser export {folder}/torch-functionals --light NEW_DIR")
    code, _, said = found["simulate"]
    assert code == 2
    assert "for predictions only (p2pser-predict): install p2pser in another environment" in said


@pytest.mark.filterwarnings("ignore:the model expects")
def test_a_server_answers(folder: Path, found: dict[str, Any]) -> None:
    (expected,) = load(folder / f"torch-{list(MODELS)[-1]}").predict(folder / "a.wav")
    np.testing.assert_allclose(numbers(found["served"]), numbers(expected.to_dict()), atol=1e-5)


def test_each_requirement_is_of_predictions_or_of_the_whole_only() -> None:
    root, modules = Path(__file__).parents[2], {"pyzmq": "zmq"}
    setup = ast.parse((root / "packaging/predict/setup.py").read_text(encoding="utf-8"))
    needed = next(ast.literal_eval(each.value) for each in setup.body
                  if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "NEEDED")
    config = ConfigParser()
    config.read(root / "setup.cfg")
    required = re.findall(r"^[\w-]+", config.get("options", "install_requires"), re.MULTILINE)
    assert sorted([*needed, *ONLY_WHOLE]) == sorted(modules.get(each, each) for each in required)


def test_onnx_runtime_keeps_no_records_for_its_maker(found: dict[str, Any]) -> None:
    assert [path for path in found["open"] if "onnxruntime" in path] == []


def test_a_light_model_is_evaluated_but_not_calibrated(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(evaluate, [str(folder / "logmel"), "--calibrate", str(tmp_path / "new")])
    assert isinstance(done.exception, ModelError)
    assert "is for predictions only" in str(done.exception)


@pytest.mark.parametrize(("damage", "said"), [
    (lambda file: file.write_bytes(file.read_bytes()[:-40]), "cannot read the network"),
    (lambda file: file.write_bytes(b""), "0 bytes, which no network has"),
])
def test_a_damaged_network_is_refused(damage: Any, said: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "functionals", tmp_path / "m")
    damage(tmp_path / "m" / NETWORK)
    with pytest.raises(ModelError, match=said):
        load(tmp_path / "m")


def test_a_network_may_read_no_other_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "functionals", tmp_path / "m")
    network = onnx.load(str(tmp_path / "m" / NETWORK))
    onnx.save(network, str(tmp_path / "m" / NETWORK), save_as_external_data=True, location="elsewhere",
              size_threshold=0)
    with pytest.raises(ModelError, match="refers to other files"):
        load(tmp_path / "m")


@pytest.mark.parametrize(("node", "said"), [
    (("Tile", ["features", "few"], ["more"]), "the operator 'Tile', which no network of p2pser has: it is not run"),
    (("Relu", ["features"], ["more"], "com.microsoft"), "the operator 'com.microsoft.Relu', which"),
    (("Loop", ["few", "", "features"], ["more"]), "the operator 'subgraph', which"),
])
def test_a_network_with_an_unknown_operator_is_not_run(node: Any, said: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "functionals", tmp_path / "m")
    network = onnx.load(str(tmp_path / "m" / NETWORK))
    kind, taken, given, *domain = node
    added = onnx.helper.make_node(kind, taken, given, domain="".join(domain))
    if kind == "Loop":
        added.attribute.append(onnx.helper.make_attribute("body", onnx.helper.make_graph([], "body", [], [])))
    network.graph.node.append(added)
    onnx.save(network, str(tmp_path / "m" / NETWORK))
    with pytest.raises(ModelError, match=said):
        load(tmp_path / "m")


def test_a_network_may_be_neither_functions_nor_endless_nor_of_another_format(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "functionals", tmp_path / "m")
    network = onnx.load(str(tmp_path / "m" / NETWORK))
    whole = network.SerializeToString()
    assert onnx_operators.refused(whole) == ""
    many = onnx.ModelProto()
    many.CopyFrom(network)
    many.graph.node.extend([onnx.helper.make_node("Relu", ["features"], [str(k)]) for k in range(onnx_operators.MOST)])
    assert onnx_operators.refused(many.SerializeToString()) == f"more than {onnx_operators.MOST} operators"
    network.functions.append(onnx.helper.make_function("own", "F", [], [], [], []))
    assert "'function'" in onnx_operators.refused(network.SerializeToString())
    for wrong in (b"\x10\x00\x00\x00ORTM" + bytes(100), b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 12, b"\x0d\x00"):
        (tmp_path / "m" / NETWORK).write_bytes(wrong)
        with pytest.raises(ModelError, match="cannot read the network"):
            load(tmp_path / "m")


@examples(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(onnx_operators.refused(content), str)


def test_a_network_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "functionals", tmp_path / "m")
    shutil.copyfile(folder / "mfcc" / NETWORK, tmp_path / "m" / NETWORK)
    with pytest.raises(ModelError, match="is not the network that the card describes"):
        load(tmp_path / "m")


def test_export_writes_one_of_both(folder: Path, tmp_path: Path) -> None:
    whole, new = str(folder / "torch-mfcc"), str(tmp_path / "new")
    done = CliRunner().invoke(command, [whole, "--light", new, "--json"])
    assert json.loads(done.stdout)["labels"] == list(LABELS)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [CARD, NETWORK]
    assert CliRunner().invoke(command, [whole]).exit_code == 2
    again = CliRunner().invoke(command, [whole, "--light", new])
    assert "exists already" in str(again.exception)
    assert (folder / "torch-mfcc" / WEIGHTS).exists()
    light = CliRunner().invoke(command, [new, "--onnx", str(tmp_path / "m.onnx")])
    assert "it is for predictions only: use the model that it was exported from" in str(light.exception)
    (tmp_path / "m.json").write_text("another program's")
    other = CliRunner().invoke(command, [whole, "--onnx", str(tmp_path / "m.onnx")])
    assert other.exit_code == 2
    assert "m.onnx, exists already: give --onnx another name" in other.stderr
    assert (tmp_path / "m.json").read_text() == "another program's"
