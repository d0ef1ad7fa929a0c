"""``predict`` along time and into files, ``listen`` from a pipe."""

from __future__ import annotations

import csv
import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click import UsageError
from click.testing import CliRunner
from commands import Command, read_from

from p2pser import models
from p2pser.base.errors import ConfigError
from p2pser.cli.evaluate import evaluate
from p2pser.cli.listen import listen
from p2pser.cli.predict import predict
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.features.normalisation import Statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

RATE = 16000
SETTINGS = FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)


def tone(seconds: float, pitch: float = 300.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of three emotions that expects speakers' statistics."""
    path = tmp_path_factory.mktemp("models") / "model"
    shape = clip_features.shape(SETTINGS)
    settings = ModelSettings(name="cnn2d", hidden=(4, 8))
    network = models.build(settings, shape, models.outputs("both", 3), 0)
    card = Card(("anger", "neutral", "sadness"), shape, settings, SETTINGS, "speaker",
                Statistics(10, np.full(16, -40.0), np.full(16, 20.0)), Origin("tones", "1"), task="both")
    directory.save(path, Schema.of(network).flatten(network), Schema.of(network), card)
    return path


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, np.concatenate([tone(1.5), np.zeros(RATE, np.float32), tone(1.5, 2000.0)]), RATE)
    return path


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(model: Path, *arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(predict, [str(model), *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_a_timeline_is_printed_written_and_drawn(model: Path, talk: Path, tmp_path: Path) -> None:
    table, plot = tmp_path / "out" / "talk.csv", tmp_path / "talk.png"
    code, out, err = run(model, talk, "--window", 0.5, "--hop", 0.5, "--csv", table, "--plot", plot)
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 8
    assert [line for line in lines if line.endswith("(silence)")] == lines[3:5]
    assert "arousal" in lines[0]
    rows = read(table)
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(k / 2, k / 2 + 0.5) for k in range(8)]
    assert rows[3]["label"] == rows[3]["p_anger"] == rows[3]["arousal"] == ""
    assert sum(float(rows[0][f"p_{label}"]) for label in ("anger", "neutral", "sadness")) == pytest.approx(1)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"written to {table}" in err


@pytest.mark.parametrize(("options", "starts", "length"), [
    (("--window", 0.5), [0.5 * k for k in range(8)], 0.5),  # a hop is never longer than its window
    (("--window", 2), [0.0, 1.0, 2.0], 2.0),
    (("--hop", 0.5), [0.0, 0.5, 1.0], 3.0),
    (("--silence", -70), [0.0, 1.0], 3.0),
])
def test_a_timeline_with_one_of_its_lengths(
    model: Path, talk: Path, options: tuple[object, ...], starts: list[float], length: float
) -> None:
    code, out, err = run(model, talk, *options, "--json")
    assert code == 0, err
    windows = json.loads(out)["windows"]
    assert [window["start"] for window in windows] == starts
    assert [window["end"] - window["start"] for window in windows] == [length] * len(starts)


def test_top_k_and_json(model: Path, talk: Path, tmp_path: Path) -> None:
    code, out, _ = run(model, talk, "--top-k", 2, "--json")
    assert code == 0
    (only,) = json.loads(out)["predictions"]
    chances = list(only["probabilities"].values())
    assert len(chances) == 2
    assert chances == sorted(chances, reverse=True)
    assert next(iter(only["probabilities"])) == only["label"]
    code, out, _ = run(model, talk, "--hop", 1, "--json")
    assert len(json.loads(out)["windows"]) == 2
    table = tmp_path / "clips.csv"
    assert run(model, talk, "--csv", table)[0] == 0
    assert [row["path"] for row in read(table)] == [str(talk)]


def test_a_table_replaces_no_file_that_is_read(model: Path, talk: Path, tmp_path: Path) -> None:
    first, second, manifest = tmp_path / "a.WAV", tmp_path / "b.wav", tmp_path / "clips.csv"
    for clip in (first, second):
        clip.write_bytes(talk.read_bytes())
    manifest.write_text("path\na.WAV\n")
    code, _, err = run(model, "--csv", first, second)  # --csv *.wav
    assert code == 2
    assert "a.WAV' is the name of a recording: let the table's name end in .csv" in err
    code, _, err = run(model, manifest, "--csv", tmp_path / "." / "clips.csv")
    assert code == 2
    assert "clips.csv, which is read: give the table another name" in err
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(manifest), "--csv", str(manifest)])
    assert done.exit_code == 2
    assert "which is read" in done.stderr
    assert first.read_bytes() == talk.read_bytes()
    assert manifest.read_text() == "path\na.WAV\n"


