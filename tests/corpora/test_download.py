"""Downloads: a file comes whole, goes on where it was cut, or is refused with a sentence."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from p2pser.base.errors import CorpusError
from p2pser.corpora.fetch.download import Item, download, read_json
from tests.corpora.publisher import Server

NOW = (0.0,)
"""One further try, at once."""

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


def test_no_network_and_no_address_are_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    refused = r"cannot get .* \(Connection refused\): is there a network connection\?"
    with socket.socket() as bound:  # no other program can listen at its port
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(CorpusError, match=refused) as error:
            download(Item(f"{closed}/file", "file"), tmp_path / "file", waits=NOW)
        with pytest.raises(CorpusError, match="is there a network connection"):
            read_json(closed, waits=())
    assert "\n" not in str(error.value)
    with pytest.raises(CorpusError, match="begins with http"):
        download(Item("file:///etc/hostname", "file"), tmp_path / "file", waits=())


def test_what_cannot_be_written_says_where(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CorpusError, match=r"cannot write .*taken"):
        download(item(server), tmp_path / "taken" / "file", waits=())
