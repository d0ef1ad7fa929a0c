"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from p2pser.base import atomic
from p2pser.base.errors import CheckpointError, ConfigError


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "run.json"
    assert atomic.read_json(path, dict) is None
    atomic.write_json(path, {"incarnation": 1, "name": "ü"})
    assert atomic.read_json(path, dict) == {"incarnation": 1, "name": "ü"}

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left") as caught:
            atomic.write_json(path, {"incarnation": 2})
        assert caught.value.exit_code == 1  # the call is right: it may be tried again
        with pytest.raises(ConfigError, match=r"cannot write .*run\.json: No space left on device; make room there"):
            atomic.write_json(path, {"incarnation": 2}, error=ConfigError)
    assert atomic.read_json(path, dict)["incarnation"] == 1
    assert listing(path.parent) == ["run.json"]
    atomic.write_json(path, {"incarnation": 2})
    assert atomic.read_json(path, dict) == {"incarnation": 2}


def test_damaged_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match="not JSON"):
        atomic.read_json(tmp_path / "run.json", dict)
    with pytest.raises(CheckpointError, match="cannot read"):
        atomic.read_json(tmp_path, dict)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged: it holds no dict; remove it"):
        atomic.read_json(tmp_path / "run.json", dict)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"), atomic.new_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["rows"]


def test_a_block_that_raises_writes_nothing(tmp_path: Path) -> None:
    def fill(file: IO[bytes]) -> None:
        file.write(b"half")
        raise KeyError

    with pytest.raises(KeyError), atomic.new_file(tmp_path / "file") as file:
        fill(file)
    with pytest.raises(KeyError), atomic.new_folder(tmp_path / "folder") as folder, (folder / "x").open("wb") as file:
        fill(file)
    assert listing(tmp_path) == []


def test_an_unfinished_file_is_not_at_its_place(tmp_path: Path) -> None:
    with atomic.new_file(tmp_path / "file") as file, atomic.new_folder(tmp_path / "folder"):
        file.write(b"half")
        assert [name.startswith(atomic.PARTIAL) for name in listing(tmp_path)] == [True, True]
    assert listing(tmp_path) == ["file", "folder"]


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic.new_file(path) as first, atomic.new_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # finished last
    assert listing(tmp_path) == ["file"]


def test_a_file_that_must_be_new(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with atomic.new_file(path, mode=0o600, replace=False) as file:
        file.write(b"mine")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError), atomic.new_file(path, replace=False) as file:
        file.write(b"yours")
    assert path.read_bytes() == b"mine"
    assert listing(tmp_path) == ["secret"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic.new_file(tmp_path / "file"), atomic.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_durable_is_synced_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    calls: list[str] = []
    names = {"fsync": os.fsync, "replace": os.replace, "rename": os.rename}

    def recorded(name: str) -> object:
        def call(*arguments: object) -> object:
            what = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else ""
            calls.append(f"{name} {Path(what).name.partition('.')[0] or 'partial'}" if what else name)
            return names[name](*arguments)  # type: ignore[operator]
        return call

    for name in names:
        monkeypatch.setattr(os, name, recorded(name))
    with atomic.new_file(tmp_path / "file", durable=durable) as file:
        file.write(b"x")
    with atomic.new_folder(tmp_path / "folder", durable=durable) as folder:
        (folder / "inside").write_bytes(b"x")
    top = f"fsync {tmp_path.name}"
    assert calls == (["fsync partial", "replace", top, "fsync inside", "fsync partial", "rename", top] if durable
                     else ["replace", "rename"])


def test_a_finished_file_is_moved(tmp_path: Path) -> None:
    (tmp_path / "clip.part").write_bytes(b"whole")
    (tmp_path / "clip").write_bytes(b"old")
    atomic.move(tmp_path / "clip.part", tmp_path / "clip")
    assert (tmp_path / "clip").read_bytes() == b"whole"
    assert listing(tmp_path) == ["clip"]


def test_a_line_follows_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    atomic.append_line(path, b"first\n")
    path.write_bytes(path.read_bytes() + b"torn")
    atomic.append_line(path, b"second\n")
    atomic.append_line(path, b"third\n")
    assert path.read_bytes() == b"first\nsecond\nthird\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_does_not_fit_as_a_whole_is_not_there(
        tmp_path: Path, room: Callable[[int], AbstractContextManager[None]]) -> None:
    path = tmp_path / "lines"
    atomic.append_line(path, b"first\n")
    with room(9), pytest.raises(OSError, match="No space left"):
        atomic.append_line(path, b"second\n")
    assert path.read_bytes() == b"first\n"


def test_files_wait_for_a_free_descriptor(tmp_path: Path, no_descriptors: Callable[[float], None]) -> None:
    """As in a peer to whose port a crowd of outsiders connects."""
    no_descriptors(0.2)
    atomic.write_json(tmp_path / "run.json", {"incarnation": 1})
    no_descriptors(0.2)
    assert atomic.read_json(tmp_path / "run.json", dict) == {"incarnation": 1}
    no_descriptors(0.2)
    with atomic.append_privately(tmp_path / "events") as file:
        file.write(b"line")
    assert (tmp_path / "events").read_bytes() == b"line"


def test_the_wait_for_a_descriptor_ends(tmp_path: Path, no_descriptors: Callable[[float], None],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    no_descriptors(60)
    with pytest.raises(CheckpointError, match="Too many open files"):
        atomic.write_json(tmp_path / "run.json", {"incarnation": 1})


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.wav")
    atomic.write_json(tmp_path / "a.json", {name: "ü"})
    assert atomic.read_json(tmp_path / "a.json", dict) == {name: "ü"}


def test_a_pipe_in_the_place_of_a_run_file_is_replaced_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    atomic.write_json(tmp_path / "run.json", {"incarnation": 1})
    assert atomic.read_json(tmp_path / "run.json", dict) == {"incarnation": 1}


def test_a_table_goes_where_its_name_leads(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"old")
    (tmp_path / "link").symlink_to("table.csv")
    atomic.put(tmp_path / "link", b"new", pipe=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "table.csv").read_bytes() == b"new"
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as received, os.fdopen(writer, "wb"):
        atomic.require_place(Path(f"/dev/fd/{writer}"), folder=False)
        atomic.put(Path(f"/dev/fd/{writer}"), b"rows", pipe=True)
        assert received.read(4) == b"rows"


def test_a_table_to_standard_output_follows_what_was_printed(tmp_path: Path) -> None:
    name = tmp_path / "stdout"  # as /dev/stdout is, which root could replace
    name.symlink_to("/proc/self/fd/1")
    program = ("import sys; from pathlib import Path; from p2pser.base import atomic; name = Path(sys.argv[1]); "
               "print('before', flush=True); atomic.require_place(name, folder=False); "
               "atomic.put(name, b'rows\\n', pipe=True); print('after')")
    with (tmp_path / "printed").open("wb") as printed:
        subprocess.run([sys.executable, "-c", program, str(name)], stdout=printed, check=True)
    assert (tmp_path / "printed").read_text() == "before\nrows\nafter\n"
    assert listing(tmp_path) == ["printed", "stdout"]
    assert name.is_symlink()
