"""``evaluate --calibrate``: a model with a temperature fitted on speakers that it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

import p2pser
from p2pser import models
from p2pser.base.errors import CorpusError, ModelError
from p2pser.cli.evaluate import evaluate
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.corpora import loading as corpora
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.report import Report
from p2pser.experiments.model_evaluation import calibrate
from p2pser.features.extraction import extract
from p2pser.features.normalisation import statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.inference import logits
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

SETTINGS = FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)
LABELS = ("anger", "sadness")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EMOTION/SPEAKER/clip.wav: three speakers, tones that the emotions share in part."""
    root, draws = tmp_path_factory.mktemp("held-out"), np.random.default_rng(0)
    for emotion, pitch in (("anger", 800.0), ("sadness", 500.0)):
        for speaker in "abc":
            (root / emotion / speaker).mkdir(parents=True)
            for k in range(6):
                time = np.arange(8000) / 16000
                tone = np.sin(2 * np.pi * (pitch + draws.normal(0, 200)) * time) + draws.normal(0, 0.1, 8000)
                soundfile.write(root / emotion / speaker / f"{k}.wav", 0.2 * tone, 16000)
    return root


def write(path: Path, folder: Path, **origin: object) -> Path:
    """Write an untrained model that is sure of what it says."""
    corpus = corpora.load("folder", folder)
    values = np.stack([v for v in extract([clip.path for clip in corpus.clips], SETTINGS, workers=1).features
                       if v is not None])
    training = statistics(values)
    settings = ModelSettings(name="cnn2d", hidden=(4, 8))
    module = models.build(settings, values.shape[1:], models.outputs("classes", 2), 0)
    with torch.no_grad():
        for parameter in module.head.parameters():  # type: ignore[union-attr]
            parameter.mul_(30.0)
    schema = Schema.of(module)
    known = {"name": "elsewhere", "version": "1", **origin}
    directory.save(path, schema.flatten(module), schema,
                   Card(LABELS, tuple(values.shape[1:]), settings, SETTINGS, "global",
                        training, Origin(**known), training={"peers": 3}))  # type: ignore[arg-type]
    return path


def called(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(evaluate, [str(model), *map(str, arguments)])


def test_a_calibrated_copy_says_the_same_less_surely(folder: Path, tmp_path: Path) -> None:
    model, copy = write(tmp_path / "model", folder), tmp_path / "calibrated"
    done = called(model, "--data", folder, "--calibrate", copy, "--json")
    assert done.exit_code == 0, done.output
    assert f"written to {copy}" in done.stderr
    found = json.loads(done.stdout)
    before, after = p2pser.load(model), p2pser.load(copy)
    assert after.card.temperature == found["temperature"] > 2
    assert after.card.training["temperature"].startswith("fitted on ")
    assert (copy / directory.WEIGHTS).read_bytes() == (model / directory.WEIGHTS).read_bytes()
    assert before.card.temperature is None
    # What is told of the scaled probabilities is of others' temperatures, so not of the one written.
    assert found["calibration"]["scaled"]["nll"] < found["calibration"]["nll"]
    clip = folder / "anger" / "a" / "0.wav"
    sure, unsure = before.predict(clip)[0], after.predict(clip)[0]
    assert sure.label == unsure.label
    with soundfile.SoundFile(clip) as file:
        said = logits(before.module, before.scale(before.features(file.read(dtype="float32"))[None]))[0]
    powers = np.exp((said - said.max()) / after.card.temperature)
    assert dict(unsure.top(2))[unsure.label] == pytest.approx(float(powers.max() / powers.sum()), abs=1e-5)
    assert "temperature" in called(copy, "--data", folder).stdout


def test_it_is_of_speakers_that_the_model_does_not_know(folder: Path, tmp_path: Path) -> None:
    corpus = corpora.load("folder", folder)
    own = write(tmp_path / "own", folder, name=corpus.name, version=corpus.version, split="loso", fold=1)
    known = called(own, "--data", folder, "--all", "--calibrate", tmp_path / "new")
    assert isinstance(known.exception, CorpusError)
    assert "trained on 2 of these speakers" in str(known.exception)
    alone = called(own, "--data", folder, "--calibrate", tmp_path / "new")
    assert isinstance(alone.exception, CorpusError)
    assert "clips of one speaker" in str(alone.exception)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_there_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    model = write(tmp_path / "model", folder)
    done = called(model, "--data", folder, "--calibrate", model)
    assert done.exit_code == 2
    assert "exists already" in done.stderr
    assert directory.read_card(model)[0].temperature is None


def test_a_model_of_dimensions_alone_has_no_probabilities() -> None:
    ratings = Ratings(np.zeros((4, 3)), np.zeros((4, 3)), ("a", "a", "b", "b"), np.zeros(4, dtype=np.int64))
    report = Report(corpus="c", version="1", synthetic=False, split="loso", labels=(), predictions=None,
                    normalise="none", ratings=ratings)
    with pytest.raises(ModelError, match="knows no emotions"):
        calibrate(report)
