"""Manifests: what is written comes back, and what does not fit says where."""

from __future__ import annotations

import math
import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.corpora.consent import Consent
from p2pser.corpora.emotions import canonical
from p2pser.corpora.labels import choose_labels
from p2pser.corpora.loading import load
from p2pser.corpora.manifest import UNKNOWN, Clip, assemble, read_manifest, relative, write_manifest
from p2pser.corpora.manifest_rows import word

FIELD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), max_size=12)
"""What a field may hold; blanks at its ends are not kept, so none are drawn."""

NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def manifest(folder: Path, text: str, files: tuple[str, ...] = ("a.wav", "b.wav")) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / "clips.csv"
    path.write_text(text, encoding="utf-8")
    return path


def clips_of(folder: Path) -> st.SearchStrategy[list[Clip]]:
    def clip(number: int, **fields: object) -> Clip:
        path = folder / f"sub {number % 3}" / f"clip, {number}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return Clip(path=path, **fields)  # type: ignore[arg-type]

    one = st.builds(
        clip,
        number=st.integers(0, 999),
        speaker=FIELD.map(lambda text: word(text) or UNKNOWN),
        emotion=FIELD.map(canonical).filter(word),
        gender=st.sampled_from(["f", "m", ""]),
        language=st.sampled_from(["de", "en", ""]),
        arousal=NUMBER,
        valence=NUMBER,
        dominance=NUMBER,
        transcript=st.lists(FIELD.filter(bool), max_size=3).map('; ", '.join).map(str.strip),
        extra=st.dictionaries(st.sampled_from(["text", "intensity", "x,y"]), FIELD.filter(bool)),
        votes=st.dictionaries(FIELD.map(canonical).filter(bool), st.floats(1e-9, 0.25), max_size=4),
    )
    return st.lists(one, min_size=1, max_size=6, unique_by=lambda clip: clip.path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_written_is_read(tmp_path: Path, data: st.DataObject) -> None:
    corpus = assemble("clips", "1", data.draw(clips_of(tmp_path)), [], tmp_path)
    write_manifest(corpus, tmp_path / "clips.csv")
    back = read_manifest(tmp_path / "clips.csv")
    assert back.clips == corpus.clips
    assert back.name == "clips"
    assert back.left_out == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=80).map("path,speaker,emotion\n".__add__) | st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_without_clips_is_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorpusError, match=r"any\.csv"):
        read_manifest(path)


def test_only_a_path_and_one_label_are_needed(tmp_path: Path) -> None:
    corpus = read_manifest(manifest(tmp_path, "emotion,path\nanger,b.wav\nfear,a.wav\n"))
    assert [(clip.path.name, clip.emotion, clip.speaker) for clip in corpus.clips] == [
        ("a.wav", "fear", UNKNOWN), ("b.wav", "anger", UNKNOWN)]
    assert not corpus.names_speakers
    dimensions = read_manifest(manifest(tmp_path, "path,valence\na.wav,-0.5\nb.wav,\n"))
    assert [(clip.valence, clip.emotion) for clip in dimensions.clips] == [(-0.5, None)]
    assert [(path.name, why) for path, why in dimensions.left_out] == [
        ("b.wav", "line 3 of clips.csv: it has no label"),
    ]


def test_a_second_line_with_another_emotion_is_told_from_a_repeated_one(tmp_path: Path) -> None:
    rows = "a.wav,joy\na.wav,happy\na.wav,fear\nb.wav,\nb.wav,fear\n"
    corpus = read_manifest(manifest(tmp_path, f"path,emotion\n{rows}"))
    assert [(clip.path.name, clip.emotion) for clip in corpus.clips] == [("a.wav", "happiness")]
    assert sorted(why for _, why in corpus.left_out) == [
        "line 3 of clips.csv: an earlier line names the same file",
        "line 4 of clips.csv: an earlier line names the same file with another emotion: leave the wrong line out",
        "line 5 of clips.csv: it has no label", "line 6 of clips.csv: an earlier line names the same file"]


def test_genders_and_languages_are_those_of_the_documentation(tmp_path: Path) -> None:
    cells = [("W", "DE"), ("divers", "pt-BR"), ("", ""), ("x", "NA")]
    names = tuple(f"{number}.wav" for number in range(len(cells)))
    rows = "".join(f"{name},x,{','.join(pair)}\n" for name, pair in zip(names, cells))
    corpus = read_manifest(manifest(tmp_path, f"path,emotion,gender,language\n{rows}", names))
    assert [(clip.gender, clip.language) for clip in corpus.clips] == [("f", "de"), ("", "pt"), ("", ""), ("", "")]
    path = manifest(tmp_path, "path,gender,language\na.wav,?,deu\n")
    assert [clip.path.name for clip in read_manifest(path, labelled=False).clips] == ["a.wav"]


