"""Fetching: what a small server on this machine publishes comes whole, unpacked and noted; else there is a sentence."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.fetch import RECORD, fetch, source_of, via_audb
from p2pser.corpora.fetch.sources import SOURCES, Dataverse, GitHub, Zenodo
from p2pser.corpora.loading import load
from tests.corpora.publisher import Server, publish, zipped


def test_a_zenodo_record_becomes_a_corpus(server: Server, tmp_path: Path) -> None:
    publish(server, 1188976, {
        "Audio_Speech_Actors_01-24.zip": zipped({"Actor_01/03-01-05-01-01-01-01.wav": b"a", "__MACOSX/x.wav": b"b",
                                                 "Actor_02/03-01-04-01-01-01-02.wav": b"c"}),
        "Video_Speech_Actor_01.zip": b"not asked for"})
    first = fetch(SOURCES["ravdess"], tmp_path / "r", mirror=server.url, waits=())
    assert [file.name for file in first] == ["Audio_Speech_Actors_01-24.zip"]
    assert [(clip.speaker, clip.emotion) for clip in load("ravdess", tmp_path / "r").clips] == [
        ("01", "anger"), ("02", "sadness")]
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["Actor_01", "Actor_02", RECORD]
    record = json.loads((tmp_path / "r" / RECORD).read_text())["files"]
    assert record == [vars(first[0])]
    assert first[0].published.startswith("md5:")
    again = fetch(SOURCES["ravdess"], tmp_path / "r", mirror=server.url, waits=())
    assert again == first
    assert server.asked["/api/records/1188976/files/Audio_Speech_Actors_01-24.zip/content"] == 1
    assert not any("Video" in path for path in server.asked)


def test_an_interrupted_corpus_goes_on(server: Server, tmp_path: Path) -> None:
    archive = zipped({"wav/03a01Fa.wav": bytes(range(256)) * 40})
    publish(server, 7447302, {"emodb.zip": archive})
    server.cuts["/api/records/7447302/files/emodb.zip/content"] = [100]
    with pytest.raises(CorpusError, match="100 bytes are kept"):
        fetch(SOURCES["emodb"], tmp_path, mirror=server.url, waits=())
    assert not (tmp_path / RECORD).exists()
    with pytest.raises(CorpusError, match="holds no recordings"):
        load("emodb", tmp_path)
    fetch(SOURCES["emodb"], tmp_path, mirror=server.url, keep=True, waits=())
    assert server.ranges == ["bytes=100-"]
    assert load("emodb", tmp_path).labels == ("happiness",)
    assert (tmp_path / ".archives" / "emodb.zip").read_bytes() == archive


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    publish(server, 7447302, {"emodb.zip": zipped({"wav/03a01Fa.wav": b"a"})}, emodb="md5:" + "0" * 32)
    with pytest.raises(CorpusError, match="not the published file"):
        fetch(SOURCES["emodb"], tmp_path, mirror=server.url, waits=())
    assert not list(tmp_path.rglob("*.wav"))
    assert not list(tmp_path.rglob("*.zip*"))


def test_recordings_that_were_removed_are_fetched_again(server: Server, tmp_path: Path) -> None:
    publish(server, 7447302, {"emodb.zip": zipped({"wav/03a01Fa.wav": b"a"})})
    for _ in range(2):
        fetch(SOURCES["emodb"], tmp_path, mirror=server.url, waits=())
        assert (tmp_path / "wav" / "03a01Fa.wav").read_bytes() == b"a"
        shutil.rmtree(tmp_path / "wav")


def test_a_dataverse_of_single_files(server: Server, tmp_path: Path) -> None:
    source = SOURCES["tess"]
    assert isinstance(source, Dataverse)
    files = {"OAF_back_angry.wav": b"a", "YAF_germ_ps.wav": b"b", "readme.txt": b"c"}
    listed = [{"directoryLabel": "clips", "dataFile": {"id": number, "filename": name, "filesize": len(content),
                                                       "md5": hashlib.md5(content).hexdigest()}}
              for number, (name, content) in enumerate(files.items())]
    url = f"/api/datasets/:persistentId/?persistentId=doi:{source.doi}"
    server.files[url] = json.dumps({"status": "OK", "data": {"latestVersion": {"files": listed}}}).encode()
    server.files |= {f"/api/access/datafile/{number}": content for number, content in enumerate(files.values())}
    fetched = fetch(source, tmp_path, mirror=server.url, waits=())
    assert [file.name for file in fetched] == ["clips/OAF_back_angry.wav", "clips/YAF_germ_ps.wav"]
    assert load("auto", tmp_path).labels == ("anger", "surprise")
    fetch(source, tmp_path, mirror=server.url, waits=())
    assert server.asked["/api/access/datafile/0"] == 1


def pointer(content: bytes) -> bytes:
    return (f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n"
            f"size {len(content)}\n").encode()


@pytest.fixture
def cremad(server: Server) -> dict[str, bytes]:
    """CREMA-D's repository: two recordings as pointers, tables, and what is not wanted; by path, the recordings."""
    source = SOURCES["crema-d"]
    assert isinstance(source, GitHub)
    clips = {"AudioWAV/1001_DFA_ANG_XX.wav": b"RIFF one", "AudioWAV/1002_IEO_HAP_LO.wav": b"RIFF two"}
    top = "CREMA-D-master/"
    server.files[f"/{source.repository}/zip/refs/heads/master"] = zipped({
        f"{top}VideoDemographics.csv": b'"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n',
        f"{top}AudioMP3/1001_DFA_ANG_XX.mp3": pointer(b"mp3"), f"{top}VideoFlash/1001_DFA_ANG_XX.flv": pointer(b"flv"),
        f"{top}.gitattributes": b"*.wav filter=lfs", **{top + path: pointer(clip) for path, clip in clips.items()}})
    server.files |= {f"/media/{source.repository}/master/{path}": clip for path, clip in clips.items()}
    return clips


