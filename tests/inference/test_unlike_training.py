"""Prediction of recordings that are unlike those of the training: what is said of them, and what scales them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from torch import Tensor, nn

from p2pser.cli import predict as command
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import audio
from p2pser.features.extraction import extract
from p2pser.features.normalisation import statistics
from p2pser.inference import predictor as module
from p2pser.inference.predictor import Predictor
from p2pser.models.directory import Card
from p2pser.models.heard import Heard
from p2pser.models.origin import Origin

SETTINGS = FeatureSettings()


class Weights(nn.Module):
    """Fixed weights: what it is worth does not matter here."""

    def forward(self, values: Tensor) -> Tensor:
        return values[:, :3] + values[:, 3:6]


def noise(path: Path, seed: int, muffled: bool = False) -> Path:
    draws = np.random.default_rng(seed)
    signal = draws.normal(size=8000) * (1 + np.sin(np.arange(8000) / draws.uniform(200, 900)))
    if muffled:
        signal = np.convolve(signal, np.ones(12) / 12, "same") * 0.1
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, 0.05 * signal, 16000)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, list[Path], list[Path]]:
    """A model of functionals of noise, other recordings of that noise, and muffled ones."""
    root = tmp_path_factory.mktemp("noise")
    paths = [noise(root / "own" / f"{k}.wav", k) for k in range(16)]
    own = [values for values in extract(paths, SETTINGS, workers=1).features if values is not None]
    card = Card(labels=("anger", "fear", "joy"), shape=own[0].shape, model=ModelSettings(), features=SETTINGS,
                normalise="speaker", statistics=statistics(np.stack(own)), corpus=Origin("noise", "1"),
                heard=(Heard(0, 0.5, 0.5, 0.1, 0.5),))
    return (Predictor(Weights(), card), [noise(root / "like" / f"{k}.wav", 50 + k) for k in range(4)],
            [noise(root / "muffled" / f"{k}.wav", 70 + k, muffled=True) for k in range(4)])


def test_like_recordings_are_answered_one_by_one(made: tuple[Predictor, list[Path], list[Path]]) -> None:
    predictor, like, _ = made
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        together = predictor.predict(like)
    assert predictor.remarks == ()
    assert not any("unlike" in str(warning.message) for warning in said)
    assert together == list(predictor.each(like))


def test_the_common_statistics_of_unlike_recordings_scale_them(made: tuple[Predictor, list[Path], list[Path]]) -> None:
    predictor, _, muffled = made
    with pytest.warns(UserWarning, match="common statistics of 4 of them scale their features"):
        together = predictor.predict(muffled)
    alone = predictor.predict(muffled, together=False)
    assert predictor.remarks[0].startswith("the model knows little about 4 of 4 recordings")
    assert together != alone == list(predictor.each(muffled))
    values = np.stack([predictor.features(audio.read(path, SETTINGS.sample_rate)) for path in muffled])
    own = predictor.conditions(values)
    assert own is not None
    assert [each.probabilities for each in together] == [each.probabilities for each in predictor.answers(values, own)]
    # A temperature below 1 was fitted under the training's conditions, and sharpens nothing here.
    np.testing.assert_array_equal(predictor.temperatures(np.zeros((1, 9)), own), [1.0])
    np.testing.assert_array_equal(predictor.temperatures(np.zeros((1, 9))), [0.5])


def test_far_recordings_have_flat_probabilities(made: tuple[Predictor, list[Path], list[Path]]) -> None:
    predictor, like, muffled = made
    def surest(path: Path) -> float:
        return max(next(predictor.each([path])).probabilities.values())

    assert max(map(surest, muffled)) < 0.5 < max(map(surest, like))
    plain = Predictor(Weights(), replace(predictor.card, normalise="none"))
    assert plain.conditions(np.ones((4, *predictor.card.shape), np.float32)) is None
    np.testing.assert_array_equal(plain.flattening(np.full((2, 9), 9.0)), np.ones(2))


def test_conditions_are_judged_by_the_first_recordings_and_errors_stay_in_place(
        made: tuple[Predictor, list[Path], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, like, muffled = made
    monkeypatch.setattr(module, "MOST", 4)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    errors: list[tuple[Path, str]] = []
    found = list(predictor.each([muffled[0], bad, *muffled[1:], *like], errors=errors, together=True))
    assert [each.path for each in found] == [*muffled, *like]
    assert [path for path, _ in errors] == [bad]
    assert "statistics of 4 of them" in predictor.remarks[0]


def test_the_command_says_it(made: tuple[Predictor, list[Path], list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, _, muffled = made
    monkeypatch.setattr(module, "load", lambda path, encoder=None, coverage=0.9: predictor)
    done = CliRunner().invoke(command.predict, [str(muffled[0].parent), str(muffled[0].parent), "--json"])
    assert done.exit_code == 0, done.output
    assert "p2pser: these recordings are unlike those of the training" in done.stderr
    assert "unlike those of the training" in json.loads(done.stdout)["remarks"][0]
    alone = CliRunner().invoke(command.predict, [str(muffled[0].parent), str(muffled[0].parent), "--no-together"])
    assert "scale their features" not in alone.stderr
    assert "their probabilities are flattened" in alone.stderr
