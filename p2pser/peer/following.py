"""Repeated reading of telemetry files: each time only the lines appended since the last."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.atomic import opened, whole_lines
from p2pser.peer import telemetry

Record = dict[str, Any]


@dataclass
class _Seen:
    inode: int
    end: int
    last: bytes
    """The last line before ``end``: if it is no longer there, the file was truncated and written anew."""
    records: list[Record]


class Follower:
    """Returns the lines of telemetry files, as ``telemetry.read`` does.

    keep : whether a line is to be kept; called once for each.
    """

    def __init__(self, keep: Callable[[Record], bool]) -> None:
        self._keep = keep
        self._seen: dict[Path, _Seen] = {}

    def __call__(self, path: Path) -> Sequence[Record]:
        """Return the kept lines, oldest first. Raises OSError where the file cannot be read."""
        seen = self._seen.get(path)
        try:
            with opened(path) as file:
                inode = os.fstat(file.fileno()).st_ino
                if seen is not None and seen.inode == inode:
                    file.seek(seen.end - len(seen.last))
                    if file.read(len(seen.last)) == seen.last:
                        fresh = whole_lines(file.read())
                        seen.records += self._kept(fresh)
                        seen.end += sum(map(len, fresh))
                        seen.last = fresh[-1] if fresh else seen.last
                        return seen.records
                file.seek(0)
                now = whole_lines(file.read())
        except FileNotFoundError:
            return []
        lines = [*telemetry.older_lines(path), *now]
        self._seen[path] = _Seen(inode, sum(map(len, now)), now[-1] if now else b"", self._kept(lines))
        return self._seen[path].records

    def _kept(self, lines: Sequence[bytes]) -> list[Record]:
        records = map(telemetry.record, lines)
        return [record for record in records if record is not None and self._keep(record)]
