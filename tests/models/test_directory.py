"""A model directory: what went in comes out, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.features.normalisation import Statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.heard import Heard, counts, nearest
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

LABELS = ("neutral", "anger", "Überraschung")
"""Not in the order of the alphabet, which must not take the place of the order of the outputs."""
CARD = Card(
    labels=LABELS, shape=(6,), model=ModelSettings(hidden=(4,)), features=FeatureSettings(), normalise="global",
    statistics=Statistics(17.0, np.linspace(-1, 1, 6), np.full(6, 1 / 3)),
    corpus=Origin("emodb", "1", split="loso", fold=3), training={"peers": 9, "topology": "ring"})


def write(path: Path, card: Card = CARD, seed: int = 1) -> torch.Tensor:
    module = models.build(card.model, card.shape, len(card.labels), seed)
    row = Schema.of(module).flatten(module)
    directory.save(path, row, Schema.of(module), card)
    return row


def test_a_model_is_written_once_a_descriptor_is_free(tmp_path: Path,
                                                      no_descriptors: Callable[[float], None]) -> None:
    module = models.build(CARD.model, CARD.shape, len(CARD.labels), 1)
    schema = Schema.of(module)
    no_descriptors(0.2)
    directory.save(tmp_path / "model", schema.flatten(module), schema, CARD)
    stored, _ = directory.load(tmp_path / "model")
    assert torch.equal(Schema.of(stored).flatten(stored), schema.flatten(module))


def edit(path: Path, **changes: object) -> None:
    where = path / "card.json"
    where.write_text(json.dumps({**json.loads(where.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write(tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(tmp_path: Path) -> None:
    row = write(tmp_path / "deep" / "model")
    module, card = directory.load(tmp_path / "deep" / "model")
    assert torch.equal(Schema.of(module).flatten(module), row)
    assert not module.training
    assert (card.labels, card.shape, card.corpus, card.model, card.features) == (
        LABELS, (6,), CARD.corpus, CARD.model, CARD.features)
    assert card.training == {"peers": 9, "topology": "ring"}
    assert card.statistics is not None
    assert CARD.statistics is not None
    assert np.array_equal(card.statistics.mean, CARD.statistics.mean)
    assert np.array_equal(card.statistics.std, CARD.statistics.std)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["model"]


OLD = {"hidden": [128], "dropout": 0.3, "kernel_size": 5, "stride": 3, "bidirectional": True, "width": [1.0],
       "rescale": False, "kernel": "linear", "svm_c": 0.5, "gamma": 0.25, "random_features": 8192, "trees_depth": 2,
       "trees_eta": 0.1, "trees_gain": 3.0, "trees_lambda": 2.0, "trees_subsample": 0.8, "trees_columns": 0.1,
       "trees_held": 4}
"""The settings of models as cards held them before those of one family moved to ``parameters``."""


@pytest.mark.parametrize(("name", "parameters"), [
    ("svm", {"kernel": "linear", "c": 0.5, "gamma": 0.25, "random_features": 8192}),
    ("xgb", {"depth": 2, "eta": 0.1, "gain": 3.0, "reg_lambda": 2.0, "subsample": 0.8, "columns": 0.1, "held": 4}),
])
def test_cards_written_before_the_move_are_read(tmp_path: Path, name: str, parameters: dict[str, Any]) -> None:
    card = dataclasses.replace(CARD, model=ModelSettings(name=name, parameters=parameters))
    write(tmp_path / "m", card)
    edit(tmp_path / "m", model={"name": name, **OLD})
    module, found = directory.load(tmp_path / "m")
    assert found.model.parameters == parameters
    assert found.model == ModelSettings.model_validate({"name": name, "parameters": parameters, "hidden": [128]})
    assert Schema.of(module).size > 0


def test_a_card_of_before_with_a_network(tmp_path: Path) -> None:
    write(tmp_path / "m")
    edit(tmp_path / "m", model={"name": "mlp", **OLD, "hidden": [4]})
    assert directory.load(tmp_path / "m")[1].model == ModelSettings(hidden=(4,))


def test_a_model_of_a_family_that_is_not_installed_says_so(saved: Path) -> None:
    edit(saved, model={"name": "elsewhere", "parameters": {"a": 1}})
    with pytest.raises(ModelError, match="the family 'elsewhere', which is not installed"):
        directory.load(saved)


def test_the_temperature_is_stored(tmp_path: Path) -> None:
    write(tmp_path / "m", dataclasses.replace(CARD, temperature=1.75))
    assert directory.load(tmp_path / "m")[1].temperature == 1.75


def test_card_is_readable_by_others(saved: Path) -> None:
    document = json.loads((saved / "card.json").read_text(encoding="utf-8"))
    assert document["id2label"] == {"0": "neutral", "1": "anger", "2": "Überraschung"}
    assert document["label2id"] == {"neutral": 0, "anger": 1, "Überraschung": 2}
    assert document["labels"] == ["neutral", "anger", "Überraschung"]
    assert document["format"] == directory.FORMAT
    assert document["warning"] == ""


def test_synthetic_models_say_so(tmp_path: Path) -> None:
    write(tmp_path / "m", dataclasses.replace(CARD, corpus=Origin("synthetic", "1", synthetic=True)))
    document = json.loads((tmp_path / "m" / "card.json").read_text(encoding="utf-8"))
    assert "for trying the system only" in document["warning"]


def test_float64_rows_are_stored_as_float32(tmp_path: Path) -> None:
    module = models.build(CARD.model, (6,), 3, seed=0)
    schema = Schema.of(module)
    row = schema.flatten(module).double() + 1e-12
    directory.save(tmp_path / "m", row, schema, CARD)
    back, _ = directory.load(tmp_path / "m")
    assert torch.equal(schema.flatten(back), row.float())


def test_an_existing_directory_stays(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        write(saved, seed=9)
    assert (saved / "model.safetensors").read_bytes() == before


def test_parameters_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    module = models.build(CARD.model, (6,), 3, seed=0)
    schema = Schema.of(module)
    with pytest.raises(ModelError, match="not finite"):
        directory.save(tmp_path / "m", torch.full((schema.size,), torch.nan), schema, CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"cannot write the model .*No space left"):
        write(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_newer_format_is_refused(saved: Path) -> None:
    edit(saved, format=directory.FORMAT + 1, p2pser="9.0")
    with pytest.raises(ModelError, match=r"format 2, written by p2pser 9\.0; .*install a newer one"):
        directory.load(saved)


def test_features_of_other_code_are_refused(saved: Path) -> None:
    edit(saved, features_key="functionals-0000")
    with pytest.raises(ModelError, match="another version of p2pser computes them"):
        directory.load(saved)


@pytest.mark.parametrize(("changes", "says"), [
    ({"format": None}, "no format number"), ({"format": 0}, "one below 1"), ({"format": True}, "no format number"),
    ({"labels": ["anger", "Anger "]}, "not names that differ, by more than case and blanks"),
    ({"id2label": {"0": "x"}}, "its labels and its id2label contradict each other"),
    ({"label2id": {"x": 0}}, "its labels and its label2id contradict each other"),
    ({"model": {"hidden": [1] * 100_000}}, "damaged: hidden = .*, 64 at most"),
    ({"labels": None}, "damaged"),
    ({"model": {"wings": 2}}, "damaged: there is no setting 'wings'"),
    ({"features": {"n_mels": "x"}}, "damaged: n_mels = 'x': must be a whole number from 8 to 256"),
    ({"statistics": {"count": 1}}, "damaged"), ({"corpus": {"nme": "x"}}, "damaged"),
    ({"model": {"hidden": [5]}}, "changed by hand"), ({"model": {"name": "cnn2d"}}, "one vector|matrix"),
    ({"labels": ["a", "b"], "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, "changed by hand"),
    ({"normalise": "twice"}, "damaged: there is no normalisation 'twice'"),
    ({"training": {"seed": "x"}}, "damaged: its seed is 'x', not a whole number"), ({"shape": [1e999]}, "damaged"),
    ({"task": "dimensions", "dimensions": list(DIMENSIONS)}, "damaged: it has labels, and its task is dimensions"),
    ({"corpus": {"name": "emodb", "version": "1", "fold": "x"}}, "damaged: its training clips have the fold 'x'"),
    ({"corpus": {"name": "emodb", "version": "1", "corpora": None}}, "damaged: its training clips have the corpora"),
    ({"tested": {"in_words": 3}}, "damaged: its entry 'tested' has no sentences")])
def test_damaged_cards_are_refused(saved: Path, changes: dict[str, object], says: str) -> None:
    edit(saved, **changes)
    with pytest.raises(ModelError, match=says):
        directory.load(saved)


def test_damaged_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(ModelError, match="cannot read the parameters"):
        directory.load(saved)
    write(tmp_path / "other", dataclasses.replace(CARD, model=ModelSettings(hidden=(5,))))
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not hold the parameters"):
        directory.load(saved)
    for dtype, size in (("BF16", 2), ("F8_E4M3", 1)):  # numpy alone has no such types
        header = json.dumps({"a": {"dtype": dtype, "shape": [1000], "data_offsets": [0, 1000 * size]}}).encode()
        weights.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1000 * size))
        with pytest.raises(ModelError, match=r"(cannot read the|does not hold the) parameters"):
            directory.load(saved)
    weights.unlink()
    with pytest.raises(ModelError, match="cannot read the parameters"):
        directory.load(saved)


def test_what_is_no_model_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        directory.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no card\.json"):
        directory.load(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read"):
        directory.load(tmp_path)
    (tmp_path / "card.json").write_text("[1]")
    with pytest.raises(ModelError, match="not a p2pser model card"):
        directory.load(tmp_path)


KNOWN = (Heard(0, 3.0, 0.5, 0.1, 0.6), Heard(2, 2.0, 0.7, 0.05, 0.7), Heard(48, 0.5, 0.9, 0.02, 0.9))


def test_the_card_keeps_them_and_has_the_temperature_of_what_was_heard(tmp_path: Path) -> None:
    write(tmp_path / "m", dataclasses.replace(CARD, heard=KNOWN, temperature=7.0))
    card = directory.read_card(tmp_path / "m")[0]
    assert card.heard == KNOWN
    assert [card.temperature_for(clips) for clips in (0, 1, 2, 10, 48, 500)] == [3.0, 3.0, 2.0, 2.0, 0.5, 0.5]
    assert dataclasses.replace(card, heard=()).temperature_for(3) == 7.0
    assert dataclasses.replace(card, heard=(), temperature=None).temperature_for(3) == 1.0
    assert nearest(KNOWN[1:], 0) is None


@pytest.mark.parametrize("heard", [
    [{**KNOWN[0].to_dict(), "temperature": 0}], [{**KNOWN[0].to_dict(), "ece": 2}], [{"clips": 0}], 3,
    [KNOWN[1].to_dict(), KNOWN[0].to_dict()], [KNOWN[0].to_dict(), KNOWN[0].to_dict()]])
def test_figures_that_cannot_be_are_refused(tmp_path: Path, heard: object) -> None:
    write(tmp_path / "m", dataclasses.replace(CARD, heard=KNOWN))
    card = tmp_path / "m" / directory.CARD
    card.write_text(json.dumps({**json.loads(card.read_text(encoding="utf-8")), "heard": heard}), encoding="utf-8")
    with pytest.raises(ModelError, match="is damaged"):
        directory.read_card(tmp_path / "m")


def test_a_model_is_measured_up_to_all_clips_of_a_speaker() -> None:
    assert counts({"a": 50, "b": 40, "c": 3}) == (0, 1, 2, 5, 10, 40)
    assert counts({"a": 5}) == (0, 1, 2, 5)
    assert counts({}) == ()


@pytest.mark.parametrize("changes", [
    {"shape": [float("inf")]}, {"shape": [1e999, 2]}, {"training": {"seed": "x"}}, {"training": {"seed": None}},
    {"training": {"seed": 1e999}}, {"training": [1]}, {"temperature": float("nan")},
    {"heard": [{"clips": 1e999, "temperature": 1, "uar": 0, "ece": 0, "confidence": 0}]},
    {"corpus": {"name": "a", "version": "1", "conditions": {"clips": float("inf"), "sampling_rates_hz": [1e999],
                                                            "level_dbfs": [0, 1], "bandwidth_hz": [1, 2]}}},
])
def test_a_card_with_numbers_that_are_none_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path / "model")
    path = tmp_path / "model" / directory.CARD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError, match=r"card\.json is damaged: "):
        directory.load(tmp_path / "model")


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64", "float8_e4m3fn", "int64"])
def test_parameters_of_another_type_are_refused(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model")
    path = tmp_path / "model" / directory.WEIGHTS
    tensors = {name: value.to(getattr(torch, kind)) for name, value in safetensors.torch.load_file(path).items()}
    path.write_bytes(safetensors.torch.save(tensors) + bytes(path.stat().st_size))
    with pytest.raises(ModelError, match="copy the model again"):
        directory.load(tmp_path / "model")
    path.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(ModelError, match="copy the model again"):
        directory.load(tmp_path / "model")
