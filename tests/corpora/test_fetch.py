"""Fetching: what a small server on this machine publishes comes whole, unpacked and noted; else there is a sentence.

The server speaks like the publishers: a Zenodo record, a Dataverse, a GitHub archive with git-LFS pointers. It can
cut answers short, forget about ranges, be busy, and change a file in between.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import stat
import sys
import threading
import zipfile
from collections import Counter, namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn

import pytest

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.fetch import RECORD, fetch, source_of, via_audb
from p2pser.corpora.fetch.archives import unpack
from p2pser.corpora.fetch.download import Item, download, read_json
from p2pser.corpora.fetch.sources import SOURCES, Dataverse, GitHub, Zenodo
from p2pser.corpora.loading import load

NOW = (0.0,)
"""One further try, at once."""


class Server(ThreadingMixIn, HTTPServer):
    """Files by path; ``cuts`` are the lengths after which the next answers to a path end early, ``busy`` the codes that
    come first; ``asked`` counts requests and ``ranges`` lists the ranges asked for."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        self.busy: dict[str, list[int]] = {}
        self.resumable = True
        self.tags = True
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server, path = self.server, self.path
        with server.lock:
            server.asked[path] += 1
            busy = server.busy.get(path, [])
            code = busy.pop(0) if busy else 200
            cut = server.cuts[path].pop(0) if server.cuts.get(path) else None
        content = server.files.get(path)
        if code != 200 or content is None:
            self.send_error(code if code != 200 else 404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = self.headers.get("Range", "")
        if asked:
            server.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-") or 0) if server.resumable else 0
        if self.headers.get("If-Range") not in (None, tag):
            begin = 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if server.tags:
            self.send_header("ETag", tag)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[begin:] if cut is None else content[begin:][:cut])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def publish(server: Server, record: int, files: dict[str, bytes], **wrong: str) -> None:
    """Publish files as a record of Zenodo; ``wrong`` are the checksums of which it is mistaken, by stem."""
    base = f"/api/records/{record}"
    listed = [{"key": name, "size": len(content), "links": {"self": "http://127.0.0.1:9/not-asked"},
               "checksum": wrong.get(name.partition(".")[0], f"md5:{hashlib.md5(content).hexdigest()}")}
              for name, content in files.items()]
    server.files[base] = json.dumps({"files": listed, "metadata": {}}).encode()
    server.files |= {f"{base}/files/{name}/content": content for name, content in files.items()}


CONTENT = bytes(range(256)) * 2000


def item(server: Server, **fields: object) -> Item:
    server.files["/file"] = CONTENT
    return Item(**{"url": f"{server.url}/file", "name": "file", "size": len(CONTENT),
                   "checksum": f"md5:{hashlib.md5(CONTENT).hexdigest()}", **fields})  # type: ignore[arg-type]


