"""Predictions for recordings, from a model directory alone."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from commands import Forked
from tone_models import PITCHES, RATE, tone, trained

import p2pser
from p2pser import models
from p2pser.base.errors import ConfigError, CorpusError, ModelError
from p2pser.cli.predict import predict
from p2pser.config import FeatureSettings, ModelSettings, configured
from p2pser.features import audio, clip_features, voice
from p2pser.features.normalisation import Statistics
from p2pser.inference.answers import Answer
from p2pser.inference.predictor import Predictor
from p2pser.inference.recordings import files
from p2pser.inference.timeline import timeline
from p2pser.inference.words import transcripts
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.models.sets import Sets
from p2pser.run.card import card as card_of
from p2pser.simulation.engine import simulate


def test_three_lines_of_python(model: Path, tmp_path: Path) -> None:
    predictor = p2pser.load(model)
    (prediction,) = predictor.predict(tone(tmp_path / "a.wav", 900.0))
    assert prediction.label == "anger"
    assert prediction.path == tmp_path / "a.wav"
    assert set(prediction.probabilities) == set(PITCHES)
    assert sum(prediction.probabilities.values()) == pytest.approx(1.0)
    assert max(prediction.probabilities, key=prediction.probabilities.__getitem__) == prediction.label


def test_folders_and_several(model: Path, folder: Path, tmp_path: Path) -> None:
    predictor = p2pser.load(model)
    alone = tone(tmp_path / "low.wav", 150.0)
    predictions = predictor.predict([folder / "anger", alone])
    assert [p.label for p in predictions] == ["anger"] * 12 + ["sadness"]
    assert [p.path.parent.name for p in predictions[:12]] == ["spk0"] * 4 + ["spk1"] * 4 + ["spk2"] * 4


def test_a_recording_is_its_file_its_bytes_or_an_open_file(model: Path, tmp_path: Path) -> None:
    predictor, path = p2pser.load(model), tone(tmp_path / "a.wav", 900.0)
    (expected,) = predictor.predict(path)
    with path.open("rb") as file:
        found = predictor.predict([path.read_bytes(), file, str(path)])
    assert [each.path for each in found] == [None, None, path]
    assert [replace(each, path=path) for each in found] == [expected] * 3
    assert predictor.predict(path.read_bytes()) == [found[0]]
    frame = found.to_frame()
    assert list(frame["label"]) == ["anger"] * 3
    assert [each if isinstance(each, str) else None for each in frame["path"]] == [None, None, str(path)]
    assert frame["probabilities.sadness"][0] == expected.probabilities["sadness"]
    samples = soundfile.read(path, dtype="int16")[0]
    assert predictor.predict_signal(samples, RATE).to_dict() == found[0].to_dict()


def test_what_is_no_recording_is_refused(model: Path, tmp_path: Path) -> None:
    predictor, path = p2pser.load(model), tone(tmp_path / "a.wav", 900.0)
    (tmp_path / "a.txt").write_text("clip\n")
    with (tmp_path / "a.txt").open() as text, pytest.raises(CorpusError, match="open it in binary mode"):
        predictor.predict(text)  # type: ignore[arg-type]
    for given, kind in ((np.zeros(RATE), "ndarray"), (7, "int")):
        with pytest.raises(CorpusError, match=f"{kind} is no recording"):
            predictor.predict(given)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="no recording is named"):
        predictor.predict([])
    for content, reason in ((b"", "it is empty"), (b"some words", "it is text"),
                            (bytes(range(256)) * 9, "it is not a recording that can be read")):
        with pytest.raises(CorpusError, match=f"<recording 2>: {reason}"):
            predictor.predict([path, content])
    errors: list[tuple[Path, str]] = []
    assert len(predictor.predict([b"", path], errors=errors)) == 1
    assert errors == [(Path("<recording 1>"), "it is empty")]
    for given in ("", ["a.wav", ""]):
        with pytest.raises(CorpusError, match="the name of a recording is empty"):
            predictor.predict(given)
    for given in ("a\0b.wav", "a" * 5000 + ".wav", "a" * 5000 + ".csv"):
        with pytest.raises(CorpusError, match=r"cannot be opened|cannot read"):
            predictor.predict(given)
    with pytest.raises(CorpusError, match="a sampling rate of '16k'"):
        predictor.predict_signal(np.zeros(RATE), "16k")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="a sampling rate of 1:"):
        predictor.predict_signal(np.ones(20) * 0.1, 1)


def test_a_long_recording_has_no_single_answer(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = p2pser.load(model)
    assert predictor.predict(tone(tmp_path / "a.wav", 900.0, seconds=120.0))[0].label == "anger"
    long = tone(tmp_path / "long.wav", 900.0, seconds=150.0)
    with monkeypatch.context() as patch:  # not even an hour of it is decoded, or resampled, to be refused
        patch.setattr(audio, "usable", None)
        with pytest.raises(CorpusError, match=r"long\.wav: it lasts longer than 2 minutes, and one label says little"):
            predictor.predict(long)
    assert len(p2pser.timeline(predictor, tmp_path / "long.wav", window=50, hop=50)) == 3


def test_a_bad_clip_raises_or_is_listed(model: Path, tmp_path: Path) -> None:
    predictor = p2pser.load(model)
    good, bad = tone(tmp_path / "a.wav", 900.0), tmp_path / "b.wav"
    bad.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CorpusError, match="git-LFS"):
        predictor.predict([good, bad])
    errors: list[tuple[Path, str]] = []
    assert [p.path for p in predictor.predict([bad, good], errors=errors)] == [good]
    assert errors[0][0] == bad
    assert errors[0][1].startswith("it is a git-LFS pointer")
    assert predictor.predict([bad], errors=errors) == []
    with pytest.raises(CorpusError, match="no recording is named"):
        predictor.predict([])


def test_warns_once_without_enrolment(speaker_model: Path, tmp_path: Path) -> None:
    clip = tone(tmp_path / "a.wav", 900.0)
    predictor = p2pser.load(speaker_model)
    with pytest.warns(UserWarning, match="each speaker's own feature statistics"):
        predictor.predict(clip)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor.predict(clip)
        p2pser.load(speaker_model).predict(clip, enrol=clip)


def test_the_warning_says_whose_statistics_serve_without_enrolment(speaker_model: Path) -> None:
    predictor = p2pser.load(speaker_model)
    assert "it uses those of the training speakers, and" in predictor.note()
    own = {**predictor.card.training, "statistics_of": "peer 3's own 12 clips (1 speaker)"}
    predictor.card = replace(predictor.card, training=own)
    assert "it uses those of peer 3's own 12 clips (1 speaker), and it errs more often" in predictor.note()


def test_synthetic_model_warns(folder: Path, tmp_path: Path) -> None:
    directory.save(tmp_path / "m", *trained(folder, "global", synthetic=True))
    with pytest.warns(UserWarning, match="for trying the system only"):
        p2pser.load(tmp_path / "m").predict(tone(tmp_path / "a.wav", 900.0))


def test_enrolment_changes_the_answers_of_a_speaker_model(speaker_model: Path, model: Path, tmp_path: Path) -> None:
    clip = tone(tmp_path / "a.wav", 900.0)
    others = [tone(tmp_path / f"e{k}.wav", 700.0 + 100 * k) for k in range(4)]
    predictor = p2pser.load(speaker_model)
    own = predictor.predict(clip, enrol=others)[0].probabilities
    with pytest.warns(UserWarning, match="errs more often"):
        assert own != predictor.predict(clip)[0].probabilities
    assert p2pser.load(model).enrol(others) is None
    assert predictor.predict(clip, enrol=[path.read_bytes() for path in others])[0].probabilities == own
    with pytest.raises(CorpusError, match="<recording 2> cannot be enrolled: it is empty"):
        predictor.enrol([others[0].read_bytes(), b""])
    missing = tmp_path / "missing.wav"
    with pytest.raises(CorpusError, match=r"^.*missing.wav cannot be enrolled: the file is missing$"):
        predictor.enrol(missing)
    errors: list[tuple[Path, str]] = []
    left = predictor.enrol([missing, *others], errors)
    assert left is not None
    assert left.heard == 4
    assert errors == [(missing, "cannot be enrolled: the file is missing")]
    with pytest.raises(CorpusError, match=r"^no recording is left to enrol: .*missing.wav cannot be enrolled: "):
        predictor.enrol(missing, errors)


def test_a_bad_recording_to_enrol_costs_only_itself(speaker_model: Path, model: Path, tmp_path: Path) -> None:
    clip = tone(tmp_path / "own" / "a.wav", 900.0)
    (tmp_path / "own" / "b.wav").write_bytes(b"")
    shown = CliRunner().invoke(predict, [str(speaker_model), str(clip), "--enrol", str(tmp_path / "own")])
    assert shown.exit_code == 2
    assert shown.stdout.startswith(f"{clip}  ")
    assert "b.wav: cannot be enrolled: it is empty" in shown.stderr
    assert "--enrol has no effect" in CliRunner().invoke(predict, [str(model), str(clip), "--enrol", str(clip)]).stderr


def end_with_the_threads_of_a_fork(model: Path) -> None:
    p2pser.load(model)
    torch.set_num_threads(3)
    if not (child := os.fork()):
        os._exit(torch.get_num_threads())
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_a_process_that_is_forked_predicts_with_one_thread(model: Path) -> None:
    """The threads of torch are not there after a fork: a job for several would wait for them for ever."""
    with Forked(partial(end_with_the_threads_of_a_fork, model)) as process:
        assert process.wait(180) == 1, process.communicate()


def test_a_saved_model_takes_its_features_in_the_order_of_its_card(tmp_path: Path) -> None:
    settings = FeatureSettings(kind="mfcc+chroma", n_mfcc=8, n_mels=16, deltas=0, seconds=0.5)
    model = ModelSettings(name="cnn1d", hidden=(4,))
    shape = (8 + 12, 50)
    module = models.build(model, shape, 2, seed=0)
    statistics = Statistics(10.0, np.arange(20.0), np.arange(1.0, 21.0))
    card = Card(labels=("sadness", "anger"), shape=shape, model=model, features=settings, normalise="global",
                statistics=statistics, corpus=Origin("tones", "1"))
    directory.save(tmp_path / "model", Schema.of(module).flatten(module), Schema.of(module), card)
    loaded = p2pser.load(tmp_path / "model")
    assert loaded.labels == ("sadness", "anger")
    signal = np.float32(0.3) * np.sin(np.arange(8000, dtype=np.float32) / 5)
    parts = [clip_features.compute(signal, settings.model_copy(update={"kind": kind})) for kind in ("mfcc", "chroma")]
    np.testing.assert_array_equal(loaded.features(signal), np.concatenate(parts))
    expected = Predictor(module, card).predict_signal(signal, 16000)
    assert loaded.predict_signal(signal, 16000) == expected


def test_the_most_probable_emotions_come_first() -> None:
    answer = Answer("fear", {"anger": 0.2, "fear": 0.5, "joy": 0.3}, {})
    assert answer.top(2) == [("fear", 0.5), ("joy", 0.3)]


def test_missing_statistics_are_refused_in_one_sentence(folder: Path) -> None:
    row, schema, card = trained(folder, "speaker")
    module = models.build(card.model, card.shape, 2, seed=0)
    bare = Card(**{**vars(card), "statistics": None})
    with pytest.raises(ModelError, match="enrol the speaker"):
        Predictor(module, bare).answers(np.zeros((1, *card.shape), dtype=np.float32))
    assert schema.size == len(row)


def test_cli_predict(model: Path, tmp_path: Path) -> None:
    good, bad = tone(tmp_path / "a.wav", 900.0), tmp_path / "b.wav"
    bad.write_text("not audio")
    done = CliRunner().invoke(predict, [str(model), str(good), str(bad), "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 2
    assert document["predictions"][0]["label"] == "anger"
    assert [error["path"] for error in document["errors"]] == [str(bad)]
    assert str(bad) in done.stderr
    plain = CliRunner().invoke(predict, [str(model), str(good)])
    assert plain.exit_code == 0
    assert plain.stdout.startswith(f"{good}  not sure: no speech: pure tones, as of a signal  (anger ")
    assert (document["predictions"][0]["answer"], document["predictions"][0]["sure"]) == ("not sure", False)


def test_a_folder_that_cannot_be_read_costs_only_its_own_recordings(model: Path, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    good, locked, listed = tone(tmp_path / "a.wav", 900.0), tmp_path / "locked", os.scandir
    locked.mkdir()

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    done = CliRunner().invoke(predict, [str(model), str(tmp_path)])
    assert done.exit_code == 2
    assert done.stdout.startswith(f"{good}  ")
    assert f"{locked}: it is a folder that cannot be read" in done.stderr


def test_sets_and_what_is_unlike_the_training(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = p2pser.load(model).card
    sets = Sets({0.8: 0.9, 0.9: 0.2, 0.95: 0.0}, 6, 60, far=1e6)
    tell, module = replace(card, sets=(sets,)), torch.nn.Linear(1, 1)
    monkeypatch.setattr(voice, "no_speech", lambda signal, rate: None)
    features = np.zeros((1, *card.shape), dtype=np.float32)
    for coverage, logits, answer, reason in ((0.8, [[0.2, 0.0]], "anger", None), (0.95, [[9.0, 0.0]], "not sure",
                                             "2 of 2 emotions are possible at 95 %"),
                                             (0.9, [[0.2, 0.0]], "not sure", "2 of 2 emotions are possible at 90 %"),
                                             (0.9, [[0.0, 9.0]], "sadness", None)):
        predictor = Predictor(module, tell, coverage)
        monkeypatch.setattr(predictor, "run", lambda scaled, logits=logits: np.array(logits))
        monkeypatch.setattr(predictor, "temperatures", lambda scaled, own: np.ones(1))
        said = predictor.answers(features)[0]
        assert (said.answer, said.to_dict()["reason"], said.sure) == (answer, reason, reason is None)
        assert said.coverage == coverage
    far = Predictor(module, replace(card, sets=(replace(sets, far=0.5),)))
    monkeypatch.setattr(far, "run", lambda scaled: np.array([[0.0, 9.0]]))
    assert far.answers(features + 1e6)[0].unsure.startswith("unlike the recordings of the training (distance 8.0, ")
    with pytest.raises(ConfigError, match="a coverage of 2"):
        p2pser.load(model, coverage=2)


def test_sets_of_speakers_own_statistics_are_not_given_without_them(speaker_model: Path) -> None:
    card = p2pser.load(speaker_model).card
    sets = Sets({0.8: 0.9, 0.9: 0.2, 0.95: 0.0}, 6, 60, heard=5)
    predictor = Predictor(torch.nn.Linear(1, 1), replace(card, sets=(sets,)))
    predictor.run = lambda scaled: np.array([[0.0, 9.0]])  # type: ignore[method-assign]
    features = np.zeros((1, *card.shape), dtype=np.float32)
    assert card.statistics is not None
    own = replace(card.statistics, heard=7)
    assert predictor.answers(features)[0].emotions == ()
    assert predictor.answers(features, own)[0].emotions == ("sadness",)


def test_the_table_keeps_its_columns_and_says_what_is_not_sure(model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(predict, [str(model), str(tone(tmp_path / "a.wav", 900.0)), "--csv",
                                        str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    head, line = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert head == "path,label,p_anger,p_sadness,answer,set,reason"
    assert line.split(",")[1] == "anger"
    assert 'not sure,,"no speech: pure tones, as of a signal"' in line


def test_cli_predict_prints_the_limits_of_the_model(speaker_model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(predict, [str(speaker_model), str(tone(tmp_path / "a.wav", 900.0))])
    assert done.exit_code == 0
    assert "own feature statistics" in done.stderr


def test_a_model_of_own_arrays_rates_features_and_no_recordings(tmp_path: Path) -> None:
    """Functionals of recordings may have the arrays' length, and mean something else."""
    names = ["anger", "sadness"] * 3
    data = p2pser.federate(peers=2, features=np.eye(6, 684), labels=names, speakers=["a", "b", "c"] * 2,
                           settings={"features.normalise": "none"})
    config = configured({"training.rounds": 1, "model.hidden": [2], "features.normalise": "none"})
    graph = p2pser.topology("ring", peers=2)
    run = simulate(config, graph, data)
    card = card_of(run.config, graph, data, run.statistics, agreed=None)
    directory.save(tmp_path / "model", run.row, run.schema, card)
    model = p2pser.load(tmp_path / "model")
    assert len(model.answers(np.eye(2, 684, dtype=np.float32))) == 2
    with pytest.raises(ModelError, match="pass such features to Predictor"):
        model.predict(tone(tmp_path / "clip.wav", 200.0))


