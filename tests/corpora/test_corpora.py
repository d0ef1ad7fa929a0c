"""Adapters: real corpora clip by clip, and folders as users have them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.adapters.emodb import EMOTIONS, GENDERS, TEXTS
from p2pser.corpora.emotions import canonical
from p2pser.corpora.folds import folds
from p2pser.corpora.loading import load, names, recognise
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus
from p2pser.corpora.survey import survey


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def expected(shared_data: Path, name: str) -> list[dict[str, str]]:
    with (shared_data / f"{name}.expected.csv").open(encoding="utf-8") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["path"])


def as_row(corpus: Corpus, clip: Clip, columns: Iterable[str]) -> dict[str, str]:
    """What the adapter read of a clip, under the list's names of columns."""
    dimensions = {name: getattr(clip, name) for name in ("arousal", "valence", "dominance")}
    row = {"path": corpus.relative(clip), "speaker": clip.speaker, "gender": clip.gender, "language": clip.language,
           "emotion": clip.emotion or "", "transcript": clip.transcript,
           **{name: "" if value is None else repr(value) for name, value in dimensions.items()}}
    return {name: row[name] if name in row else clip.extra[name] for name in columns}


@pytest.mark.parametrize(("name", "clips", "version"), [("emodb", 535, "1"), ("ravdess", 1440, "1.0.0")])
def test_agrees_with_the_list_clip_by_clip(
    shared_data: Path, tmp_path: Path, name: str, clips: int, version: str
) -> None:
    rows = expected(shared_data, name)
    folder = shared_data / name
    if name == "emodb":  # the judgements are in a table beside the recordings, which the shared copy lacks
        folder = tmp_path / "download"
        folder.mkdir()
        (folder / "wav").symlink_to(shared_data / "emodb")
        table = "".join(f"{row['path'].replace('.flac', '.wav')}\t{row['recognition_pct'].replace('.', ',')}\xa0\t"
                        f"{row['naturalness_pct'].replace('.', ',')}\r\n" for row in rows)
        (folder / "erkennung.txt").write_bytes(f"Satz\terkannt\tnat\xfcrlich\r\n{table}".encode("latin-1"))
        rows = [{**row, "path": f"wav/{row['path']}"} for row in rows]
    corpus = load(name, folder)
    assert len(corpus.clips) == len(rows) == clips
    for clip, row in zip(corpus.clips, rows):
        assert as_row(corpus, clip, row) == {**row, "emotion": canonical(row["emotion"])}
    assert corpus.left_out == ()
    assert corpus.version == version
    assert load("auto", folder) == corpus


def test_recognition_rates_are_votes(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "wav/03a01Wa.wav", "wav/16b10Tb.wav")
    assert all(clip.votes == {} for clip in load("emodb", tmp_path).clips)
    (tmp_path / "db.emotion.csv").write_text("file,emotion,emotion.confidence\nwav/03a01Fa.wav,happiness,0.9\n"
                                             "wav/03a01Wa.wav,anger,\n")
    first, second, third = load("emodb", tmp_path / "wav").clips
    assert (first.votes, first.extra["recognition_pct"]) == ({"happiness": 0.9}, "90.00")
    assert (second.votes, third.votes) == ({}, {})
    assert "recognition_pct" not in second.extra
    (tmp_path / "listener_judgements.txt").write_text("sample\trecognized\tnatural\n16b10Tbxx.wav\t66,67%\t5,0\n")
    (tmp_path / "db.emotion.csv").unlink()
    third = load("emodb", tmp_path).clips[2]
    assert (third.extra["recognition_pct"], third.extra["naturalness_pct"]) == ("66.67", "5.00")
    assert third.votes == {"sadness": pytest.approx(0.6667)}


def test_emodb_2_has_laryngograms_of_the_same_names(tmp_path: Path) -> None:
    names = [f"{speaker}{text}{emotion}{take}" for speaker in GENDERS for text in TEXTS for emotion in EMOTIONS
             for take in "ab"][:816]
    touch(tmp_path, *(f"wav/{name}.wav" for name in names), *(f"laryngo/{name}.wav" for name in names))
    corpus = load("emodb", tmp_path)
    assert corpus.version == "2.0"
    assert {clip.path.parent.name for clip in corpus.clips} == {"wav"}
    assert {why.split(" (")[0] for _, why in corpus.left_out} == {"in laryngo: a laryngograph recording"}


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


def test_ravdess_songs(tmp_path: Path) -> None:
    touch(tmp_path, "03-01-05-02-01-02-16.wav", "03-02-05-02-01-02-16.wav", "03-02-02-02-02-02-01.wav")
    songs = load("ravdess:song", tmp_path)
    assert (songs.name, songs.version.rpartition(",")[0]) == ("ravdess:song", "1.0.0, 2 of 1012 clips")
    assert [(c.speaker, c.emotion, c.transcript, c.extra["channel"]) for c in songs.clips] == [
        ("01", "calm", "Dogs are sitting by the door.", "song"),
        ("16", "anger", "Kids are talking by the door.", "song")]
    assert [why for _, why in songs.left_out] == ["speech, not a song"]
    assert [clip.extra["channel"] for clip in load("ravdess:all", tmp_path).clips] == ["speech", "song", "song"]