def test_a_file_comes_whole(server: Server, tmp_path: Path) -> None:
    came: list[int] = []
    digest = download(item(server), tmp_path / "a" / "file", progress=came.append, waits=())
    assert (tmp_path / "a" / "file").read_bytes() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert sum(came) == len(CONTENT)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_cut_is_mended_within_a_call(server: Server, tmp_path: Path) -> None:
    server.cuts["/file"] = [1000, 2000]
    came: list[int] = []
    download(item(server), tmp_path / "file", progress=came.append, waits=(0.0, 0.0))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", "bytes=3000-"]
    assert sum(came) == len(CONTENT)


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts["/file"] = [5000]
    with pytest.raises(CorpusError, match=r"ended after 5000 of 512000 bytes.*5000 bytes are kept, and the same"):
        download(item(server), tmp_path / "file", waits=())
    assert (tmp_path / "file.part").stat().st_size == 5000
    download(item(server), tmp_path / "file", waits=())
    assert server.ranges == ["bytes=5000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_of_the_whole_length_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(item(server), tmp_path / "file", waits=())
    assert server.asked["/file"] == 0
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.resumable = False
    server.cuts["/file"] = [5000]
    came: list[int] = []
    download(item(server), tmp_path / "file", progress=came.append, waits=NOW)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(came) == len(CONTENT)


def test_a_file_that_changed_meanwhile_is_not_a_mixture(server: Server, tmp_path: Path) -> None:
    server.cuts["/file"] = [5000]
    without = item(server, size=None, checksum="")
    with pytest.raises(CorpusError, match="5000 bytes are kept"):
        download(without, tmp_path / "file", waits=())
    server.files["/file"] = b"another" * 5000
    download(without, tmp_path / "file", waits=())
    assert (tmp_path / "file").read_bytes() == b"another" * 5000


def test_a_part_that_nothing_vouches_for_is_not_used(server: Server, tmp_path: Path) -> None:
    server.tags = False
    (tmp_path / "file.part").write_bytes(b"x" * 100)
    download(item(server, size=None, checksum=""), tmp_path / "file", waits=())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    download(item(server), tmp_path / "file", waits=())
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(("fields", "why"), [
    ({"checksum": "md5:" + "0" * 32}, r"its md5 is [0-9a-f]{32} instead of 000"),
    ({"size": 7}, "512000 bytes instead of 7"),
])
def test_what_was_not_published_is_removed(
    server: Server, tmp_path: Path, fields: dict[str, object], why: str
) -> None:
    with pytest.raises(CorpusError, match=rf"is not the published file: .*{why}"):
        download(item(server, **fields), tmp_path / "file", waits=())
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Server, tmp_path: Path) -> None:
    server.busy["/file"] = [503]
    download(item(server), tmp_path / "file", waits=NOW)
    assert server.asked["/file"] == 2
    with pytest.raises(CorpusError, match=r"/none answers 404 Not Found: it has moved"):
        download(Item(f"{server.url}/none", "none"), tmp_path / "none", waits=NOW)
    assert server.asked["/none"] == 1


def test_no_network_and_no_address_are_sentences(server: Server, tmp_path: Path) -> None:
    closed = f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    refused = r"cannot get .* \(Connection refused\): is there a network connection\?"
    with pytest.raises(CorpusError, match=refused) as error:
        download(Item(f"{closed}/file", "file"), tmp_path / "file", waits=NOW)
    assert "\n" not in str(error.value)
    with pytest.raises(CorpusError, match="is there a network connection"):
        read_json(closed, waits=())
    with pytest.raises(CorpusError, match="begins with http"):
        download(Item("file:///etc/hostname", "file"), tmp_path / "file", waits=())


def test_what_cannot_be_written_says_where(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CorpusError, match=r"cannot write .*taken"):
        download(item(server), tmp_path / "taken" / "file", waits=())


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


@pytest.mark.parametrize("name", ["../evil.wav", "/evil.wav", "a/../../evil.wav", "C:/evil.wav", "a\\..\\..\\evil.wav"])
def test_an_archive_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"good.wav": b"a", name: b"b"}))
    with pytest.raises(CorpusError, match="outside the folder: do not trust it"):
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.wav"))


def test_an_archive_cannot_hold_links(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CorpusError, match="holds a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_archives_that_do_not_fit_or_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zipped({"a.wav": bytes(5000)})
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(CorpusError, match=r"not a ZIP that can be unpacked"):
        unpack(tmp_path / "cut.zip", tmp_path / "out")
    damaged = bytearray(whole)
    damaged[40] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(damaged)
    with pytest.raises(CorpusError, match=r"not a ZIP that can be unpacked"):
        unpack(tmp_path / "bad.zip", tmp_path / "out")
    assert not list(tmp_path.rglob("*.wav"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10))
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(CorpusError, match="free some space"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_unpacking_again_writes_only_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"top/a.wav": b"aa", "top/b.wav": b"bb", "top/c.txt": b"cc"}))
    assert unpack(tmp_path / "a.zip", tmp_path / "out", members=r"\.wav$", strip=1) == 2
    kept = (tmp_path / "out" / "a.wav").stat().st_mtime_ns
    (tmp_path / "out" / "b.wav").unlink()
    assert unpack(tmp_path / "a.zip", tmp_path / "out", members=r"\.wav$", strip=1) == 2
    assert (tmp_path / "out" / "a.wav").stat().st_mtime_ns == kept
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


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
