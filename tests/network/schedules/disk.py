"""Faults of the disks: the calls of a peer's process that write are counted, fail, or are its last."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.machine import Machine


@dataclass
class Disk:
    """The disk of one machine.

    full : whether calls that need room fail. dies_at : the process is killed before its call of this number.
    """

    machine: Machine
    full: bool = False
    dies_at: int | None = None
    calls: int = 0
    then: Callable[[], None] = lambda: None

    def called(self, needs_room: bool) -> None:
        self.calls += 1
        process = self.machine.running
        if self.dies_at is not None and self.calls >= self.dies_at and process is not None:
            self.dies_at = None
            self.machine.kill()
            self.then()
            process.world.main.switch()
        if self.full and needs_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disks:
    """The disks of all machines of a schedule, while it lasts (a context manager)."""

    def __init__(self, machines: dict[int, Machine]) -> None:
        self.of = {i: Disk(machine) for i, machine in machines.items()}
        self._undo: list[Callable[[], None]] = []

    def _called(self, needs_room: bool) -> None:
        for disk in self.of.values():
            if disk.machine.running is not None:
                disk.called(needs_room)

    def __enter__(self) -> Disks:
        replace, rename, link, write = os.replace, os.rename, os.link, Path.write_bytes
        real_open = os.open

        def opened(path: Any, flags: int, *more: Any, **others: Any) -> int:
            if flags & os.O_CREAT:
                self._called(True)
            return real_open(path, flags, *more, **others)

        def written(path: Path, data: Any) -> int:
            self._called(True)
            return write(path, data)

        def before(call: Callable[..., None], needs_room: bool = False) -> Callable[..., None]:
            def do(*arguments: Any, **others: Any) -> None:
                self._called(needs_room)
                call(*arguments, **others)
            return do

        self._patch(os, "open", opened)
        self._patch(os, "replace", before(replace))
        self._patch(os, "rename", before(rename))
        self._patch(os, "link", before(link))
        self._patch(os, "fsync", before(lambda handle: None, True))
        self._patch(Path, "write_bytes", written)
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def _patch(self, where: Any, name: str, value: Any) -> None:
        before = getattr(where, name)
        setattr(where, name, value)
        self._undo.append(lambda: setattr(where, name, before))


def tear(folder: Path, draw: Any) -> None:
    """Cut a file of the newest checkpoint short."""
    found = sorted(folder.glob("checkpoint/round-*"))
    if found:
        path = found[-1] / draw.choice(("rows.safetensors", "meta.json", "edges.safetensors"))
        if path.exists():
            data = path.read_bytes()
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
