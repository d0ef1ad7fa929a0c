"""``p2pser audit`` on recordings: tones in place of voices, high ones for women."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser import models
from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.privacy.report import into_card


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six speakers, of whom the first three are women, with four clips each."""
    root = tmp_path_factory.mktemp("recordings")
    draw, time = np.random.default_rng(0), np.arange(8000) / 16000
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "speaker", "gender", "emotion"))
        for speaker in range(6):
            for clip in range(4):
                emotion, sex = ("anger", "sadness", "neutral")[clip % 3], "fm"[speaker // 3]
                pitch = (220 if sex == "f" else 110) * (1 + 0.1 * (clip % 3)) * draw.uniform(0.97, 1.03)
                signal = sum(0.2 / k * np.sin(2 * np.pi * k * pitch * time) for k in range(1, 6))
                signal = signal + 0.01 * draw.normal(size=time.size)
                name = f"s{speaker}-{clip}.wav"
                with wave.open(str(root / name), "wb") as sound:
                    sound.setparams((1, 2, 16000, 0, "NONE", ""))
                    sound.writeframes((signal * 20000).astype("<i2").tobytes())
                table.writerow((name, f"s{speaker}", sex, emotion))
    return root / "manifest.csv"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory that was trained on the audited topology, as its card says."""
    settings = ModelSettings(hidden=(2,))
    module = models.build(settings, (4,), 3, 0)
    schema = Schema.of(module)
    directory.save(tmp_path / "model", schema.flatten(module), schema, Card(
        ("anger", "neutral", "sadness"), (4,), settings, FeatureSettings(), "none", None, Origin("tones", "1"),
        training={"algorithm": "dfedavg", "topology": "ring", "peers": 6}))
    (tmp_path / "model" / "card.json").chmod(0o600)
    return tmp_path / "model"


def test_the_card_of_a_model_that_was_trained_otherwise_records_nothing(model: Path) -> None:
    other: Any = SimpleNamespace(config=SimpleNamespace(gossip=SimpleNamespace(algorithm="k-gt")),
                                 topology=SimpleNamespace(name="ring", size=6))
    with pytest.raises(ConfigError, match="was trained by dfedavg on ring with 6 peers, and the audit was of k-gt"):
        into_card(other, model)
    assert json.loads((model / "card.json").read_text())["audit"] == "not audited"


def test_plain_gossip_exits_with_one(recordings: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["audit", "--before", "--data", str(recordings), "--peers", "6", "--rounds", "1", "--after-rounds", "1",
                 "--out", str(tmp_path), "--set", "features.normalise=global", "--set", "model.hidden=[8]"]
    done = CliRunner().invoke(cli, [*arguments, "--json", "--shadow", str(recordings), "--card", str(model)])
    assert done.exit_code == 1, done.output
    document = json.loads(done.stdout)
    assert document["passed"] is False
    found = {(each["about"], each["seen"]): each for each in document["findings"]}
    assert found["sums", "statistics"]["value"] == 5
    assert found["sex", "statistics"]["value"] == 1.0
    assert found["sex", "statistics"]["attack"].startswith("threshold on the mean pitch from recordings")  # the last
    assert (tmp_path / "run" / "audit" / "audit.html").is_file()
    card, _ = directory.read_card(model)
    assert card.facts.audit is not None
    assert card.facts.audit["verdict"].startswith("Not passed: with dfedavg on ring with 6 peers")
    assert [each["value"] for each in card.facts.audit["figures"] if each["about"] == "sex"] == [1.0]
    assert (model / "card.json").stat().st_mode & 0o777 == 0o600
    # With limits that allow everything the same findings pass.
    for limit in ("solvable=5", "sex=1", "speaker=6", "membership=1", "labels=1"):
        arguments += ["--set", f"privacy.limits.{limit}"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "Passed: with dfedavg on ring with 6 peers" in done.stdout
