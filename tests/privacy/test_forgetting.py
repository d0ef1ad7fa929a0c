"""``p2pser forget``: the clips of a speaker are used by no later start, and the receipt says what remains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.peer.folder import PeerFolder
from p2pser.peer.process import Peer
from p2pser.privacy.forgetting import forget
from p2pser.privacy.remains import Figure, Remains
from p2pser.run import checkpoint

TOPOLOGY = load("chain", peers=2)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    rows = [f"{speaker}-{k}.wav,{speaker},{emotion}" for speaker in ("ann", "bob")
            for k, emotion in enumerate(("joy", "anger", "joy"))]
    for row in rows:
        (tmp_path / row.partition(",")[0]).touch()
    (tmp_path / "manifest.csv").write_text("\n".join(["path,speaker,emotion", *rows, ""]), encoding="utf-8")
    return Config().with_settings([f"peer.out={tmp_path / 'runs'}", "corpus.name=manifest", f"corpus.data={tmp_path}",
                                   "corpus.partition=own", "corpus.split=none"])


def folder(config: Config) -> PeerFolder:
    return PeerFolder(config, TOPOLOGY, 1)


def with_checkpoint(config: Config, round: int) -> None:
    checkpoint.save(folder(config).checkpoints, round, {"x": torch.zeros(1, 2)}, {}, {})


def test_the_next_start_reads_none_of_the_speakers_clips(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(config, TOPOLOGY, 1, "bob")
    asked = {}
    monkeypatch.setattr("p2pser.peer.process.federate", lambda *_, **options: asked.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Peer(config, TOPOLOGY, 1).prepare()
    assert asked["forgotten"] == ("bob",)
    forget(config, TOPOLOGY, 1, "ann")
    with folder(config) as locked:
        locked.claim(fresh=True)
    assert folder(config).forgotten() == ("ann", "bob")  # --fresh forgets a run, not whom to forget


def test_the_receipt_says_what_remains(config: Config) -> None:
    assert "no checkpoint" in forget(config, TOPOLOGY, 1, "bob")["remains"][0]
    with_checkpoint(config, 5)
    assert "has begun its present parameters without these clips" in forget(config, TOPOLOGY, 1, "bob")["remains"][0]
    receipt = forget(config, TOPOLOGY, 1, "ann")
    assert "resumes at round 5" in receipt["remains"][0]
    assert checkpoint.available(folder(config).checkpoints) == [5]
    assert (receipt["clips"], receipt["peer"], receipt["run"], receipt["retrain"]) == (3, 1, "run", False)
    assert "resumes at round 5" in forget(config, TOPOLOGY, 1, "ann")["remains"][0]
    removed = forget(config, TOPOLOGY, 1, "bob", retrain=True)
    assert "checkpoints and model are removed" in removed["remains"][0]
    assert checkpoint.available(folder(config).checkpoints) == []
    written = sorted(folder(config).receipts.iterdir())
    assert [path.name for path in written] == [f"forget-{number:04d}.json" for number in range(5)]
    assert json.loads(written[2].read_text(encoding="utf-8")) == receipt
    assert {path.stat().st_mode & 0o777 for path in (*written, folder(config).forgotten_file)} == {0o600}


def test_a_finished_run_was_trained_on_who_is_forgotten_later(config: Config) -> None:
    forget(config, TOPOLOGY, 1, "bob")
    folder(config).finish({"finished": True})
    assert "the run has finished" in forget(config, TOPOLOGY, 1, "ann")["remains"][0]
    assert "without these clips" in forget(config, TOPOLOGY, 1, "bob")["remains"][0]


@pytest.mark.parametrize("problem", [CorpusError("no clips"), RuntimeError("a plug-in's")])
def test_a_speaker_is_forgotten_though_measuring_fails(config: Config, monkeypatch: pytest.MonkeyPatch,
                                                       problem: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        assert folder(config).forgotten() == ("bob",)  # before anything is measured
        raise problem

    monkeypatch.setattr("p2pser.privacy.forgetting.measure", fails)
    receipt = forget(config, TOPOLOGY, 1, "bob")
    assert receipt["remains"][-1].startswith("how much this peer's parameters tell of the speaker was not measured: ")
    assert str(problem) in receipt["remains"][-1]
    assert (receipt["measured"], receipt["before"]) == ([], None)


def test_recordings_that_are_gone_cannot_be_measured(config: Config, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    forget(config, TOPOLOGY, 1, "bob")
    manifest.write_text("\n".join(line for line in lines if "bob" not in line), encoding="utf-8")
    receipt = forget(config, TOPOLOGY, 1, "bob")
    assert "the speaker's recordings are no longer among this peer's data" in receipt["remains"][-1]
    assert receipt["clips"] == 0
    manifest.unlink()
    assert forget(config, TOPOLOGY, 1, "bob")["clips"] == 0
    with pytest.raises(CorpusError):
        forget(config, TOPOLOGY, 1, "ann")


def test_what_cannot_be_measured_is_named(config: Config, tmp_path: Path) -> None:
    lines = (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()
    rated = [f"{lines[0]},arousal", *(f"{line},0.5" for line in lines[1:])]
    (tmp_path / "manifest.csv").write_text("\n".join(rated), encoding="utf-8")
    both = config.with_settings(["training.task=both", "name=both"])
    assert "training.task is both" in forget(both, TOPOLOGY, 1, "bob")["remains"][-1]
    with_checkpoint(config, 5)
    held_out = config.with_settings(["corpus.split=speakers:ann"])
    here, recordings, figures = forget(held_out, TOPOLOGY, 1, "ann")["remains"]
    assert here == "this peer has not trained on these clips, which are held out"
    assert "are still there" in recordings
    assert figures.endswith("was not measured: these clips are held out of training")


def test_a_speaker_whose_consent_is_over_is_forgotten_too(config: Config, tmp_path: Path) -> None:
    lines = (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()
    until = [f"{lines[0]},consent_until", *(f"{line},{2020 if 'bob' in line else 9000}-01-31" for line in lines[1:])]
    (tmp_path / "manifest.csv").write_text("\n".join(until), encoding="utf-8")
    with_checkpoint(config, 5)
    receipt = forget(config, TOPOLOGY, 1, "bob")
    assert (receipt["clips"], receipt["measured"]) == (3, [])
    assert folder(config).forgotten() == ("bob",)


def test_the_first_figures_stand_beside_later_ones(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.83, 0.75, 0.52])

    def found(*_: object, learned: bool, **__: object) -> list[Remains]:
        asked.append(learned)
        value = next(values)
        return [Remains("the model", Figure(value, value - 0.1, value + 0.05, 7, 1), Figure(0.81, 0.75, 0.9, 20, 3), 2,
                        30, (0.4, 0.6), 0.55, "EXCEEDED")]

    asked: list[bool] = []
    monkeypatch.setattr("p2pser.privacy.forgetting.measure", found)
    with_checkpoint(config, 5)
    first = forget(config, TOPOLOGY, 1, "bob")
    forget(config, TOPOLOGY, 1, "bob", retrain=True)
    with_checkpoint(config, 2)
    (folder(config).receipts / "forget-0000x.json").write_text("{", encoding="utf-8")
    last = forget(config, TOPOLOGY, 1, "bob")
    assert asked == [True, True, False]
    assert last["before"] == {"time": first["time"], "measured": first["measured"]}
    now, before = last["remains"][-3:-1]
    assert now == (
        "the model: its loss distinguishes 7 clips of the speaker from 30 clips of 2 strangers with AUC 0.52 "
        "[0.42, 0.57] (0.50: no more is known than of a stranger; limit 0.55: EXCEEDED); 3 other speakers of this "
        "peer, who stay: 0.81 [0.75, 0.90]; each stranger against the others: 0.40 to 0.60")
    assert before == (f"before, by the receipt of {first['time']}: 0.83 [0.73, 0.88], the others 0.81 [0.75, 0.90] "
                      "(the model)")
