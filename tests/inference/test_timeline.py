"""Emotion along a recording: an answer for each window, none for silence, adaptation to a speaker."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import p2pser
from p2pser.base.errors import CorpusError
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.features.normalisation import Statistics, known_by
from p2pser.inference import timeline
from p2pser.inference.answers import Answer
from p2pser.inference.predictor import Predictor
from p2pser.inference.recordings import files
from p2pser.inference.windows import Window
from p2pser.models.directory import Card
from p2pser.models.origin import Origin

RATE = 16000
SETTINGS = FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)


class Pitch(nn.Module):
    """High tones are anger, low ones sadness."""

    def forward(self, matrices: Tensor) -> Tensor:
        high, low = matrices[:, 8:].amax((1, 2)), matrices[:, :8].amax((1, 2))
        return torch.stack([high, low, high / 100, low / 100, 0 * low], 1) / 5


def predictor(normalise: str = "none", task: str = "both", temperature: float | None = None) -> Predictor:
    statistics = None if normalise == "none" else Statistics(10, np.zeros(16), np.ones(16))
    return Predictor(Pitch(), Card(
        labels=("anger", "sadness"), shape=clip_features.shape(SETTINGS), model=ModelSettings(), features=SETTINGS,
        normalise=normalise, statistics=statistics, corpus=Origin("tones", "1"), task=task, temperature=temperature))


def tone(pitch: float, seconds: float, loudness: float = 0.3) -> np.ndarray:
    return (loudness * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two seconds low, two silent, two high, a third of a second low."""
    parts = [tone(150, 2), np.zeros(2 * RATE, np.float32), tone(4000, 2), tone(150, 0.35)]
    soundfile.write(tmp_path / "talk.wav", np.concatenate(parts), RATE)
    return tmp_path / "talk.wav"


def test_each_window_has_its_answer_and_silence_has_none(recording: Path) -> None:
    found = list(timeline.timeline(predictor(), recording, window=0.5, hop=0.5))
    assert [one.start for one in found] == pytest.approx([0.5 * k for k in range(13)])
    assert [one.answer and one.answer.label for one in found] == \
        ["sadness"] * 4 + [None] * 4 + ["anger"] * 4 + ["sadness"]
    assert found[-1].end == pytest.approx(6.35)
    assert set(found[0].to_dict()["dimensions"]) == {"arousal", "valence", "dominance"}
    assert found[4].to_dict() == {"start": 2.0, "end": 2.5, "label": None, "probabilities": {}, "dimensions": {},
                                  "answer": "silence", "set": None, "coverage": None, "sure": False,
                                  "reason": "silence"}
    assert found[0].to_dict()["reason"] == "no speech: pure tones, as of a signal"


def test_a_stream_gives_the_answers_of_its_recording(recording: Path) -> None:
    """Cut into blocks of any length, at another rate, with two channels."""
    whole = p2pser.timeline(predictor(), recording, window=0.5, hop=0.25)
    assert p2pser.timeline(predictor(), recording.read_bytes(), window=0.5, hop=0.25) == whole
    assert list(whole.to_frame()["start"][:3]) == [0.0, 0.25, 0.5]
    samples = soundfile.read(recording, dtype="int16")[0]
    stream = p2pser.stream(predictor(), RATE, window=0.5, hop=0.25)
    found = [segment for at in range(0, len(samples), 999) for segment in stream.push(samples[at : at + 999])]
    assert found == whole[: len(found)]
    assert len(found) == len(whole) - 1  # the rest is shorter than a window
    assert stream.close() == []
    short = p2pser.stream(predictor(), 2 * RATE, window=3)
    assert short.push(np.stack([np.repeat(tone(4000, 1), 2)] * 2)) == []
    (segment,) = short.close()
    assert segment.answer is not None
    assert (segment.end, segment.answer.label) == (pytest.approx(1.0), "anger")
    with pytest.raises(CorpusError, match="a sampling rate of 20"):
        p2pser.stream(predictor(), 20)