def test_a_column_that_may_name_the_speakers_is_pointed_out(tmp_path: Path) -> None:
    assert read_manifest(manifest(tmp_path, "path,emotion,Speaker ID\na.wav,x,1\n")).notes == (
        f"the manifest {tmp_path}/clips.csv has no column 'speaker'; rename the column 'Speaker ID' to 'speaker' if "
        "that is meant",)


def test_spreadsheets_semicolons_and_byte_order_mark(tmp_path: Path) -> None:
    path = manifest(tmp_path, "\ufeffpath;speaker;emotion;mood\r\na.wav;Ä;anger;x, y\r\n;;;\r\n")
    (clip,) = read_manifest(path).clips
    assert (clip.path, clip.speaker, clip.emotion, dict(clip.extra)) == (
        tmp_path / "a.wav", "Ä", "anger", {"mood": "x, y"})


def test_missing_and_repeated_files_are_left_out(tmp_path: Path) -> None:
    corpus = read_manifest(manifest(tmp_path, "path,emotion\na.wav,x\nc.wav,x\na.wav,x\n"))
    assert [clip.emotion for clip in corpus.clips] == ["x"]
    assert sorted(why for _, why in corpus.left_out) == [
        "line 3 of clips.csv: the file is missing", "line 4 of clips.csv: an earlier line names the same file"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("speaker,emotion\nA,x\n", "no column 'path'"),
        ("path,speaker\na.wav,A\n", "has no label"),
        ("path,emotion,emotion\na.wav,x,y\n", "'emotion' twice"),
        ("path,emotion\na.wav,x,y\n", "line 2 .* has 3 fields where the header has 2: quote fields that hold the sep"),
        ("path,emotion\na.wav\n", "line 2 .* has 1 field where the header has 2: its last fields are missing"),
        ("File Name,emotion\na.wav,x\n", "no column 'path': .*; rename the column 'File Name' to 'path' if that is"),
        ("speaker;paht;emotion\nA;a.wav;x\n", "no column 'path': .*; rename the column 'paht' to 'path' if that is"),
        ("path,Label\na.wav,x\n", "has no label: .*; rename the column 'Label' to 'emotion' if that is meant"),
        ("path,emotion,gender\na.wav,x,2\n", "gender = '2' is neither f nor m: correct the cell, or leave it empty"),
        ("path,emotion,language\na.wav,x,deu\n", r"language = 'deu' is no code of two letters \(ISO 639-1: de, en\)"),
        ("path,emotion,arousal\na.wav,x," + "y" * 9999, r"arousal = 'y{49}…y{49}' is not a number$"),
        ("path,emotion\n" + "y" * 9999 + ",x", r"the first, .{1,101}: line 2 of clips.csv: the file is missing$"),
        ("path,emotion,arousal\na.wav,x,high\n", "line 2 .*arousal = 'high' is not a number"),
        ("path,emotion,arousal\na.wav,x,inf\n", "line 2 .*arousal = 'inf' is not a number"),
        ("path,emotion\na.wav,NaN\n", "line 2 .*it has no label"),
        ("path,emotion,votes.x,votes.y\na.wav,x,0.7,0.4\n", "line 2 .*together at most 1"),
        ("path,emotion,votes.x\na.wav,x,-0.7\n", "line 2 .*from 0 to 1"),
        ("path,emotion,votes.x\na.wav,x,most\n", "votes.x = 'most' is not a number"),
        ("path,emotion\n,x\n", "line 2 .* no usable path"),
        ('path,emotion\n"a.wav,x\n', "not CSV"),
        ("path,emotion\nz.wav,x\n", "no usable clip; the first, .*z.wav: line 2 of clips.csv: the file is missing"),
        ("path,emotion\n", "no usable clip"),
        ("", "no column 'path'"),
    ],
)
def test_what_does_not_fit_says_where(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why) as error:
        read_manifest(manifest(tmp_path, text))
    assert "clips.csv" in str(error.value)


def test_a_manifest_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the manifest"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "bin.csv").write_bytes(b"path,emotion\n\xff\xfe\x00")
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_manifest(tmp_path / "bin.csv")