def test_remarks_are_not_those_of_another_thread_s_recordings(model: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, whole, cut = p2pser.load(model), tone(tmp_path / "a.wav", 900.0), tmp_path / "b.wav"
    cut.write_bytes(whole.read_bytes()[:9000])
    features, others = Predictor.features, iter([cut])

    def meanwhile(self: Predictor, signal: np.ndarray, text: str = "") -> np.ndarray:
        for path in others:  # as if a second thread asked while the first computes
            predictor.predict(path)
            assert len(predictor.remarks) == 1
        return features(self, signal, text)

    monkeypatch.setattr(Predictor, "features", meanwhile)
    predictor.predict(whole)
    assert predictor.remarks == ()


def test_recordings_that_end_early_are_told(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.wav", np.sin(np.arange(RATE) / 5), RATE)
    wav = (tmp_path / "whole.wav").read_bytes()
    row, schema, card = trained(folder, "global")
    directory.save(tmp_path / "model", row, schema, card)
    assert "AI Act" in json.loads((tmp_path / "model" / "card.json").read_text())["use"]
    predictor = p2pser.load(tmp_path / "model")
    predictor.predict([wav, wav[:20000]], together=False)
    assert predictor.remarks[0].startswith("1 of 2 recordings end early")
    predictor.predict(wav)
    assert not any("early" in remark for remark in predictor.remarks)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_is_read_as_editors_save_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes("a.wav\r\n# no clip\r\nsub/ü.wav\r\n".encode(encoding))
    assert files(tmp_path / "list.txt") == [tmp_path / "a.wav", tmp_path / "sub" / "ü.wav"]


def test_a_manifest_of_recordings_without_labels_is_predicted(model: Path, tmp_path: Path) -> None:
    tone(tmp_path / "high.wav", 900.0)
    tone(tmp_path / "low.wav", 150.0)
    for text in ("path\nhigh.wav\nlow.wav\n", "path,emotion\nhigh.wav,\nlow.wav,sadness\n"):
        (tmp_path / "clips.csv").write_text(text)
        assert [each.label for each in p2pser.load(model).predict(tmp_path / "clips.csv")] == ["anger", "sadness"]


def test_transcripts_count_where_a_row_has_no_label(tmp_path: Path) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        path.touch()
    for head in ("path,transcript,emotion", "path,transcript,mood"):
        (tmp_path / "clips.csv").write_text(f"{head}\na.wav,so glad,\nb.wav,go away,joy\n")
        assert transcripts(files(tmp_path / "clips.csv"), tmp_path / "clips.csv") == ["so glad", "go away"]


def test_a_model_whose_answers_are_not_finite_gives_none(folder: Path, tmp_path: Path) -> None:
    row, schema, card = trained(folder, "global")
    directory.save(tmp_path / "model", torch.full_like(row, 3e38), schema, card)
    with pytest.raises(ModelError, match="no finite numbers"):
        p2pser.load(tmp_path / "model").predict(tone(tmp_path / "a.wav", 900.0))


@pytest.mark.parametrize("window", [1e6, 1e308, float("inf")])
def test_a_window_of_any_length_is_the_whole_recording(model: Path, tmp_path: Path, window: float) -> None:
    predictor, path = p2pser.load(model), tone(tmp_path / "a.wav", 900.0)
    for hop in (1.0, window):
        assert [(each.start, each.end) for each in timeline(predictor, path, window=window, hop=hop)] == [(0.0, 0.5)]