def test_a_stream_refuses_what_is_not_finite_and_goes_on(recording: Path) -> None:
    samples = soundfile.read(recording, dtype="float32")[0]
    stream = p2pser.stream(predictor(), RATE, window=0.5, hop=0.5)
    for damaged in (np.nan, np.inf):
        with pytest.raises(CorpusError, match="samples that are not finite numbers"):
            stream.push(np.where(np.arange(len(samples)) == 9, damaged, samples))
    found = [segment for block in (np.zeros(0), samples[:5000], [], np.zeros((0, 2)), samples[5000:RATE])
             for segment in stream.push(block)]
    assert found == list(timeline.timeline(predictor(), recording, window=0.5, hop=0.5))[:2]


def test_an_offset_is_no_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "offset.wav", np.concatenate([np.full(RATE, 0.4), 0.4 + tone(4000, 1)]), RATE)
    found = p2pser.timeline(predictor(), tmp_path / "offset.wav", window=0.5, hop=0.5)
    assert [one.answer is None for one in found] == [True, True, False, False]


@pytest.mark.parametrize(("format", "subtype"), [
    ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "G721_32"), ("AU", "ALAW"), ("AIFF", "ULAW"), ("RAW", None)])
def test_formats_that_cannot_be_sought_in_are_read_by_window(tmp_path: Path, format: str, subtype: str | None) -> None:
    """Telephone codecs; a raw file has no header and is refused."""
    path = tmp_path / f"call.{format.lower()}"
    soundfile.write(path, np.concatenate([tone(1000, 1)[::2], np.zeros(RATE // 2, np.float32)]), RATE // 2,
                    subtype=subtype or "PCM_16", format=format)
    if subtype is None:
        with pytest.raises(CorpusError, match=r"call\.raw: it is not a recording that can be read"):
            p2pser.timeline(predictor(), path, window=0.5)
        return
    found = p2pser.timeline(predictor(), path, window=0.5, hop=0.5)
    assert [one.answer is None for one in (found[0], found[1], found[3])] == [False, False, True]
    assert p2pser.timeline(predictor(), path.read_bytes(), window=0.5, hop=0.5) == found


def test_gsm_without_a_header_is_read_by_window(tmp_path: Path) -> None:
    pytest.importorskip("av")
    soundfile.write(tmp_path / "call.raw", tone(1000, 1)[::2], RATE // 2, subtype="GSM610")
    (tmp_path / "call.raw").rename(tmp_path / "call.gsm")
    found = p2pser.timeline(predictor(), tmp_path / "call.gsm", window=0.5, hop=0.5)
    assert [one.answer is None for one in found] == [False, False]


def test_batches_change_nothing(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(timeline.timeline(predictor(), recording, window=0.5, hop=0.1))
    monkeypatch.setattr(timeline, "BATCH", 3)
    assert [one.answer and one.answer.label for one in timeline.timeline(predictor(), recording, window=0.5, hop=0.1)] \
        == [one.answer and one.answer.label for one in whole]
    with pytest.raises(CorpusError, match="are not possible"):
        list(timeline.timeline(predictor(), recording, window=0.5, hop=0.6))


def test_a_temperature_softens_probabilities_and_decides_nothing_else() -> None:
    sharp = predictor().predict_signal(tone(4000, 1), RATE)
    soft = predictor(temperature=4.0).predict_signal(tone(4000, 1), RATE)
    assert sharp.label == soft.label == "anger"
    assert 0.5 < soft.probabilities["anger"] < sharp.probabilities["anger"]
    assert sharp.top(1) == [("anger", sharp.probabilities["anger"])]
    assert sharp.dimensions == soft.dimensions


def test_signals_are_taken_at_any_rate_and_with_any_channels() -> None:
    time = np.arange(48000) / 48000
    stereo = np.stack([np.sin(2 * np.pi * 4000 * time)] * 2, axis=1)
    assert predictor().predict_signal(stereo, 48000).label == "anger"
    with pytest.raises(CorpusError, match="silent"):
        predictor().predict_signal(np.zeros(RATE), RATE)
    with pytest.raises(CorpusError, match="shorter than"):
        predictor().predict_signal(tone(150, 0.05), RATE)


def test_a_stream_adapts_to_the_speaker_by_windows_that_do_not_overlap() -> None:
    model = predictor("speaker")
    stream = timeline.Stream(model, RATE)
    first = stream.hear(Window(0.0, RATE, tone(150, 0.5)))
    assert first.answer is not None
    assert stream.own is not None
    known = stream.own
    assert stream.hear(Window(0.25, RATE, tone(4000, 0.5))).answer is not None
    assert stream.own is known
    assert stream.hear(Window(0.5, RATE, np.zeros(RATE // 2, np.float32))).answer is None
    assert stream.own is known
    stream.hear(Window(1.0, RATE, tone(4000, 0.5)))
    assert stream.own is not known
    stays = timeline.Stream(model, RATE, own=known)
    stays.hear(Window(0.0, RATE, tone(4000, 0.5)))
    assert stays.own is known


class Fixed(nn.Module):
    """Two logits, then dimensions beyond their range."""

    def forward(self, matrices: Tensor) -> Tensor:
        return torch.tensor([[0.0, np.log(3.0), 1.5, -0.25, -2.0]]).repeat(len(matrices), 1)


def test_logits_come_before_dimensions_which_are_cut_at_one() -> None:
    (answer,) = Predictor(Fixed(), predictor().card).answers(np.zeros((1, 16, 50), np.float32))
    assert answer.label == "sadness"
    assert answer.probabilities == pytest.approx({"anger": 0.25, "sadness": 0.75})
    assert answer.dimensions == {"arousal": 1.0, "valence": -0.25, "dominance": -1.0}


class Levels(Predictor):
    """A predictor whose features of a window are its first sample, twice."""

    def __init__(self) -> None:
        super().__init__(Pitch(), dataclasses.replace(
            predictor("speaker").card, shape=(2,), statistics=Statistics(10, np.zeros(2), np.ones(2))))

    def features(self, signal: np.ndarray, text: str = "") -> np.ndarray:
        return signal[:1].repeat(2)

    def answers(self, features: np.ndarray, own: Statistics | None = None) -> list[Answer]:
        return [Answer("", {}, {}) for _ in features]


def test_the_speaker_s_statistics_are_those_of_the_latest_200_windows() -> None:
    model = Levels()
    stream = timeline.Stream(model, RATE)
    levels = np.arange(1, 206, dtype=np.float32) ** 2
    for number, level in enumerate(levels):
        stream.hear(Window(float(number), RATE, np.resize(np.float32([level, -level]), RATE)))
        if number + 1 in (200, 201, 205):
            latest = levels[max(0, number - 199) : number + 1, None].repeat(2, axis=1)
            expected = known_by(latest, model.card.statistics)
            assert stream.own is not None
            assert stream.own.count == 200
            np.testing.assert_array_equal(stream.own.mean, expected.mean)
            np.testing.assert_array_equal(stream.own.std, expected.std)


def test_windows_last_three_seconds_and_begin_each_second_unless_told_otherwise(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", tone(150, 5.0), RATE)
    segments = list(timeline.timeline(predictor(), tmp_path / "talk.wav"))
    assert [(segment.start, segment.end) for segment in segments] == [(0, 3), (1, 4), (2, 5)]
    levels = {-54.0: "sadness", -56.0: None}
    for level, label in levels.items():
        amplitude = np.sqrt(2) * 10 ** (level / 20)
        soundfile.write(tmp_path / "soft.wav", tone(150, 3.0, amplitude), RATE, subtype="FLOAT")
        (segment,) = timeline.timeline(predictor(), tmp_path / "soft.wav")
        assert (segment.answer.label if segment.answer else None) == label


def test_lists_name_recordings(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# morning\na.wav\n\nsub/b.wav\n", encoding="utf-8")
    (tmp_path / "list.csv").write_text("path,speaker,emotion\na.wav,s,anger\nnone.wav,s,anger\n", encoding="utf-8")
    soundfile.write(tmp_path / "a.wav", tone(150, 0.5), RATE)
    assert files([tmp_path / "list.txt", tmp_path / "list.csv", tmp_path / "c.wav"]) == [
        tmp_path / "a.wav", tmp_path / "sub/b.wav", tmp_path / "a.wav", tmp_path / "none.wav", tmp_path / "c.wav"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CorpusError, match="not a text file in UTF-8"):
        files(tmp_path / "bad.txt")
    with pytest.raises(CorpusError, match="cannot read the list"):
        files(tmp_path / "none.lst")
