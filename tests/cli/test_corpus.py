"""``p2pser corpus``: what is there, what is wrong with it, and the synthetic corpus copied out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from p2pser.cli.corpus import corpus
from p2pser.errors import CorpusError
from p2pser.speech import synthetic
from p2pser.speech.corpora import NAMES
from p2pser.speech.manifest import Corpus, read_manifest


def run(*arguments: str) -> Result:
    return CliRunner().invoke(corpus, arguments)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two good clips of two speakers and two bad files, in one folder an emotion."""
    tone = 0.1 * np.sin(np.arange(8000) / 5)
    for name in ("angry/a/1.wav", "sad/b/1.wav"):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True)
        soundfile.write(path, tone, 16000)
    (tmp_path / "clips" / "sad" / "b" / "2.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "clips" / "sad" / "b" / "3.wav").write_text("not a recording")
    return tmp_path / "clips"


def test_list_names_every_corpus() -> None:
    assert [item["name"] for item in json.loads(run("list", "--json").stdout)] == list(NAMES)
    assert all(name in run("list").stdout for name in NAMES)


def test_scan_counts_what_is_good_and_names_what_is_not(clips: Path) -> None:
    found = json.loads(run("scan", str(clips), "--json").stdout)
    assert (found["clips"], found["seconds"]) == (2, 1.0)
    assert found["emotions"] == {"anger": 1, "sadness": 1}
    assert found["speakers"] == {"a": 1, "b": 1}
    assert [Path(item["path"]).name for item in found["left_out"]] == ["2.wav", "3.wav"]
    assert "git-LFS pointer" in found["left_out"][0]["reason"]
    assert "text file" in found["left_out"][1]["reason"]
    text = run("scan", str(clips))
    assert "2 clips" in text.stdout
    assert "git-LFS" in text.stderr
    assert "git-LFS" not in text.stdout


def test_scan_fails_where_nothing_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "sad" / "a").mkdir(parents=True)
    (tmp_path / "sad" / "a" / "1.wav").write_text("not a recording")
    result = run("scan", str(tmp_path))
    assert isinstance(result.exception, CorpusError)
    assert "text file" in str(result.exception)


def test_make_copies_the_synthetic_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra: synthetic)")
    small = synthetic.generate(tmp_path / "made", 0, speakers=2)

    def two_speakers(seed: int = 0, language: str | None = None) -> Corpus:
        return small

    monkeypatch.setattr(synthetic, "corpus", two_speakers)
    result = run("make", "--out", str(tmp_path / "out"), "--json")
    assert json.loads(result.stdout)["clips"] == 50
    copied = read_manifest(tmp_path / "out" / "manifest.csv")
    assert copied.synthetic
    assert [clip.path.read_bytes() for clip in copied.clips] == [clip.path.read_bytes() for clip in small.clips]
    again = run("make", "--out", str(tmp_path / "out"))
    assert isinstance(again.exception, CorpusError)
    assert "not an empty folder" in str(again.exception)


@pytest.mark.parametrize("command", ["list", "scan", "describe", "make"])
def test_every_help_has_an_example(command: str) -> None:
    assert "Example: p2pser corpus" in run(command, "--help").stdout
