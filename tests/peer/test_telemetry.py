"""Lines of telemetry: whole, in order, and never in the run's way."""

from __future__ import annotations

import datetime
import enum
import errno
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pser.peer.telemetry import EVENTS, METRICS, OLDER, Telemetry, read


def test_lines_are_there_at_once_and_go_to_the_sink(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with Telemetry(tmp_path / "peer-3", heard.append) as telemetry:
        telemetry.metrics(round=0, loss=1.5)
        assert read(tmp_path / "peer-3" / METRICS) == [{"round": 0, "loss": 1.5}]
        telemetry.event("died", peer=2, silence=8.1)
        (event,) = read(tmp_path / "peer-3" / EVENTS)
    assert heard == [{"round": 0, "loss": 1.5}, event]
    assert (event["kind"], event["peer"], event["silence"]) == ("died", 2, 8.1)
    at = datetime.datetime.fromisoformat(event["at"])
    assert at.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.timezone.utc) - at) < datetime.timedelta(minutes=1)


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    with Telemetry(tmp_path) as telemetry:
        for round in range(3):
            telemetry.metrics(round=round, text="é" * 20)
    path = tmp_path / METRICS
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert [line["round"] for line in read(path)] == list(range(complete))
        with Telemetry(tmp_path) as telemetry:
            telemetry.metrics(round=9)
        assert [line["round"] for line in read(path)] == [*range(complete), 9]


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert read(tmp_path / METRICS) == []


class Colour(enum.IntEnum):
    RED = 1


def test_values_become_what_json_can_hold(tmp_path: Path) -> None:
    with Telemetry(tmp_path) as telemetry:
        record = telemetry.metrics(
            nan=float("nan"), inf=np.float32("inf"), row=torch.tensor([1.0, float("nan")]), int=np.int64(3),
            path=Path("/a"), name="\udcff", peers={2: (1, None)}, flag=True, colour=Colour.RED,
        )  # fmt: skip
    assert record == {
        "nan": None, "inf": None, "row": [1.0, None], "int": 3, "path": "/a", "name": "\udcff",
        "peers": {"2": [1, None]}, "flag": True, "colour": 1,
    }  # fmt: skip
    assert read(tmp_path / METRICS) == [record]
    assert b"NaN" not in (tmp_path / METRICS).read_bytes()


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with Telemetry(tmp_path, heard.append) as telemetry:

        def write(who: int) -> None:
            for number in range(100):
                telemetry.event("step", who=who, number=number, pad="x" * 50 * who)

        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = read(tmp_path / EVENTS)
    assert lines == heard
    for who in range(4):
        assert [line["number"] for line in lines if line["who"] == who] == list(range(100))


def test_a_resumed_run_forgets_what_it_does_again(tmp_path: Path) -> None:
    with Telemetry(tmp_path) as telemetry:
        for round in range(6):
            telemetry.metrics(round=round)
        telemetry.event("died", peer=1)
        telemetry.rewind(4)
        telemetry.metrics(round=4, again=True)
        telemetry.rewind(9)
    assert [line["round"] for line in read(tmp_path / METRICS)] == [0, 1, 2, 3, 4]
    assert read(tmp_path / METRICS)[-1]["again"]
    assert len(read(tmp_path / EVENTS)) == 1


def test_after_closing_only_the_sink_hears(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    telemetry = Telemetry(tmp_path, heard.append)
    telemetry.close()
    telemetry.close()
    telemetry.rewind(0)
    telemetry.metrics(round=1)
    assert heard == [{"round": 1}]
    assert read(tmp_path / METRICS) == []


class Full:
    """A file on a disk that takes ``room`` more bytes of a line."""

    def __init__(self, path: Path, room: int | None) -> None:
        self._file = path.open("ab", buffering=0)
        self.room = room
        self.name = str(path)

    closed = False

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, line: bytes) -> int:
        if self.room is None:
            raise OSError(28, os.strerror(28))
        return self._file.write(line[: self.room])

    def truncate(self, end: int) -> int:
        return self._file.truncate(end)

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("room", [None, 5])
def test_a_full_disk_does_not_end_the_run(room: int | None, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with Telemetry(tmp_path, heard.append) as telemetry:
        telemetry.metrics(round=0)
        good = telemetry._files[METRICS]
        full = Full(tmp_path / METRICS, room)
        telemetry._files[METRICS] = full  # type: ignore[assignment]
        telemetry.metrics(round=1)
        full.close()
        telemetry._files[METRICS] = good
        telemetry.metrics(round=2)
    assert [line["round"] for line in heard] == [0, 1, 2]
    assert [json.loads(line)["round"] for line in (tmp_path / METRICS).read_bytes().splitlines()] == [0, 2]
    assert telemetry.lost == 1
    assert METRICS in telemetry.problem


def test_a_file_that_has_grown_is_set_aside_and_still_read(tmp_path: Path) -> None:
    with Telemetry(tmp_path, limit=4096) as telemetry:
        for round in range(1000):
            telemetry.metrics(round=round, text="x" * 50)
            telemetry.event("up", peer=1)
    rounds = [line["round"] for line in read(tmp_path / METRICS)]
    assert rounds == list(range(rounds[0], 1000))
    assert len(rounds) > 50
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 * 4096 + 400
    assert {path.name for path in tmp_path.iterdir()} == {METRICS, EVENTS, *OLDER.values()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


@pytest.mark.parametrize("back", [0, 15, 38, 39])
def test_metrics_are_rewound_over_what_was_set_aside(tmp_path: Path, back: int) -> None:
    with Telemetry(tmp_path, limit=1200) as telemetry:
        for round in range(40):
            telemetry.metrics(round=round, text="x" * 60)
        first = read(tmp_path / METRICS)[0]["round"]
        assert 0 < first <= 15
        telemetry.rewind(back)
        telemetry.metrics(round=back)
    assert [line["round"] for line in read(tmp_path / METRICS)] == [*range(first, back), back]


def test_a_file_that_cannot_be_set_aside_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left for the new one: the next line tries again, and training does not wait for one."""
    with Telemetry(tmp_path, limit=100) as telemetry:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing)
            patch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
            for round in range(20):
                telemetry.metrics(round=round)
        telemetry.metrics(round=20)
        telemetry.metrics(round=21)
    assert [line["round"] for line in read(tmp_path / METRICS)] == list(range(22))


def failing(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")
