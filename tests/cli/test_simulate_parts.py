"""``p2pser simulate``: widths, each with a model and a figure; a model to start from; how far two sizes lie apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from safetensors.numpy import save_file

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FAMILIES
from p2pser.cli.simulate import simulate
from p2pser.experiments.demo import model_distance
from p2pser.inference.predictor import load


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two emotions of six speakers, three clips each: folder/emotion/speaker/clip.wav."""
    root, time = tmp_path_factory.mktemp("tones"), np.arange(6400) / 16000
    for e, emotion in enumerate(("anger", "sadness")):
        for s in range(6):
            (root / emotion / f"s{s}").mkdir(parents=True)
            for clip in range(3):
                tone = 0.3 * np.sin(2 * np.pi * (120 + 15 * s + clip) * time) * (1 + 0.8 * np.sin(12 * (e + 1) * time))
                soundfile.write(root / emotion / f"s{s}" / f"{clip}.wav", tone, 16000)
    return root


def call(out: Path, tones: Path, *settings: str) -> CliRunner:
    options = ["--topology", "ring", "--peers", "4", "--corpus", "folder", "--data", str(tones), "--out", str(out),
               "--rounds", "3", "--no-baselines", "--set", "model.hidden=[16]", "--set", "corpus.split=speakers:s0"]
    return CliRunner().invoke(simulate, [*options, *(part for one in settings for part in ("--set", one))],
                              catch_exceptions=False)


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"adapter"}))
def test_every_family_is_simulated(tmp_path: Path, tones: Path, family: str) -> None:
    options = ["--topology", "ring", "--peers", "4", "--corpus", "folder", "--data", str(tones), "--out", str(tmp_path),
               "--rounds", "2", "--no-baselines", "--set", "corpus.split=speakers:s0", "--set", f"model.name={family}",
               "--set", "training.local_steps=2"]
    result = CliRunner().invoke(simulate, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "run" / "simulation" / "model").labels == ("anger", "sadness")


def test_each_width_has_a_model_that_predicts_and_a_figure(tmp_path: Path, tones: Path) -> None:
    result = call(tmp_path, tones, "model.width=0.25*2,1*2", "training.fine_tune=5")
    assert result.exit_code == 0
    for text in ("width 0.25", "width 1 ", "personal (mean)", "consensus model"):
        assert text in result.stdout
    folder = tmp_path / "run" / "simulation"
    sizes = {}
    for name, width in (("model", 1.0), ("model-0.25", 0.25)):
        predictor = load(folder / name)
        assert predictor.card.model.width == (width,)
        sizes[name] = sum(one.numel() for one in predictor.module.parameters())
        assert len(predictor.predict(tones / "anger" / "s0", enrol=tones)) == 3
    assert sizes["model"] - 2 == 4 * (sizes["model-0.25"] - 2)  # all but the head's two biases
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    again = call(tmp_path, tones, "model.width=1", "gossip.share=body")
    assert again.exit_code == 0
    assert not (folder / "model-0.25").exists()
    assert "consensus model" not in again.stdout
    assert "mean peer" in again.stdout
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [one["uar"]["consensus"] for one in history] == [None] * 3


def test_a_wrong_number_of_widths_is_a_wrong_call(tmp_path: Path, tones: Path) -> None:
    with pytest.raises(ConfigError, match="widths of 3 peers, and there are 4"):
        call(tmp_path, tones, "model.width=0.5,1,1")


def test_the_distance_of_models_of_several_sizes_is_the_largest_among_equals(tmp_path: Path) -> None:
    folders = []
    for k, values in enumerate(([1.0, 1.0], [1.0, 1.0], [1.0, 2.0, 2.0], [1.0, 2.0, 2.0 + 3e-3])):
        folders.append(tmp_path / str(k))
        folders[-1].mkdir()
        save_file({"head.weight": np.array(values, dtype=np.float32)}, folders[-1] / "model.safetensors")
    assert model_distance(folders[:3]) == 0.0
    assert model_distance(folders) == pytest.approx(1.5e-3 / 3, rel=1e-2)


def test_a_run_that_leaves_the_scaling_open_scales_as_the_model_it_starts_from(tmp_path: Path, tones: Path) -> None:
    assert call(tmp_path / "first", tones, "features.normalise=none").exit_code == 0
    model = tmp_path / "first" / "run" / "simulation" / "model"
    assert call(tmp_path / "second", tones, f"peer.start={model}").exit_code == 0
    assert load(tmp_path / "second" / "run" / "simulation" / "model").card.normalise == "none"