def test_version_follows_the_content(tmp_path: Path) -> None:
    first = read_manifest(manifest(tmp_path, "path,emotion\na.wav,x\n")).version
    assert read_manifest(manifest(tmp_path, "path,emotion\na.wav,x\n")).version == first
    assert read_manifest(manifest(tmp_path, "path,emotion\na.wav,y\n")).version != first


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_manifest(manifest(tmp_path, "path,emotion\na.wav,x\n"))
    target = tmp_path / "out.csv"
    write_manifest(corpus, target)
    before = target.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CorpusError, match="No space left"):
        write_manifest(corpus, target)
    assert target.read_bytes() == before


def test_corpus_says_what_it_has() -> None:
    clips = [Clip(Path("r/b.wav"), "2", "fear"), Clip(Path("r/a.wav"), "1", None, arousal=math.pi)]
    corpus = assemble("c", "", clips, [], Path("r"))
    assert [corpus.relative(clip) for clip in corpus.clips] == ["a.wav", "b.wav"]
    assert corpus.speakers == ("1", "2")
    assert corpus.labels == ("fear",)
    assert (corpus.default_split, corpus.names_speakers) == ("group:2", True)
    assert relative(Path("/elsewhere/x.wav"), Path("r")) == "/elsewhere/x.wav"


@pytest.mark.parametrize("text", [
    "path\tspeaker\temotion\tmood\na.wav\tÄ\tanger\tx; y, z\n",
    'path;speaker;"emotion, heard";emotion;mood\na.wav;Ä;;anger;"x; y, z"\n',
    'sep=;\npath;speaker;emotion;mood\na.wav;Ä;anger;"x; y, z"\n',
    'sep=\t\r\npath\tspeaker\temotion\tmood\r\na.wav\tÄ\tanger\tx; y, z\r\n',
])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    path = manifest(tmp_path, "")
    path.write_bytes(text.encode(encoding))
    (clip,) = read_manifest(path).clips
    assert (clip.path.name, clip.speaker, clip.emotion, clip.extra["mood"]) == ("a.wav", "Ä", "anger", "x; y, z")


def test_a_bad_row_costs_itself(tmp_path: Path) -> None:
    text = ("sep=,\npath,emotion,arousal\na.wav,joy,NaN\nb.wav,fear,much\nb.wav,joy\n\0,joy,1\n"
            + "x" * 5000 + ",joy,1\n")
    corpus = read_manifest(manifest(tmp_path, text))
    assert [(clip.path.name, clip.emotion, clip.arousal) for clip in corpus.clips] == [("a.wav", "happiness", None)]
    assert sorted(why for _, why in corpus.left_out) == [
        "line 4 of clips.csv: arousal = 'much' is not a number",
        "line 5 of clips.csv: it has 2 fields where the header has 3: its last fields are missing",
        "line 6 of clips.csv: it has no usable path",
        "line 7 of clips.csv: the file is missing",
    ]


def test_one_emotion_in_many_spellings(tmp_path: Path) -> None:
    words = ["Anger", "anger ", "angry", "WUT", "\u00c4rger", "A\u0308rger", "rabbia"]
    names = tuple(f"{number}.wav" for number in range(len(words)))
    text = "path,emotion,votes.Joy,votes.happiness\n" + "".join(
        f"{name},{emotion},0.25,0.5\n" for name, emotion in zip(names, words))
    corpus = read_manifest(manifest(tmp_path, text, names))
    assert corpus.labels == ("anger",)
    assert {tuple(clip.votes.items()) for clip in corpus.clips} == {(("happiness", 0.75),)}


def test_paths_of_other_systems(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,emotion\nsub\\a.wav,x\nC:\\clips\\b.wav,x\nsub/C.wav,x\nu\u0308.wav,x\n",
                    ("sub/a.wav", "sub/c.WAV", "\u00fc.wav"))
    corpus = read_manifest(path)
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in corpus.clips] == ["sub/a.wav", "\u00fc.wav"]
    assert sorted(why for _, why in corpus.left_out) == [
        "line 3 of clips.csv: C:\\clips\\b.wav is a path of a Windows machine: write it relative to the "
        "manifest's folder",
        "line 4 of clips.csv: the file is missing; did you mean c.WAV?",
    ]


