"""``p2pser corpus``: what is there, what is wrong with it, and the synthetic corpus copied out."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from p2pser.base.errors import CorpusError
from p2pser.cli.corpus import corpus
from p2pser.corpora import synthetic
from p2pser.corpora.emotions import canonical
from p2pser.corpora.fetch.download import Item
from p2pser.corpora.fetch.sources import Zenodo
from p2pser.corpora.loading import names
from p2pser.corpora.manifest import Corpus, read_manifest


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
    assert [item["name"] for item in json.loads(run("list", "--json").stdout)] == names()
    assert all(name in run("list").stdout for name in names())


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
    assert result.stdout == ""
    assert "left out: 1 file\n" in result.stderr
    assert json.loads(run("scan", str(tmp_path), "--json").stdout)["why_normalised"] == ""


def test_names_of_files_neither_break_a_line_nor_fill_the_terminal(clips: Path) -> None:
    (clips / "sad" / "b" / "4\n.wav").write_bytes((clips / "sad" / "b" / "1.wav").read_bytes())
    shutil.copytree(clips / "sad" / "b", clips / "sad" / "b\nc")
    found = run("scan", str(clips))
    assert "b 2, b\\nc 2\n" in found.stdout
    assert "and sad/b\\nc/1.wav (speaker b\\nc, sadness): leave one" in found.stderr
    assert f"  {clips}/sad/b\\nc/2.wav: " in found.stderr
    (clips / "m.csv").write_text(f"path,emotion\nangry/a/1.wav,anger\n{'x' * 9999},anger\n")
    assert f"  …{'x' * 100}: line 3" in re.sub(".*…", "  …", run("scan", str(clips / "m.csv")).stderr)


def test_scan_names_what_is_no_single_utterance_and_what_contradicts_itself(clips: Path) -> None:
    soundfile.write(clips / "sad" / "a.wav", 0.1 * np.sin(np.arange(8000 * 121) / 5), 8000)
    shutil.copy(clips / "sad" / "b" / "1.wav", clips / "angry" / "a" / "2.wav")
    notes = " ".join(json.loads(run("scan", str(clips), "--json").stdout)["notes"])
    assert "1 recording lasts longer than 2 min, and it counts as one clip with one emotion: cut it into" in notes
    assert "1 recording is there under two emotions, first angry/a/1.wav (speaker a, anger)" in notes


def test_list_says_how_to_get_each() -> None:
    listed = {item["name"]: item for item in json.loads(run("list", "--json").stdout)}
    assert listed["ravdess"]["fetch"] is True
    assert (listed["savee"]["fetch"], listed["savee"]["languages"]) == (False, ["en"])
    assert "crema-d:voted" in listed["crema-d"]["variants"]
    text = run("list").stdout
    assert "licence: CC BY-NC-SA 4.0; p2pser corpus fetch ravdess, from Zenodo 1188976" in text
    assert "request it from the registration form" in text


def test_describe_needs_no_recordings_for_what_is_known() -> None:
    assert json.loads(run("describe", "emovo", "--json").stdout)["languages"] == ["it"]
    assert "licence: CC0" in run("describe", "jl").stdout
    assert "beside the recordings data.tsv: genders and texts" in run("describe", "nemo").stdout
    without = run("describe", "folder")
    assert isinstance(without.exception, CorpusError)


def test_describe_counts_and_says_the_licence(corpora: Path) -> None:
    found = json.loads(run("describe", "crema-d", "--data", str(corpora), "--json").stdout)
    assert (found["clips"], found["corpus"]["licence"]) == (1, "ODbL 1.0, contents DbCL 1.0")
    result = run("describe", "tess", "--data", str(corpora))
    assert re.search("tess, version 2 of 2800 clips, [0-9a-f]{8}: 2 clips, 1 s, 1 speaker\n", result.stdout)
    assert "licence: CC BY-NC-ND 4.0" in result.stdout


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Two corpora in folders of their own (48 kHz, stereo), one in the folder itself, and a file of none."""
    tone = 0.1 * np.sin(np.arange(24000) / 5)
    for name, samples in {"t/OAF_back_angry.wav": tone, "t/OAF_back_sad.wav": np.stack([tone, tone], axis=1),
                          "e/wav/03a01Fa.wav": tone, "1001_DFA_ANG_XX.wav": tone, "t/hello.wav": tone}.items():
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, 48000)
    (tmp_path / "all" / "1076_MTI_SAD_XX.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    return tmp_path / "all"


def test_scan_finds_several_corpora_below_one_folder(corpora: Path) -> None:
    result = run("scan", str(corpora), "--json")
    found = json.loads(result.stdout)
    assert {one["name"]: (one["clips"], one["seconds"]) for one in found["corpora"]} == {
        "tess": (2, 1.0), "emodb": (1, 0.5), "crema-d": (1, 0.5)}
    left_out = {one["name"]: [Path(item["path"]).name for item in one["left_out"]] for one in found["corpora"]}
    assert left_out == {"tess": [], "emodb": [], "crema-d": ["1076_MTI_SAD_XX.wav"]}
    assert [Path(item["path"]).name for item in found["left_out"]] == ["hello.wav"]
    text = run("scan", str(corpora))
    assert "tess, version 2 of 2800 clips" in text.stdout
    assert "hello.wav: named as in none of these corpora" in text.stderr
    assert "it is silent" in text.stderr
    assert "note: without VideoDemographics.csv" in text.stderr
    one = json.loads(run("scan", str(corpora), "--corpus", "tess", "--json").stdout)
    assert (one["name"], len(one["left_out"])) == ("tess", 4)


def test_many_speakers_and_left_out_files_are_counted(tmp_path: Path) -> None:
    tone = 0.1 * np.sin(np.arange(8000) / 5)
    for number in range(31):
        soundfile.write(tmp_path / f"{1001 + number}_DFA_ANG_XX.wav", tone, 16000)
    for name in [f"1001_IEO_SAD_{level}" for level in ("LO", "MD", "HI")] + [f"hello{number}" for number in range(9)]:
        (tmp_path / f"{name}.wav").write_text("not a recording")
    text = run("scan", str(tmp_path), "--corpus", "crema-d")
    assert "speakers   31, of 1 to 1 clips each (--json lists all)" in text.stdout
    assert "left out: 12 files" in text.stderr
    assert "hello0.wav and 8 more: not named as in CREMA-D" in text.stderr
    assert "1001_IEO_SAD_HI.wav and 2 more: it is a text file named .wav" in text.stderr


def test_scan_writes_manifests(corpora: Path, tmp_path: Path) -> None:
    assert run("scan", str(corpora), "--manifest", str(tmp_path / "out")).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crema-d.csv", "emodb.csv", "tess.csv"]
    assert [clip.emotion for clip in read_manifest(tmp_path / "out" / "tess.csv").clips] == ["anger", "sadness"]
    both = run("scan", str(corpora), "--manifest", str(tmp_path / "one.csv"))
    assert isinstance(both.exception, CorpusError)
    assert "give a folder, or one corpus with --corpus" in str(both.exception)
    assert run("scan", str(corpora / "e"), "--manifest", str(tmp_path / "e.csv")).exit_code == 0
    (clip,) = read_manifest(tmp_path / "e.csv").clips
    assert (clip.speaker, clip.emotion, clip.transcript) == ("03", "happiness", "Der Lappen liegt auf dem Eisschrank.")


def test_scan_writes_one_manifest_into_a_folder_that_is_not_there_yet(corpora: Path, tmp_path: Path) -> None:
    assert run("scan", str(corpora / "e"), "--manifest", str(tmp_path / "manifests")).exit_code == 0
    assert len(read_manifest(tmp_path / "manifests" / "manifest.csv").clips) == 1


def test_scan_finds_small_corpora_among_many_other_recordings(tmp_path: Path) -> None:
    for number in range(25):
        soundfile.write(tmp_path / f"{1001 + number}_DFA_ANG_XX.wav", 0.1 * np.sin(np.arange(8000) / 5), 16000)
    for number in range(600):
        (tmp_path / f"hello{number}.wav").touch()
    found = json.loads(run("scan", str(tmp_path), "--json").stdout)
    assert [(one["name"], one["clips"]) for one in found["corpora"]] == [("crema-d", 25)]
    assert len(found["left_out"]) == 600


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_scan_of_real_corpora_writes_what_the_list_says(shared_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "clips.csv"
    document = json.loads(run("scan", str(shared_data / name), "--manifest", str(out), "--json").stdout)
    assert (document["name"], document["left_out"]) == (name, [])
    with (shared_data / f"{name}.expected.csv").open(encoding="utf-8") as file:
        wanted = {Path(row["path"]).stem: row for row in csv.DictReader(file)}
    found = {clip.path.stem: clip for clip in read_manifest(out).clips}
    assert document["clips"] == len(found) == len(wanted)
    for stem, row in wanted.items():
        clip = found[stem]
        assert (clip.speaker, clip.gender, clip.language, clip.emotion, clip.transcript) == (
            row["speaker"], row["gender"], row["language"], canonical(row["emotion"]), row["transcript"])
        assert (clip.arousal, clip.valence, clip.dominance) == (None, None, None)
        assert clip.extra.get("intensity") == row.get("intensity")


def test_fetch_asks_downloads_and_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone = tmp_path / "tone.wav"
    soundfile.write(tone, 0.1 * np.sin(np.arange(8000) / 5), 16000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(tone, "Actor_01/03-01-05-01-01-01-01.wav")
    items = [Item("http://publisher.invalid/speech.zip", "speech.zip", len(buffer.getvalue()), "")]

    def listed(self: Zenodo, mirror: str = "", waits: object = ()) -> list[Item]:
        return items

    def deliver(item: Item, target: Path, **_: object) -> str:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())
        return "0" * 64

    monkeypatch.setattr(Zenodo, "items", listed)
    monkeypatch.setattr("p2pser.corpora.fetch.download", deliver)
    command = ["fetch", "ravdess", "--out", str(tmp_path / "r")]
    for answer in ("n\n", ""):
        refused = CliRunner().invoke(corpus, command, input=answer)
        assert isinstance(refused.exception, CorpusError)
        assert "CC BY-NC-SA 4.0" in refused.stderr
        assert "licence was not accepted" in str(refused.exception)
    assert not (tmp_path / "r").exists()
    accepted = CliRunner().invoke(corpus, command, input="y\n")
    assert accepted.exit_code == 0, accepted.output
    assert f"speech.zip: {items[0].size} bytes, sha256 {'0' * 64} (no published checksum)" in accepted.stdout
    assert re.search("ravdess, version 1.0.0, 1 of 1440 clips, [0-9a-f]{8}: 1 clip,", accepted.stdout)
    document = json.loads(run(*command, "--yes", "--json").stdout)
    assert (document["clips"], document["fetched"]["files"][0]["name"]) == (1, "speech.zip")


def test_fetch_of_what_is_not_free_says_whom_to_ask() -> None:
    result = run("fetch", "iemocap", "--yes")
    assert isinstance(result.exception, CorpusError)
    assert "the form at sail.usc.edu/iemocap" in str(result.exception)


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


@pytest.mark.parametrize("command", ["list", "scan", "describe", "fetch", "make"])
def test_every_help_has_an_example(command: str) -> None:
    assert "Example: p2pser corpus" in run(command, "--help").stdout