def test_ravdess_holds_one_recording_twice(tmp_path: Path) -> None:
    touch(tmp_path, "03-01-03-01-02-01-07.wav", "03-01-03-01-02-02-07.wav", "03-01-03-01-02-02-08.wav")
    corpus = load("ravdess", tmp_path)
    assert [clip.extra.get("same_audio_as") for clip in corpus.clips] == [None, "03-01-03-01-02-01-07", None]
    assert corpus.notes == ("03-01-03-01-02-02-07 is the same recording as 03-01-03-01-02-01-07",)


def test_a_folder_an_emotion(tmp_path: Path) -> None:
    touch(tmp_path, "Angry/anna/1.wav", "Angry/ben/1.wav", "happy/anna/deep/1.flac", "stray.wav", "happy/notes.txt")
    corpus = load("auto", tmp_path)
    assert [(corpus.relative(c), c.emotion, c.speaker) for c in corpus.clips] == [
        ("Angry/anna/1.wav", "anger", "anna"), ("Angry/ben/1.wav", "anger", "ben"),
        ("happy/anna/deep/1.flac", "happiness", "anna/deep")]
    assert [path.name for path, _ in corpus.left_out] == ["stray.wav"]
    assert corpus.names_speakers


@pytest.mark.parametrize(("names", "wanted"), [
    (["train/anger/1.wav", "test/Sad/2.wav"], [("sadness", UNKNOWN), ("anger", UNKNOWN)]),
    (["train/gleeful/1.wav", "test/glum/2.wav"], [("glum", UNKNOWN), ("gleeful", UNKNOWN)]),
    (["anna/Freude/1.wav", "ben/Wut/2.wav", "ben/odd/3.wav"],
     [("happiness", "anna"), ("anger", "ben"), ("odd", "ben")]),
    (["train/anna/joy/1.wav", "val/ben/sad/2.wav"], [("happiness", "anna"), ("sadness", "ben")]),
    (["anger/train/anna/1.wav", "happy/test/ben/2.wav"], [("anger", "anna"), ("happiness", "ben")]),
    (["mine/anger/1.wav", "mine/sad/2.wav"], [("anger", "mine"), ("sadness", "mine")]),
    (["gleeful/anna/1.wav", "glum/ben/2.wav"], [("gleeful", "anna"), ("glum", "ben")]),
])
def test_the_folders_of_emotions_are_found(tmp_path: Path, names: list[str], wanted: list[tuple[str, str]]) -> None:
    corpus = load("auto", touch(tmp_path, *names))
    assert [(clip.emotion, clip.speaker) for clip in corpus.clips] == wanted


def test_how_folders_were_read_is_pointed_out(tmp_path: Path) -> None:
    (note,) = load("auto", touch(tmp_path / "a", "mine/anger/1.wav", "mine/sad/2.wav")).notes
    assert note == (f"the folder {tmp_path}/a/mine counts as the one speaker of all clips below it; if it names none, "
                    f"give --data {tmp_path}/a/mine")
    (note,) = load("auto", touch(tmp_path / "b", "train/anger/1.wav", "test/sad/2.wav")).notes
    assert note == f"the folders test, train in {tmp_path}/b are not taken as a split: p2pser makes its own"
    assert load("auto", touch(tmp_path / "c", "anna/anger/1.wav", "ben/sad/2.wav")).notes == ()


def test_folders_without_a_known_emotion_are_asked_about(tmp_path: Path) -> None:
    (note,) = load("auto", touch(tmp_path / "a", "mine/gleeful/1.wav", "mine/glum/2.wav")).notes
    assert note == ("no folder has the name of a known emotion: mine count as emotions, and the folders below, "
                    f"gleeful, glum, as speakers; if those are the emotions, give --data {tmp_path}/a/mine")
    (note,) = load("auto", touch(tmp_path / "b", "anna/gleeful/1.wav", "ben/glum/2.wav")).notes
    assert "if those are the emotions, make folders EMOTION/SPEAKER" in note
    assert load("auto", touch(tmp_path / "c", "gleeful/1.wav", "glum/2.wav")).notes == ()


def test_few_recordings_named_as_in_a_corpus_are_told_from_those_named_as_in_none(tmp_path: Path) -> None:
    esd = [f"0011/{emotion}/0011_{number:06d}.wav" for number, emotion in enumerate(["Angry", "Happy"] * 250, 1)]
    emodb = [f"berlin/03a{number:02d}Fa.wav" for number in range(30)]
    corpora, others = survey(touch(tmp_path, *esd, *emodb, "savee/DC_a01.wav", "savee/DC_sa02.wav", "odd/hello.wav"))
    assert [(corpus.name, len(corpus.clips)) for corpus in corpora] == [("esd", 500), ("emodb", 30)]
    why = "named as in savee, as only 2 of the 533 recordings are: give the folder that holds them, or --corpus savee"
    assert [(path.name, reason) for path, reason in others] == [
        ("hello.wav", "named as in none of these corpora"), ("DC_a01.wav", why), ("DC_sa02.wav", why)]


