"""Features on disk, by the content of the recording and the settings that they depend on.

``cache_folder()/features/KIND-SETTINGS/ab/abcd….npy`` holds the features of the recording whose bytes have that
BLAKE2b digest (joined kinds are kept apart). ``cache_folder()/index/FOLDER.jsonl`` keeps the digest of each path with
its size and time of change, so that a second run reads no recording. Files appear whole (renamed into place) and index
lines are appended whole, so any number of processes may write at once; a damaged file or line counts as missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.base.atomic import new_file
from p2pser.base.paths import cache_folder

SETTLED = 2.0
"""A file that changed less than this before it was read [s] is not indexed: it might change again unnoticed."""


def content_digest(path: Path) -> str:
    """Return the BLAKE2b digest of a file's bytes (hex, 128 bit); OSError where it cannot be read or is no file.

    A pipe would wait for its writer, and a device may have no end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parse(line: str) -> tuple[str, list[object]] | None:
    """Return the name and [size, time, digest] of an index line, or None where it is damaged."""
    try:
        name, *rest = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (name, rest) if isinstance(name, str) and len(rest) == 3 else None


class Index:
    """The content of each path, by size and time of change; one file for each folder of recordings."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = (root or cache_folder()) / "index"
        self._known: dict[Path, dict[str, list[object]]] = {}
        self._fresh: dict[Path, list[str]] = {}

    def _file(self, folder: Path) -> Path:
        return self._root / f"{hashlib.blake2b(os.fsencode(folder), digest_size=12).hexdigest()}.jsonl"

    def _entries(self, folder: Path) -> dict[str, list[object]]:
        if folder not in self._known:
            entries: dict[str, list[object]] = {}
            try:
                lines = self._file(folder).read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                lines = []
            for line in lines:
                entry = _parse(line)
                if entry is not None:
                    entries[entry[0]] = entry[1]
            self._known[folder] = entries
        return self._known[folder]

    def find(self, path: Path) -> str | None:
        """Return the digest that ``path`` had at its present size and time of change, or None."""
        where = Path(os.path.abspath(path))
        try:
            state = where.stat()
        except OSError:
            return None
        entry = self._entries(where.parent).get(where.name)
        if entry is None or entry[:2] != [state.st_size, state.st_mtime_ns]:
            return None
        digest = entry[2]
        return digest if isinstance(digest, str) and len(digest) == 32 and digest.isalnum() else None

    def remember(self, path: Path, digest: str, stamp: tuple[int, int]) -> None:
        """Keep a digest for ``write``; ``stamp``: the size and time of change [ns] before the file was read."""
        where = Path(os.path.abspath(path))
        if time.time() - stamp[1] / 1e9 < SETTLED:
            return
        entry: list[object] = [*stamp, digest]
        self._entries(where.parent)[where.name] = entry
        self._fresh.setdefault(where.parent, []).append(json.dumps([where.name, *entry]) + "\n")

    def write(self) -> None:
        """Append what was remembered since the last call; a file that cannot be written is left as it is."""
        for folder, lines in self._fresh.items():
            with contextlib.suppress(OSError):
                self._append(folder, lines)
        self._fresh.clear()

    def _append(self, folder: Path, lines: Sequence[str]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._file(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # A newline first: it ends a line that a killed process left incomplete.
            os.write(handle, ("\n" + "".join(lines)).encode())
        finally:
            os.close(handle)


class Store:
    """The features of one kind with one set of settings, in the folder ``key``; each of the same ``shape``."""

    def __init__(self, key: str, shape: tuple[int, ...], root: Path | None = None) -> None:
        self.folder = (root or cache_folder()) / "features" / key
        self._shape = shape

    def path(self, digest: str) -> Path:
        """Return the file of the features of this content."""
        return self.folder / digest[:2] / f"{digest}.npy"

    def get(self, digest: str) -> NDArray[np.float32] | None:
        """Return the features of this content, or None where there are none of the right shape."""
        try:
            with self.path(digest).open("rb") as file:
                features = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        fits = isinstance(features, np.ndarray) and features.dtype == np.float32
        return features if fits and features.shape == self._shape else None

    def put(self, digest: str, features: NDArray[np.float32]) -> None:
        """Write features, whole or not at all; a cache that cannot be written (full, read-only) costs time only."""
        with contextlib.suppress(OSError), new_file(self.path(digest), durable=False) as file:
            np.save(file, features, allow_pickle=False)
