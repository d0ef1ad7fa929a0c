"""Adapters: real corpora clip by clip, and folders as users have them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from p2pser.errors import CorpusError
from p2pser.speech.corpora import NAMES, load, recognise
from p2pser.speech.emotions import canonical
from p2pser.speech.folds import folds
from p2pser.speech.manifest import UNKNOWN


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(("name", "clips", "version"), [("emodb", 535, "1"), ("ravdess", 1440, "1.0.0")])
def test_agrees_with_the_list_clip_by_clip(shared_data: Path, name: str, clips: int, version: str) -> None:
    with (shared_data / f"{name}.expected.csv").open(encoding="utf-8") as file:
        expected = sorted(csv.DictReader(file), key=lambda row: row["path"])
    corpus = load(name, shared_data / name)
    assert len(corpus.clips) == len(expected) == clips
    for clip, row in zip(corpus.clips, expected):
        got = (corpus.relative(clip), clip.speaker, clip.gender, clip.language, clip.emotion)
        assert got == (row["path"], row["speaker"], row["gender"], row["language"], canonical(row["emotion"]))
        assert clip.extra.get("intensity") == row.get("intensity")
        assert clip.transcript == ""
    assert corpus.left_out == ()
    assert corpus.version == version
    assert load("auto", shared_data / name) == corpus


def test_emodb_names(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Tb.WAV", "wav/readme.wav", "wav/03a01Xa.wav", "other/03a01Fa.flac",
          "erkennung.txt", "wav/._03a01Fa.wav", "__MACOSX/wav/03a01Wa.wav")
    corpus = load("emodb", tmp_path)
    assert [(c.speaker, c.gender, c.emotion, c.extra["text"], c.extra["take"]) for c in corpus.clips] == [
        ("03", "m", "happiness", "a01", "a"), ("16", "f", "sadness", "b10", "b")]
    reasons = {path.relative_to(tmp_path).as_posix(): why for path, why in corpus.left_out}
    assert set(reasons) == {"wav/readme.wav", "wav/03a01Xa.wav", "wav/03a01Fa.wav"}
    assert "second copy of other/03a01Fa.flac" in reasons["wav/03a01Fa.wav"]
    assert "no emotion 'X'" in reasons["wav/03a01Xa.wav"]
    assert corpus.default_split == "loso"
    assert "2 clips" in corpus.version


def test_ravdess_names(tmp_path: Path) -> None:
    touch(tmp_path, "Actor_16/03-01-05-02-01-02-16.wav", "Actor_16/03-02-05-02-01-02-16.wav",
          "Actor_16/01-01-05-02-01-02-16.wav", "Actor_25/03-01-05-02-01-02-25.wav", "Actor_01/03-01-01-01-02-01-01.wav")
    corpus = load("auto", tmp_path)
    assert corpus.name == "ravdess"
    assert [(c.speaker, c.gender, c.emotion, c.extra["intensity"]) for c in corpus.clips] == [
        ("01", "m", "neutral", "normal"), ("16", "f", "anger", "strong")]
    assert Counter(why.split(":")[0] for _, why in corpus.left_out) == Counter(
        ["a song, not speech", "modality 01", "RAVDESS has no emotion 05, intensity 02 of actor 25"])
    assert corpus.default_split == "group:2"


def test_a_folder_an_emotion(tmp_path: Path) -> None:
    touch(tmp_path, "Angry/anna/1.wav", "Angry/ben/1.wav", "happy/anna/deep/1.flac", "stray.wav", "happy/notes.txt")
    corpus = load("auto", tmp_path)
    assert [(corpus.relative(c), c.emotion, c.speaker) for c in corpus.clips] == [
        ("Angry/anna/1.wav", "anger", "anna"), ("Angry/ben/1.wav", "anger", "ben"),
        ("happy/anna/deep/1.flac", "happiness", "anna/deep")]
    assert [path.name for path, _ in corpus.left_out] == ["stray.wav"]
    assert corpus.default_normalise == "speaker"


def test_a_folder_without_speakers_cannot_be_split_disjointly(tmp_path: Path) -> None:
    corpus = load("folder", touch(tmp_path, "sad/anna_1.wav", "sad/ben_1.wav", "joy/anna_2.wav", "joy/ben_2.wav"))
    assert corpus.speakers == (UNKNOWN,)
    assert corpus.labels == ("happiness", "sadness")
    assert corpus.default_normalise == "global"
    with pytest.raises(CorpusError, match="not every clip has a named speaker"):
        folds(corpus, "auto")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "real", "sad/a/1.wav")
    (tmp_path / "real" / "sad" / "a" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "data").symlink_to(tmp_path / "real")
    assert len(load("folder", tmp_path / "data").clips) == 1


def test_auto_recognises_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "x/03a01Fa.wav")
    (tmp_path / "manifest.csv").write_text("path,emotion\nx/03a01Fa.wav,calm\n")
    assert recognise(tmp_path) == "manifest"
    assert load("auto", tmp_path).clips[0].emotion == "calm"
    assert load("auto", tmp_path / "manifest.csv").clips == load("manifest", tmp_path).clips


@pytest.mark.parametrize("name", ["emodb", "ravdess", "folder", "manifest", "auto"])
def test_missing_and_empty_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=r"no folder|cannot read"):
        load(name, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"holds no recordings|cannot read the manifest"):
        load(name, tmp_path / "empty")
    if name != "auto":
        with pytest.raises(CorpusError, match="--data"):
            load(name, None)


def test_what_is_not_recognised_says_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    with pytest.raises(CorpusError, match=r"one folder an emotion, or list them in a manifest\.csv"):
        load("auto", tmp_path)
    with pytest.raises(CorpusError, match="none of the 2 recordings"):
        load("emodb", tmp_path)
    with pytest.raises(CorpusError, match="lies in a sub-folder"):
        load("folder", tmp_path)
    with pytest.raises(CorpusError, match="neither a folder nor a manifest"):
        load("auto", tmp_path / "1.wav")


def test_unknown_corpus_names_the_nearest() -> None:
    with pytest.raises(CorpusError, match="did you mean 'ravdess'"):
        load("ravdes", None)
    with pytest.raises(CorpusError, match="takes no data"):
        load("synthetic", Path("x"))
    assert set(NAMES) == {"synthetic", "emodb", "ravdess", "folder", "manifest", "auto"}


@pytest.mark.parametrize(
    ("label", "name"),
    [("Angry", "anger"), (" sad ", "sadness"), ("ps", "surprise"), ("Irony", "irony"),
     ("pleasant surprise", "surprise"), ("neutral", "neutral")],
)
def test_usual_names_of_emotions(label: str, name: str) -> None:
    assert canonical(label) == name
    assert canonical(name) == name
