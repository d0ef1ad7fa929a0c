"""Which files of a folder are taken for recordings, and adapters' common end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from p2pser.errors import CorpusError
from p2pser.speech.audio import EXTENSIONS
from p2pser.speech.manifest import Clip, relative


def recordings(data: Path) -> list[Path]:
    """Return the files below ``data`` with a recording's extension, sorted by their path below it.

    Hidden files and folders and ``__MACOSX`` are skipped; links to folders are followed, each folder once.
    Raises CorpusError where the folder is missing, cannot be read or holds no recording.
    """
    if not data.is_dir():
        raise CorpusError(f"there is no folder {data}" if not data.exists() else f"{data} is not a folder")
    found: list[Path] = []
    visited: set[str] = set()

    def refuse(error: OSError) -> None:
        raise CorpusError(f"cannot read the folder {error.filename}: {error.strerror}")

    for place, folders, files in os.walk(data, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        found += [Path(place, name) for name in files
                  if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS]
    if not found:
        raise CorpusError(f"the folder {data} holds no recordings (.wav, .flac, .mp3, ...)")
    return sorted(found, key=lambda path: relative(path, data))


def by_names(
    data: Path, parse: Callable[[Path], Clip | str], what: str
) -> tuple[list[Clip], list[tuple[Path, str]]]:
    """Return the clips whose file names ``parse`` understands, and the others with its reason.

    A stem names a clip of such corpora, so a second copy of it (some archives hold every clip twice) is left
    out. Raises CorpusError where no name is understood; ``what`` names the corpus and its pattern.
    """
    clips: dict[str, Clip] = {}
    left_out: list[tuple[Path, str]] = []
    for path in recordings(data):
        clip = parse(path)
        if isinstance(clip, str):
            left_out.append((path, clip))
        elif path.stem in clips:
            left_out.append((path, f"a second copy of {relative(clips[path.stem].path, data)}"))
        else:
            clips[path.stem] = clip
    if not clips:
        raise CorpusError(f"none of the {len(left_out)} recordings in {data} is named as in {what}")
    return list(clips.values()), left_out
