"""Recording conditions: what is measured, what a card holds of it, and when a recording is outside."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from scipy.signal import butter, sosfilt

import p2pser
from p2pser.base.errors import ModelError
from p2pser.cli.predict import predict
from p2pser.config import Config
from p2pser.features import audio, cache, conditions
from p2pser.features.conditions import Conditions
from p2pser.features.federation import federate
from p2pser.graph import spec
from p2pser.models import directory
from p2pser.run.card import card as card_of
from p2pser.simulation.engine import simulate

RATE = 16000
TELEPHONE = butter(6, [300, 3400], "bandpass", fs=RATE, output="sos")


def noise(seed: int, seconds: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))


def test_level_and_bandwidth_are_those_of_the_signal() -> None:
    level, bandwidth = conditions.measured(noise(0, 2.0), RATE)
    assert level == pytest.approx(-20, abs=0.5)
    assert bandwidth == 8000
    assert conditions.measured(0.1 * noise(0, 2.0), RATE) == (pytest.approx(level - 20, abs=1e-6), 8000)
    assert 3500 <= conditions.measured(sosfilt(TELEPHONE, noise(0, 2.0)), RATE)[1] <= 5500
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert conditions.measured(tone, RATE)[1] <= 1500
    speech_and_silence = np.concatenate([noise(1, 0.5), np.zeros(4 * RATE)])
    assert conditions.measured(speech_and_silence, RATE)[0] == pytest.approx(-20, abs=1.0)
    for short in (np.ones(3), np.zeros(RATE), np.full(RATE, 1e-30)):
        assert np.isfinite(conditions.measured(short, RATE)).all()


def test_a_recording_is_outside_beyond_the_margins() -> None:
    known = Conditions(50, (16000,), (-30.0, -10.0), (6000.0, 8000.0))
    inside = [(-36.0, 6000.0), (-4.0, 8000.0), (-20.0, 4500.0)]
    assert [known.outside(*each) for each in inside] == [(), (), ()]
    assert known.outside(-36.1, 4400) == ("a narrower band (6.0 to 8.0 kHz there)",
                                          "a lower level (-30 to -10 dBFS there)")
    assert known.outside(-3.9, 12000) == ("a wider band (6.0 to 8.0 kHz there)",
                                          "a higher level (-30 to -10 dBFS there)")
    assert conditions.told(Counter({"a wider band": 5}), 100) == ""
    several = conditions.told(Counter({"a wider band": 6, "a lower level": 1}), 100)
    assert several.endswith("errs more often: 6 of 100 have a wider band")
    assert Conditions.read(json.loads(json.dumps(known.to_dict()))) == known
    assert Conditions.of(np.zeros((0, 3))) is None
    assert Conditions.read(None) is None


def test_a_sample_is_drawn_once_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    for k in range(120):
        soundfile.write(tmp_path / f"{k}.wav", noise(k, 0.12) * (1 + k % 3), RATE if k % 2 else 8000)
        os.utime(tmp_path / f"{k}.wav", (1e9, 1e9))
    paths = [tmp_path / f"{k}.wav" for k in range(120)]
    index = cache.Index()
    for path in paths:
        state = path.stat()
        index.remember(path, cache.content_digest(path), (state.st_size, state.st_mtime_ns))
    index.write()
    (tmp_path / "0.wav").write_bytes(b"no recording")
    first = conditions.sample(paths, RATE)
    assert 98 <= len(first) <= conditions.MOST
    found = Conditions.of(first)
    assert found is not None
    assert (found.rates, found.bandwidth) == ((8000, 16000), (4000.0, 8000.0))
    monkeypatch.setattr(audio, "read", None)  # all are in the cache
    np.testing.assert_array_equal(conditions.sample(paths, RATE), first)
    assert conditions.sample([], RATE).shape == (0, 3)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    rows = ["path,speaker,emotion"]
    for k in range(24):
        soundfile.write(tmp_path / f"{k}.wav", noise(k), RATE)
        rows.append(f"{k}.wav,{'abcd'[k % 4]},{('anger', 'joy')[k // 4 % 2]}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={tmp_path / 'clips.csv'}", "model.hidden=4",
                                     "features.kind=dynamics", "features.normalise=global",
                                     "training.rounds=1", "corpus.split=loso"])
    ring = spec.load("ring", 3)
    found = simulate(config, ring, federate(config, 3, workers=1))
    directory.save(tmp_path / "model", found.row, found.schema, card_of(found.config, ring, found.federation,
                                                                        found.statistics, agreed=3))
    return tmp_path / "model"


def test_predict_and_evaluate_say_when_recordings_are_outside(model: Path, tmp_path: Path) -> None:
    stored = json.loads((model / "card.json").read_text())["corpus"]["conditions"]
    assert (stored["clips"], stored["sampling_rates_hz"], stored["bandwidth_hz"]) == (18, [16000], [8000.0, 8000.0])
    predictor = p2pser.load(model)
    assert predictor.card.corpus.conditions == Conditions.read(stored)
    predictor.predict(tmp_path / "0.wav")
    assert not any("conditions" in each for each in predictor.remarks)
    (tmp_path / "calls").mkdir()
    rows = ["path,speaker,emotion"]
    for k in range(4):
        soundfile.write(tmp_path / "calls" / f"{k}.wav", 0.1 * sosfilt(TELEPHONE, noise(k)), RATE)
        rows.append(f"{k}.wav,{'ab'[k % 2]},{('anger', 'joy')[k // 2]}")
    said = "errs more often: 4 of 4 have a narrower band (8.0 kHz there), 4 of 4 have a lower level"
    outcome = CliRunner().invoke(predict, [str(model), str(tmp_path / "calls")])
    assert outcome.exit_code == 0
    assert said in outcome.stderr
    (tmp_path / "calls" / "clips.csv").write_text("\n".join(rows) + "\n")
    from p2pser.cli.evaluate import evaluate

    shown = CliRunner().invoke(evaluate, [str(model), "--data", str(tmp_path / "calls" / "clips.csv")])
    assert shown.exit_code == 0, shown.output
    assert "recordings are outside of the recording conditions of the training" in shown.output


def test_cards_without_conditions_and_damaged_ones(model: Path) -> None:
    document = json.loads((model / "card.json").read_text())
    del document["corpus"]["conditions"]
    (model / "card.json").write_text(json.dumps(document))
    assert p2pser.load(model).card.corpus.conditions is None
    for wrong in ({}, {"clips": 1, "sampling_rates_hz": [], "level_dbfs": [0, float("nan")], "bandwidth_hz": [1, 2]},
                  [1], {"clips": 1, "sampling_rates_hz": [], "level_dbfs": [0], "bandwidth_hz": [1, 2]}):
        document["corpus"]["conditions"] = wrong
        (model / "card.json").write_text(json.dumps(document))
        with pytest.raises(ModelError, match="is damaged"):
            p2pser.load(model)