def test_git_lfs_pointers_become_recordings(server: Server, cremad: dict[str, bytes], tmp_path: Path) -> None:
    fetch(SOURCES["crema-d"], tmp_path, mirror=server.url, waits=())
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.wav")} == cremad
    assert [(clip.speaker, clip.gender) for clip in load("crema-d", tmp_path).clips] == [("1001", "m"), ("1002", "f")]
    assert not list(tmp_path.rglob("*.mp3"))
    before = server.asked.total()
    fetch(SOURCES["crema-d"], tmp_path, mirror=server.url, waits=())
    assert server.asked.total() == before


def test_a_recording_that_is_not_its_pointers_goes_on_later(
    server: Server, cremad: dict[str, bytes], tmp_path: Path
) -> None:
    path = "/media/CheyneyComputerScience/CREMA-D/master/AudioWAV/1002_IEO_HAP_LO.wav"
    right, server.files[path] = server.files[path], b"RIFF bad"
    with pytest.raises(CorpusError, match=r"1002_IEO_HAP_LO\.wav is not the published file: its sha256"):
        fetch(SOURCES["crema-d"], tmp_path, mirror=server.url, waits=())
    server.files[path] = right
    fetch(SOURCES["crema-d"], tmp_path, mirror=server.url, waits=())
    assert (tmp_path / "AudioWAV" / "1002_IEO_HAP_LO.wav").read_bytes() == right
    assert server.asked["/CheyneyComputerScience/CREMA-D/zip/refs/heads/master"] == 1


def test_after_a_failure_the_others_stop_and_keep_what_came(server: Server, tmp_path: Path) -> None:
    large = bytes(range(256)) * 8192
    publish(server, 1, {"a.bin": large, "b.bin": large})

    def interrupted(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(Zenodo(1), tmp_path, mirror=server.url, progress=interrupted, waits=())
    parts = {path.name: path.stat().st_size for path in tmp_path.glob("*.part")}
    assert 0 < max(parts.values()) < len(large)
    assert not (tmp_path / RECORD).exists()
    fetch(Zenodo(1), tmp_path, mirror=server.url, waits=())
    assert [(tmp_path / name).read_bytes() == large for name in ("a.bin", "b.bin")] == [True, True]
    assert f"bytes={max(parts.values())}-" in server.ranges


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"files": [{"key": "a.zip"}]}', b'{"files": []}',
                                    b'{"files": [{"key": "../a", "size": 1, "checksum": "md5:0"}]}'])
def test_what_a_publisher_may_answer_instead(server: Server, answer: bytes, tmp_path: Path) -> None:
    server.files["/api/records/1"] = answer
    with pytest.raises(CorpusError, match=rf"{server.url}/api/records/1 (answers with|lists|does not|has no)"):
        Zenodo(1).items(server.url, waits=())


@pytest.mark.parametrize("name", sorted(set(CORPORA) - {key.partition(":")[0] for key in SOURCES}))
def test_for_the_others_it_says_whom_to_ask(name: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(CORPORA[name].about.source)):
        source_of(name)


def test_editions_and_variants_have_their_own_sources() -> None:
    assert source_of("emodb", "2.0") == Zenodo(17651657)
    assert source_of("ravdess:song") != source_of("ravdess")
    with pytest.raises(CorpusError, match=r"no emodb:3 to fetch: emodb, emodb:2\.0 can be fetched"):
        source_of("emodb", "3")
    with pytest.raises(CorpusError, match="these can be fetched: ravdess, crema-d, emodb, tess, urdu"):
        source_of("nosuch")


def test_a_spoilt_record_says_what_to_do(server: Server, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(CorpusError, match="all files are downloaded again"):
        fetch(SOURCES["emodb"], tmp_path, items=[], waits=())


def test_audb_writes_tables_that_the_adapter_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audb = pytest.importorskip("audb", reason="audb is not installed (extra: audb)")

    class Database:
        def save(self, root: str, *, storage_format: str) -> None:
            assert storage_format == "csv"
            (Path(root) / "db.emotion.csv").write_text(
                "file,emotion,emotion.confidence\nwav/03a01Fa.wav,happiness,0.9\n")

    def load_to(root: str, name: str, *, version: str, verbose: bool) -> Database:
        if version == "9":
            raise RuntimeError("Cannot find version\n'9'")
        (Path(root) / "wav").mkdir(parents=True)
        (Path(root) / "wav" / "03a01Fa.wav").touch()
        return Database()

    monkeypatch.setattr(audb, "latest_version", lambda name: "1.4.1")
    monkeypatch.setattr(audb, "load_to", load_to)
    assert via_audb.fetch("emodb", tmp_path) == "1.4.1"
    assert load("emodb", tmp_path).clips[0].votes == {"happiness": 0.9}
    with pytest.raises(CorpusError, match=r"audb cannot load emodb 9: Cannot find version '9'"):
        via_audb.fetch("emodb", tmp_path, "9")
    with pytest.raises(CorpusError, match="it is for emodb, crema-d, ravdess, nemo"):
        via_audb.fetch("savee", tmp_path)


def test_audb_that_is_not_installed_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audb", None)
    with pytest.raises(ConfigError, match=r"pip install p2pser\[audb\]"):
        via_audb.fetch("emodb", tmp_path)