def test_folders_of_emotions_win_over_names_that_some_files_have(tmp_path: Path) -> None:
    named = [f"sad/anna/03a0{number}Fa.wav" for number in range(9)]
    corpus = load("auto", touch(tmp_path, *named, *(f"happy/ben/{number}.wav" for number in range(5))))
    assert (len(corpus.clips), corpus.labels) == (14, ("happiness", "sadness"))
    assert corpus.notes == (f"9 of the 14 recordings in {tmp_path} are named as in emodb; their folders were read, not "
                            "their names (--corpus emodb reads the names)",)
    assert len(load("emodb", tmp_path).clips) == 9


def test_a_stray_file_makes_no_folder_of_emotions(tmp_path: Path) -> None:
    named = [f"0011/{emotion}/0011_{number:06d}.wav" for number, emotion in enumerate(["Angry", "Happy"] * 20, 1)]
    assert recognise(touch(tmp_path, *named, "0011/Sad/copy.wav")) == "esd"


def test_a_folder_without_speakers_cannot_be_split_disjointly(tmp_path: Path) -> None:
    corpus = load("folder", touch(tmp_path, "sad/anna_1.wav", "sad/ben_1.wav", "joy/anna_2.wav", "joy/ben_2.wav"))
    assert corpus.speakers == (UNKNOWN,)
    assert corpus.labels == ("happiness", "sadness")
    assert not corpus.names_speakers
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
    for path in (tmp_path / "none", Path("~nosuchuser/clips")):
        with pytest.raises(CorpusError, match=r"no folder|cannot read"):
            load(name, path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"holds no recordings|cannot read the manifest"):
        load(name, tmp_path / "empty")
    if name != "auto":
        with pytest.raises(CorpusError, match="--data"):
            load(name, None)


def test_what_is_not_recognised_says_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    with pytest.raises(CorpusError, match=r"one folder for each emotion, or list them in a manifest\.csv"):
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
    with pytest.raises(CorpusError, match=r"'crema-d' has no variant 'vote'; did you mean 'voted'|no variant 'vote'"):
        load("crema-d:vote", Path("x"))
    with pytest.raises(CorpusError, match="no variant 'song': write tess alone"):
        load("tess:song", Path("x"))
    assert names() == ["synthetic", *CORPORA, "folder", "manifest", "auto"]


def test_several_corpora_in_one_folder_are_not_mistaken_for_one(tmp_path: Path) -> None:
    touch(tmp_path, "a/03a01Fa.wav", "a/03a01Wa.wav", "b/OAF_back_angry.wav")
    with pytest.raises(CorpusError, match=r"several corpora, emodb \(2 recordings\), tess \(1 recording\)"):
        load("auto", tmp_path)
    assert len(load("tess", tmp_path).clips) == 1


@pytest.mark.parametrize(
    ("label", "name"),
    [("Angry", "anger"), (" sad ", "sadness"), ("ps", "surprise"), ("Irony", "irony"),
     ("pleasant surprise", "surprise"), ("neutral", "neutral"), ("Cold\n  irony\x1b", "cold irony"),
     ("cold\u200birony", "cold irony")],
)
def test_usual_names_of_emotions(label: str, name: str) -> None:
    assert canonical(label) == name
    assert canonical(name) == name


@pytest.mark.parametrize(("name", "one", "other"), [
    ("folder", "anger/{}/1.wav", ("ann", "bob")), ("tess", "{}_back_angry.wav", ("OAF", "YAF")),
    ("emodb", "{}a01Fa.wav", ("03", "08")), ("ravdess", "03-01-05-02-01-02-{}.wav", ("01", "02")),
])
def test_other_clips_are_another_version(tmp_path: Path, name: str, one: str, other: tuple[str, str]) -> None:
    def version(place: str, *speakers: str, suffix: str = ".wav") -> str:
        names = [one.format(speaker).replace(".wav", suffix) for speaker in speakers]
        return load(name, touch(tmp_path / place / "wav", *names)).version

    assert version("a", other[0]) != version("b", other[1])
    assert version("c", other[0], suffix=".flac") == version("d", other[0])


def test_what_a_system_keeps_in_a_folder_is_no_recording(tmp_path: Path) -> None:
    touch(tmp_path, "anger/a/1.wav", "joy/b/1.wav", "lost+found/anger/x/1.wav", "$RECYCLE.BIN/S-1/1.wav",
          "joy/@eaDir/1.wav/SYNO.wav", "System Volume Information/1.wav", ".Trash-1000/1.wav", "anger/a/._1.wav")
    corpus = load("folder", tmp_path)
    assert ([corpus.relative(clip) for clip in corpus.clips], corpus.left_out) == (["anger/a/1.wav", "joy/b/1.wav"], ())
