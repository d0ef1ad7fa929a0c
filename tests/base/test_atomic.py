"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2pser.base import atomic
from p2pser.base.errors import CheckpointError


def test_json_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "run.json"
    assert atomic.read_json(path) is None
    atomic.write_json(path, {"incarnation": 1, "name": "ü"})
    assert atomic.read_json(path) == {"incarnation": 1, "name": "ü"}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            atomic.write_json(path, {"incarnation": 2})
    assert atomic.read_json(path)["incarnation"] == 1
    assert [one.name for one in path.parent.iterdir()] == ["run.json"]
    atomic.write_json(path, {"incarnation": 2})
    assert atomic.read_json(path) == {"incarnation": 2}


def test_damaged_json_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match="not JSON"):
        atomic.read_json(tmp_path / "run.json")
    with pytest.raises(CheckpointError, match="cannot read"):
        atomic.read_json(tmp_path)
