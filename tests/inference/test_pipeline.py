"""The pipeline in the shape of Hugging Face's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import LABELS, RATE, save, tone, wav

import p2pser
from p2pser.base.errors import ConfigError, CorpusError
from p2pser.inference.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return p2pser.pipeline(save(tmp_path_factory.mktemp("models") / "model"))


def test_answers_are_shaped_as_hugging_faces(pipe: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(tone()))
    (expected,) = pipe.predictor.predict(path)
    whole = pipe(str(path))
    assert whole == [{"label": name, "score": score} for name, score in expected.top(3)]
    assert {each["label"] for each in whole} == set(LABELS)  # type: ignore[call-overload]
    assert [each["score"] for each in whole] == sorted(expected.probabilities.values(), reverse=True)  # type: ignore[call-overload]
    assert pipe(path.read_bytes()) == whole
    assert pipe(path, top_k=1) == whole[:1]
    assert p2pser.pipeline(pipe.predictor, top_k=1)(path, top_k=None) == whole
    assert pipe([path, path.read_bytes()], top_k=2) == [whole[:2], whole[:2]]
    assert p2pser.pipeline(pipe.predictor, top_k=1)([path]) == [whole[:1]]


def test_samples_have_their_rate(pipe: Pipeline) -> None:
    samples = tone(0.7)
    half = samples[::2]
    for name in ("raw", "array"):
        given = {name: half, "sampling_rate": RATE // 2, "path": None}
        assert pipe(given) == [{"label": label, "score": score} for label, score in
                               pipe.predictor.predict_signal(half, RATE // 2).top(3)]
        assert pipe(given) != pipe({name: half, "sampling_rate": RATE})


@pytest.mark.parametrize("given", [{"raw": np.ones(RATE)}, {"sampling_rate": RATE}, {}, np.ones(RATE), 3])
def test_what_is_no_recording_gets_a_sentence(pipe: Pipeline, given: object) -> None:
    with pytest.raises(CorpusError, match=r"samples are given as|is no recording"):
        pipe(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2"])
def test_a_number_of_emotions_is_above_0(pipe: Pipeline, top_k: Any) -> None:
    for call in (lambda: pipe(wav(tone()), top_k=top_k), lambda: p2pser.pipeline(pipe.predictor, top_k=top_k)):
        with pytest.raises(ConfigError, match=r"top_k is .*: give a whole number above 0, or None"):
            call()


def test_a_folder_of_several_is_no_recording(pipe: Pipeline, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(wav(tone()))
    with pytest.raises(CorpusError, match="holds 2 recordings: give a list"):
        pipe(tmp_path)
