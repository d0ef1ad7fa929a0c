"""Archives of corpora: nothing is written outside their folder, and what is damaged is refused."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from p2pser.base.errors import CorpusError
from p2pser.corpora.fetch.archives import unpack
from tests.corpora.publisher import zipped


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