def test_an_unusable_recording_is_reported_and_the_others_are_answered(model: Path, talk: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("not a recording")
    (tmp_path / "list.txt").write_text(f"{talk}\n{bad}\n", encoding="utf-8")
    code, out, err = run(model, tmp_path / "list.txt", "--window", 1)
    assert code == 2
    assert len(out.splitlines()) == 4
    assert f"{bad}: it is a text file" in err
    code, out, err = run(model, talk, "--window", 1, "--hop", 2)
    assert (code, out) == (1, "")
    code, _, err = run(model, talk, bad, "--plot", tmp_path / "a.png")
    assert code == 2
    assert "one recording, and 2 are named" in err


def pcm(signal: np.ndarray) -> bytes:
    return (signal * 32767).astype("<i2").tobytes()


def test_listening_to_a_pipe_answers_while_it_is_open(model: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDWR), "wb", buffering=0) as source, Command(  # a pipe for writing waits for a reader
            "listen", str(model), "--raw", "--rate", "8000", "--window", "1", "--hop", "0.5", "--json", "--verbose",
            change=partial(read_from, pipe)) as listener:
        sound = tone(4.0)[::2]  # at 8 kHz
        answers = []
        for k in range(4):
            # An odd number of bytes: half a sample comes with the next block. What a resampler still holds comes too.
            first, last = (0 if k == 0 else 5101 + 4000 * (k - 1)), 5101 + 4000 * k
            source.write(pcm(sound)[2 * first + (k > 0) : 2 * last + 1])
            if k > 0:
                answers.append(json.loads(listener.stdout.readline()))
        silence = np.zeros(8000, np.float32)
        source.write(pcm(silence)[1:])
        source.close()
        out, output = listener.communicate()
        answers += [json.loads(line) for line in out.splitlines()]
        assert listener.returncode == 0, output
    assert [one["start"] for one in answers] == [0.5 * k for k in range(len(answers))]
    assert len(answers) == 5
    assert answers[0]["label"] in ("anger", "neutral", "sadness")
    assert set(answers[0]["dimensions"]) == {"arousal", "valence", "dominance"}
    assert "s: answered after " in output
    assert "5 labels, delay" in output


def test_a_short_stream_has_one_answer_and_an_empty_one_is_refused(model: Path, tmp_path: Path) -> None:
    def listened(data: bytes) -> tuple[int | None, str, str]:
        (tmp_path / "pcm").write_bytes(data)
        with Command("listen", str(model), "--raw", change=partial(read_from, tmp_path / "pcm")) as listener:
            out, err = listener.communicate()
            return listener.returncode, out, err

    code, out, err = listened(pcm(tone(0.8)))
    assert code == 0
    assert len(out.splitlines()) == 1
    assert "p2pser: 1 label, delay" in err
    code, _, err = listened(b"")
    assert code == 1
    assert "shorter than a tenth of a second" in err
    assert "Traceback" not in err


def read_without_output(path: Path) -> None:
    read_from(path)
    sys.stdout = None  # type: ignore[assignment]  # as Python does where it is closed


def test_listening_without_standard_output_ends_well(model: Path, tmp_path: Path) -> None:
    (tmp_path / "pcm").write_bytes(pcm(tone(0.8)))

    with Command("listen", str(model), "--raw", change=partial(read_without_output, tmp_path / "pcm")) as listener:
        _, err = listener.communicate()
    assert listener.returncode == 0, err


def test_a_file_is_not_heard_as_samples(model: Path, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Command("listen", str(model), "--raw", change=partial(read_from, talk)) as listener:
        out, err = listener.communicate()
    assert (listener.returncode, out) == (2, "")
    assert "begins as a file of the format WAV does, and takes samples without a header" in err
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input, which --raw reads, is closed"):
        listen.main([str(model), "--raw"], standalone_mode=False)


def test_a_microphone_without_its_library_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = CliRunner().invoke(listen, [str(model)])
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigError)
    assert "needs the extra live" in str(done.exception)


def test_a_microphone_that_does_not_exist_is_a_wrong_call(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PortAudioError(Exception):
        """As sounddevice raises it for a wrong number."""

    def opened(*_: object) -> None:
        raise ValueError("No input device matching 'none'")  # as sounddevice does for a wrong name

    fake = SimpleNamespace(RawInputStream=opened, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    done = CliRunner().invoke(listen, [str(model), "--microphone", "none"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("the microphone none cannot be used: No input device matching 'none'; ")


@pytest.mark.parametrize("subtype", ["GSM610", "MS_ADPCM", "ULAW"])
def test_standard_input_holds_a_recording(model: Path, tmp_path: Path, subtype: str) -> None:
    """Telephone codecs, from a pipe."""
    soundfile.write(tmp_path / "call.wav", np.concatenate([tone(1.5)[::2], tone(1.5, 900)[::2]]), RATE // 2,
                    subtype=subtype)
    for options in (["--window", "1"], []):
        told = CliRunner().invoke(predict, [str(model), str(tmp_path / "call.wav"), "--json", *options])
        piped = CliRunner().invoke(predict, [str(model), "-", "--json", *options],
                                   input=(tmp_path / "call.wav").read_bytes())
        key = "windows" if options else "predictions"
        expected = [{**each, "path": "-"} for each in json.loads(told.stdout)[key]]
        assert json.loads(piped.stdout)[key] == expected


def test_standard_input_that_is_no_recording_is_a_sentence(model: Path) -> None:
    done = CliRunner().invoke(predict, [str(model), "-"], input=b"")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, "p2pser: -: it is empty")
    assert CliRunner().invoke(predict, [str(model), "-", "-"], input=b"").exit_code == 2
