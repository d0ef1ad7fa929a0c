"""What a caller of the prediction gives as recordings: files, folders, lists, bytes, open files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from p2pser.base.errors import CorpusError

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

Recording: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO"
"""A recording: its path, or its bytes as a file holds them, or an open file."""

Recordings: TypeAlias = "Recording | Iterable[Recording]"
"""A recording, several, folders (all recordings below them) or lists (``files``)."""

MANIFESTS = (".csv", ".tsv")
LISTS = (".txt", ".lst", *MANIFESTS)
"""Suffixes of files that list recordings: a path on each line, or a manifest."""


def sources(given: Any) -> list[Path | bytes]:
    """Return the recordings that a caller gives, a Recording or several: of an open file the bytes are read.

    Raises CorpusError where it is something else.
    """
    if isinstance(given, (str, os.PathLike)):
        return list[Path | bytes](files(given))
    if isinstance(given, (bytes, bytearray, memoryview)):
        return [bytes(given)]
    if isinstance(given, np.ndarray) or not (isinstance(given, Iterable) or hasattr(given, "read")):
        raise CorpusError(f"{type(given).__name__} is no recording: give a path, bytes or an open file; predict_signal "
                          "takes samples and their rate")
    if not hasattr(given, "read"):
        several = [source for each in given for source in sources(each)]
        return several or list[Path | bytes](files(()))
    try:
        content = given.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise CorpusError(f"the open file of a recording cannot be read ({error}): open it in binary mode "
                          "(open(path, 'rb')), and close it afterwards") from None
    if not isinstance(content, bytes):
        raise CorpusError("a recording is open as text: open it in binary mode (open(path, 'rb'))")
    return [content]


def files(paths: Paths) -> list[Path]:
    """Return the recordings that ``paths`` name, in order.

    A folder stands for the recordings below it, a list (a text file with a path on each line, relative to its folder,
    or a manifest CSV) for the recordings in it. Raises CorpusError where a folder holds none, a list cannot be read, a
    name is empty or no recording is named.
    """
    from p2pser.corpora.files import recordings
    from p2pser.corpora.manifest import read_manifest

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    result: list[Path] = []
    if "" in several:  # as a path it would be the present folder
        raise CorpusError("the name of a recording is empty; give files, folders or lists of recordings")
    for path in map(Path, several):
        if os.path.isdir(path):  # unlike Path.is_dir, false for every name that no file can have
            unread: list[tuple[Path, str]] = []
            result += recordings(path, unread)
            result += [folder for folder, _ in unread]  # as the left-out clips of a manifest
        elif path.suffix.lower() in MANIFESTS:
            listed = read_manifest(path, labelled=False)
            # Left-out clips too: the caller reads them and reports the reason.
            result += [*(clip.path for clip in listed.clips), *(left for left, _ in listed.left_out)]
        elif path.suffix.lower() in LISTS:
            result += _listed(path)
        else:
            result.append(path)
    if not result:
        raise CorpusError("no recording is named; give files, folders or lists of recordings")
    return result


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise CorpusError(f"cannot read the list of recordings {path}: {reason}") from None
    return [path.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
