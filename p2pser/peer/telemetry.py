"""Telemetry of a peer: ``metrics.jsonl`` (a line for each round) and ``events.jsonl`` (a line for each event)."""

from __future__ import annotations

import datetime
import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from p2pser.base.atomic import append_at_once, append_privately, append_whole, opened, whole_lines
from p2pser.base.errors import ConfigError

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
OLDER = {METRICS: "metrics.older.jsonl", EVENTS: "events.older.jsonl"}
"""Name of a file -> the name under which it is set aside at its limit; the file of that name is replaced."""
LIMIT = 8 << 20
"""Size at which a file is set aside [B]."""


class Telemetry:
    """Appends lines of JSON to both files, each flushed at once, and passes them to ``sink``. Thread-safe.

    A half-written last line of a killed process is removed on opening. A full disk does not end the run: the line is
    lost, ``lost`` counts it, and ``problem`` names the cause. A file that reaches ``limit`` bytes is set aside (OLDER):
    the disk holds at most twice as much of each, however long the run.

    >>> with Telemetry(folder, sink=print) as telemetry:
    ...     telemetry.event("joined", peer=3)
    ...     telemetry.metrics(round=0, loss=1.2)
    """

    def __init__(self, folder: Path, sink: Callable[[dict[str, Any]], None] | None = None, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self.lost = 0
        self.problem = ""
        self._sink = sink
        self._lock = threading.RLock()
        self._files: dict[str, IO[bytes]] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (METRICS, EVENTS):
                self._files[name] = _open(folder / name, append_privately)
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot write in {folder}: {error.strerror or error}; make room there, or choose "
                              "another folder (--out)") from None

    def metrics(self, **fields: Any) -> dict[str, Any]:
        """Append a line of measurements and return it (numbers that are not finite become null)."""
        return self._add(METRICS, fields)

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append an event with the time ``at`` (ISO 8601, UTC) and return it."""
        return self._add(EVENTS, {"at": now(), "kind": kind, **fields})

    def rewind(self, round: int) -> None:
        """Remove the metrics of ``round`` and later rounds: a run that resumes there writes them again."""
        with self._lock:
            file = self._files[METRICS]
            if file.closed:
                return
            older, newer = self.folder / OLDER[METRICS], self.folder / METRICS
            try:
                if (end := _before(older, round)) < _size(older):
                    os.truncate(older, end)
                    file.truncate(0)
                else:
                    file.truncate(_before(newer, round))
            except OSError as error:
                self._lose(METRICS, error)

    def close(self) -> None:
        """Close the files; later lines go to the sink only."""
        with self._lock:
            for file in self._files.values():
                file.close()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = _plain(fields)
        with self._lock:
            self._append(name, _line(record))
            if self._sink is not None:
                self._sink(record)
        return record

    def _append(self, name: str, line: bytes) -> None:
        file = self._files[name]
        if file.closed:
            return
        try:
            begin = append_whole(file, line)
        except OSError as error:
            self._lose(name, error)
        else:
            if begin + len(line) >= self.limit:
                self._set_aside(name)

    def _lose(self, name: str, error: OSError) -> None:
        self.lost += 1
        self.problem = f"cannot write {self.folder / name}: {error.strerror or error}"

    def _set_aside(self, name: str) -> None:
        path = self.folder / name
        try:
            if path.exists():
                os.replace(path, self.folder / OLDER[name])
            fresh = _open(path, append_at_once)  # training does not wait for a free descriptor
        except OSError:
            return  # the line is written where it was; the next one tries again
        self._files[name].close()
        self._files[name] = fresh


def to_all(*sinks: Callable[[dict[str, Any]], None] | None) -> Callable[[dict[str, Any]], None]:
    """Return a sink that passes each line to all of these."""
    def sink(record: dict[str, Any]) -> None:
        for each in sinks:
            if each is not None:
                each(record)

    return sink


def now() -> str:
    """Return the present time in the form of a line's ``at``."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a telemetry file, those set aside first; none if the file is missing.

    A half-written last line and damaged lines are skipped.
    """
    records = map(record, [*older_lines(path), *_lines(path)])
    return [each for each in records if each is not None]


def record(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None if it is damaged."""
    try:
        held = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None


def older_lines(path: Path) -> list[bytes]:
    """Return the lines that were set aside of a telemetry file."""
    return _lines(path.with_name(OLDER[path.name])) if path.name in OLDER else []


def _lines(path: Path) -> list[bytes]:
    try:
        with opened(path) as file:
            return whole_lines(file.read())
    except FileNotFoundError:
        return []


def _before(path: Path, round: int) -> int:
    """Return the offset of the first line of ``round`` or a later round; the size of the file if there is none."""
    end = 0
    for line in _lines(path):
        if _round(line) >= round:
            break
        end += len(line)
    return end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _open(path: Path, append: Callable[[Path], IO[bytes]]) -> IO[bytes]:
    """Open for appending, unbuffered, and remove a half-written last line."""
    file = append(path)
    file.seek(0)
    file.truncate(sum(map(len, whole_lines(file.read()))))
    return file


def _round(line: bytes) -> int:
    """Return the round of a line of measurements; -1 for a line that is damaged."""
    try:
        return int(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return -1


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """Return the value in a form that JSON can represent: finite numbers or None, lists, maps with text keys, text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    return str(value)
