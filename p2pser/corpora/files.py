"""The recordings and tables in a corpus's folder, and clips from file names."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Hashable
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.wording import counted
from p2pser.corpora.manifest import Clip, names_digest, relative

MEDIA = frozenset({".m4a", ".aac", ".webm", ".amr", ".gsm", ".wma", ".3gp", ".mka", ".mp4", ".mov"})
"""Extensions (in lower case) of recordings that need the extra ``media``."""

EXTENSIONS = MEDIA | {
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64",
    ".sph", ".nist", ".voc",
}
"""Extensions of recordings (in lower case)."""

NO_CORPUS = (".", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle")
"""How the names of folders begin in which a system keeps files of its own, mostly readable for itself only."""

LOSSY = MEDIA | {".mp3", ".ogg", ".oga", ".opus"}
"""Extensions of lossily compressed recordings: another copy of the same clip is preferred."""

LFS = b"version https://git-lfs.github.com/spec/"
"""The beginning of a git-LFS pointer, the small file that stands for one that was not fetched."""


class NoRecordingsError(CorpusError):
    """A folder holds no recordings."""


def recordings(data: Path, left_out: list[tuple[Path, str]] | None = None) -> list[Path]:
    """Return the files below ``data`` with a recording's extension, sorted by their path below it.

    Hidden files and folders and those of ``NO_CORPUS`` are skipped; links to folders are followed, each folder once.

    left_out : receives the folders below that cannot be read, each with the reason.

    Raises CorpusError where the folder is missing, cannot be read or holds no recording; without ``left_out`` also
    where a folder below it cannot be read.
    """
    unread: list[tuple[Path, str]] = []
    files = files_below(data, EXTENSIONS, unread)
    if unread and (left_out is None or not files):
        raise CorpusError(f"{unread[0][0]}: {unread[0][1]}")
    if not files:
        raise NoRecordingsError(f"the folder {data} holds no recordings (.wav, .flac, .mp3, ...)")
    if left_out is not None:
        left_out += unread
    return files


def files_below(data: Path, extensions: frozenset[str], left_out: list[tuple[Path, str]] | None = None) -> list[Path]:
    """Return the files below ``data`` with one of these extensions (lower case), as ``recordings`` does.

    left_out : receives the folders below that cannot be read, each with the reason.

    Raises CorpusError where the folder is missing or cannot be read.
    """
    if not data.is_dir():
        raise CorpusError(f"there is no folder {data}" if not data.exists() else f"{data} is not a folder")
    paths: list[Path] = []
    visited: set[str] = set()

    def unread(error: OSError) -> None:
        if Path(error.filename) == data:
            raise CorpusError(f"cannot read the folder {data}: {error.strerror}")
        if left_out is not None:
            left_out.append((Path(error.filename), f"the folder cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(data, followlinks=True, onerror=unread):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(NO_CORPUS))
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        paths += [Path(place, name) for name in files
                  if not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions]
    return sorted(paths, key=lambda path: relative(path, data))


def by_names(
    data: Path,
    parse: Callable[[Path], Clip | str],
    what: str,
    key: Callable[[Clip], Hashable] = lambda clip: clip.path.stem,
) -> tuple[list[Clip], list[tuple[Path, str]]]:
    """Return the clips of a folder, and the recordings that are none, each with the reason.

    Some archives hold every clip twice: of several recordings with the same ``key`` one is kept, preferably one that is
    not lossily compressed.

    Parameters
    ----------
    data : the folder.
    parse : returns the clip of a path, or the reason why it is none.
    what : the corpus and its pattern of names, for the error where no recording is a clip: "named as in …".
    key : a value that is the same for two copies of a clip; default: the stem.

    Raises CorpusError where the folder is missing or empty, or no recording is a clip.
    """
    clips: dict[Hashable, Clip] = {}
    left_out: list[tuple[Path, str]] = []
    unread: list[tuple[Path, str]] = []
    for path in sorted(recordings(data, unread), key=lambda path: path.suffix.lower() in LOSSY):
        clip = parse(path)
        if isinstance(clip, str):
            left_out.append((path, clip))
        elif (first := clips.setdefault(key(clip), clip)) is not clip:
            left_out.append((path, f"a second copy of {relative(first.path, data)}"))
    if not clips:
        raise CorpusError(f"none of the {counted(len(left_out), 'recording')} in {data} is {what}"
                          + _only_reason([reason for _, reason in left_out]))
    return list(clips.values()), left_out + unread


def _only_reason(reasons: list[str]) -> str:
    return f": {reasons[0]}" if len(set(reasons)) == 1 and not reasons[0].startswith("not named") else ""


def clips_of(clips: Collection[Clip], whole: int) -> str:
    """Return ``"2800 clips"``, or ``"12 of 2800 clips, 0f1e2d3c"``: the version of a corpus that has no other.

    The digest tells parts apart: a model that was trained on one of them knows nothing of another.
    """
    return f"{whole} clips" if len(clips) == whole else f"{len(clips)} of {whole} clips, {names_digest(clips)}"


def beside(data: Path, name: str) -> Path | None:
    """Return the file ``name`` (with forward slashes where it has folders) in ``data``, next to it or below it.

    The user's folder may be the corpus's, or the one inside it that holds the recordings.
    """
    for place in (data / name, data.parent / name):
        if place.is_file():
            return place
    below = (path for path in files_below(data, frozenset({Path(name).suffix.lower()}))
             if path.as_posix().endswith(f"/{name}"))
    return next(below, None)


def text_of(path: Path) -> str:
    """Return a text file's content: UTF-8 with or without a mark, UTF-16 with one, else Latin-1.

    Raises CorpusError where it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_table(path: Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of a table with a header, as mappings from the header's names in lower case.

    Raises CorpusError where it cannot be read or lacks one of the columns ``needed`` (in lower case).
    """
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=delimiter)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        rows = [dict(zip(header, (value.strip() for value in row))) for row in reader if any(row)]
    except csv.Error as error:
        raise CorpusError(f"line {reader.line_num} of {path} is not CSV: {error}") from None
    missing = [name for name in needed if name not in header]
    if missing:
        raise CorpusError(f"{path} has no column {missing[0]!r}: is it the corpus's own table?")
    return [row for row in rows if all(name in row for name in needed)]


def audformat_genders(data: Path) -> dict[str, str]:
    """Return each speaker's gender (f, m) from the table of corpora published with audformat; {} without it."""
    table = beside(data, "db.speaker.csv")
    rows = read_table(table, ("speaker",)) if table else []
    genders = {row["speaker"]: row.get("gender", row.get("sex", "")).lower()[:1] for row in rows}
    return {speaker: gender for speaker, gender in genders.items() if gender in ("f", "m")}
