"""``p2pser corpus split`` and corpora named on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.cli.common import which_corpus
from p2pser.cli.corpus import corpus


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for emotion in ("anger", "fear"):
        for speaker in "pqrs":
            path = tmp_path / "clips" / emotion / speaker / "1.wav"
            path.parent.mkdir(parents=True)
            path.touch()
    return tmp_path / "clips"


def test_split_writes_folders_and_says_what_they_hold(clips: Path, tmp_path: Path) -> None:
    arguments = ["split", str(clips), "--peers", "3", "--folds", "1", "--partition", "speaker", "--copy"]
    done = CliRunner().invoke(corpus, [*arguments, "--out", str(tmp_path / "one")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "peer-2" in done.stdout
    assert "2 clips of 1 speaker, clips" in done.stdout
    assert "--data peer-0/" in done.stdout
    document = json.loads(CliRunner().invoke(corpus, [*arguments, "--out", str(tmp_path / "two"), "--json"]).stdout)
    assert sorted(document["peers"]) == ["peer-0", "peer-1", "peer-2"]
    assert document["test"]["clips"] == 2
    for folder in ("one", "two"):
        assert len(list((tmp_path / folder).glob("*/*/*/1.wav"))) == 8
    with pytest.raises(CorpusError, match="is not an empty folder"):
        CliRunner().invoke(corpus, [*arguments, "--out", str(tmp_path / "one")], catch_exceptions=False)


@pytest.mark.parametrize(("text", "data", "expected"), [
    (None, None, (None, None)),
    (None, Path("d"), ("auto", Path("d"))),
    ("emodb", Path("d"), ("emodb", Path("d"))),
    ("emodb=a", None, ("emodb", "a")),
    ("emodb=a,ravdess=b,synthetic:es", None, ("emodb+ravdess+synthetic:es", ["a", "b", None])),
    ("emodb, ravdess", Path("d"), ("emodb+ravdess", Path("d"))),
    ("emodb+ravdess", Path("d"), ("emodb+ravdess", Path("d"))),
    ("crema-d:voted=x=y", None, ("crema-d:voted", "x=y")),
    ("nonsense", None, ("nonsense", None)),
])
def test_how_corpora_are_named(text: str | None, data: Path | None, expected: object) -> None:
    assert which_corpus(text, data) == expected


def test_a_path_is_a_corpus(clips: Path) -> None:
    odd = clips.parent / "a,b=c"
    odd.mkdir()
    assert which_corpus(str(clips), None) == ("auto", str(clips))
    assert which_corpus(str(odd), None) == ("auto", str(odd))
    assert which_corpus(f"{clips},synthetic", None) == ("auto+synthetic", [str(clips), None])
    with pytest.raises(ConfigError, match="names paths, and --data another"):
        which_corpus(f"folder={clips}", Path("d"))


def test_several_are_described_together(tmp_path: Path) -> None:
    for name, emotions in (("a", ("anger", "fear")), ("b", ("anger", "sadness"))):
        for emotion in emotions:
            path = tmp_path / name / emotion / "p" / "1.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, 0.1 * np.sin(np.arange(8000)), 16000)
    named = f"folder={tmp_path / 'a'},{tmp_path / 'b'}"
    document = json.loads(CliRunner().invoke(corpus, ["describe", named, "--json"], catch_exceptions=False).stdout)
    assert document["name"] == "a+b"
    assert document["default_split"] == "each"
    assert set(document["speakers"]) == {"a/p", "b/p"}
    assert document["emotions"] == {"anger": 2, "fear": 1, "sadness": 1}
