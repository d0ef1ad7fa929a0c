"""Telemetry that is read while it is written: what was appended only, and all of it anew where lines were removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.peer import telemetry
from p2pser.peer.following import Follower
from p2pser.peer.telemetry import METRICS, Telemetry


def rounds(follow: Follower, folder: Path) -> list[int]:
    return [line["round"] for line in follow(folder / METRICS)]


def test_only_what_was_appended_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    record = telemetry.record
    monkeypatch.setattr(telemetry, "record", lambda line: parsed.append(line) or record(line))
    follow = Follower(lambda line: "round" in line)
    assert rounds(follow, tmp_path) == []
    with Telemetry(tmp_path) as files:
        for k in range(3):
            files.metrics(round=k)
        assert rounds(follow, tmp_path) == [0, 1, 2]
        files.metrics(other=3)
        files.metrics(round=4)
        with (tmp_path / METRICS).open("a") as file:
            file.write('{"round": 5')
        assert rounds(follow, tmp_path) == [0, 1, 2, 4]
        with (tmp_path / METRICS).open("a") as file:
            file.write("}\n")
        assert rounds(follow, tmp_path) == [0, 1, 2, 4, 5]
    assert len(parsed) == 6


def test_a_file_that_was_cut_and_written_on_is_read_anew(tmp_path: Path) -> None:
    follow = Follower(lambda line: True)
    with Telemetry(tmp_path) as files:
        for k in range(4):
            files.metrics(round=k, start=1)
        assert len(follow(tmp_path / METRICS)) == 4
        files.rewind(2)
        for k in range(2, 6):
            files.metrics(round=k, start=2)
        assert [(line["round"], line["start"]) for line in follow(tmp_path / METRICS)] == [
            (0, 1), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2)]


def test_a_file_that_was_set_aside_is_read_with_the_new_one(tmp_path: Path) -> None:
    follow = Follower(lambda line: True)
    with Telemetry(tmp_path, limit=40) as files:
        files.metrics(round=0)
        assert rounds(follow, tmp_path) == [0]
        for k in range(1, 4):
            files.metrics(round=k)
        assert rounds(follow, tmp_path) == [line["round"] for line in telemetry.read(tmp_path / METRICS)]
        assert rounds(follow, tmp_path)[-1] == 3