def test_speakers_who_may_be_one_are_pointed_out(tmp_path: Path) -> None:
    names = tuple(f"{letter}.wav" for letter in "abcdefg")
    rows = zip(names, ["a", "A", "1", "01", "10", "0", "00"])
    text = "path,emotion,speaker\n" + "".join(f"{name},x,{speaker}\n" for name, speaker in rows)
    corpus = read_manifest(manifest(tmp_path, text, names))
    assert len(corpus.speakers) == 7
    assert corpus.notes == (
        "the speakers '0', '00' count as 2; if they are one person, give one name",
        "the speakers '01', '1' count as 2; if they are one person, give one name",
        "the speakers 'A', 'a' count as 2; if they are one person, give one name",
    )


def test_the_labels_of_a_run_may_be_written_in_the_corpora_s_languages(tmp_path: Path) -> None:
    corpus = read_manifest(manifest(tmp_path, "path,emotion\na.wav,Freude\nb.wav,Trauer\n"))
    assert choose_labels(corpus, ["Traurig", "joy"]) == ("sadness", "happiness")


def test_columns_with_a_meaning_count_in_any_case(tmp_path: Path) -> None:
    text = ("PATH,Speaker,Emotion,Consent Until,PURPOSE,Votes.Joy,Corpus,Synthetic,Mood\n"
            "a.wav,ann,anger,2001-01-31,Research,0.25,x,yes,good\n")
    corpus = read_manifest(manifest(tmp_path, text))
    (clip,) = corpus.clips
    assert (clip.votes, clip.corpus, corpus.synthetic) == ({"happiness": 0.25}, "x", True)
    assert clip.extra == {"consent_until": "2001-01-31", "purpose": "Research", "synthetic": "yes", "Mood": "good"}
    for header in ("path,emotion,consent_until,Consent-Until", "path,emotion,votes.x,VOTES.x"):
        with pytest.raises(CorpusError, match="twice: rename one"):
            read_manifest(manifest(tmp_path, f"{header}\na.wav,anger,,\n"))


@pytest.mark.parametrize("nothing", ["", "NA", "NaN", "nan", "n/a", "NULL", " NA "])
def test_what_programs_write_for_no_value_names_nothing(tmp_path: Path, nothing: str) -> None:
    text = f"path,emotion,speaker,gender,purpose,synthetic\na.wav,anger,{nothing},{nothing},{nothing},{nothing}\n" \
           f"b.wav,fear,{nothing},Female,,no\n"
    corpus = read_manifest(manifest(tmp_path, text))
    assert [(clip.speaker, clip.gender) for clip in corpus.clips] == [(UNKNOWN, ""), (UNKNOWN, "f")]
    assert (corpus.names_speakers, corpus.synthetic) == (False, False)
    assert Consent("", date(2026, 1, 1)).objection(corpus.clips[0]) is None


@pytest.mark.parametrize("value", ["0", "false", "No"])
def test_a_corpus_whose_column_says_so_is_not_synthetic(tmp_path: Path, value: str) -> None:
    assert not read_manifest(manifest(tmp_path, f"path,emotion,synthetic\na.wav,x,{value}\nb.wav,y,1\n")).synthetic


def test_recordings_to_predict_need_no_label(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,transcript\na.wav,so glad\nz.wav,gone\nb.wav,\n")
    corpus = read_manifest(path, labelled=False)
    assert [(clip.path.name, clip.transcript, clip.emotion) for clip in corpus.clips] == [
        ("a.wav", "so glad", None), ("b.wav", "", None)]
    assert [why for _, why in corpus.left_out] == ["line 3 of clips.csv: the file is missing"]


def test_names_that_are_no_text_cost_only_their_clips(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for name in (b"anger/ann/1.wav", b"anger/M\xfcller/1.wav", b"joy/ann/\xe4.wav", b"\xc4rger/ann/1.wav",
                 b"joy/b/1.wav"):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    corpus = load("folder", folder)
    assert [corpus.relative(clip) for clip in corpus.clips] == ["anger/ann/1.wav", "joy/b/1.wav"]
    assert [why.partition(":")[0] for _, why in corpus.left_out] == ["its name is not UTF-8 text"] * 3
    write_manifest(corpus, tmp_path / "clips.csv")
    assert len(read_manifest(tmp_path / "clips.csv").clips) == 2
    above = tmp_path / os.fsdecode(b"\xfc")
    folder.rename(above)
    with pytest.raises(CorpusError, match="a folder above its clips is not UTF-8 text"):
        write_manifest(load("folder", above), tmp_path / "above.csv")
    assert not (tmp_path / "above.csv").exists()
