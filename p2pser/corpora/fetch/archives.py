"""Archives unpacked into a folder, never outside it; existing members are not written again."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from p2pser.base.atomic import new_file
from p2pser.base.errors import CorpusError

_SKIPPED = re.compile(r"(^|/)(__MACOSX(/|$)|\.)")


def unpack(archive: Path, folder: Path, *, members: str = "", strip: int = 0) -> int:
    """Unpack a ZIP into ``folder`` and return the number of its files there. Hidden files are not unpacked.

    Parameters
    ----------
    archive : the ZIP file.
    folder : where it is unpacked; made if it is missing.
    members : a regular expression; members whose names do not contain a match are skipped.
    strip : the number of leading folders to remove from the names.

    Raises CorpusError where it is no ZIP or damaged, does not fit on the disk, or a member would be written outside the
    folder or is a link: then nothing is unpacked.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            chosen = _chosen(archive, zipped, re.compile(members), strip)
            targets = {folder.joinpath(*name.parts): member for member, name in chosen}
            missing = {target: member for target, member in targets.items()
                       if not target.is_file() or target.stat().st_size != member.file_size}
            folder.mkdir(parents=True, exist_ok=True)
            needed, free = sum(member.file_size for member in missing.values()), shutil.disk_usage(folder).free
            if needed > free:
                raise CorpusError(f"{archive.name} needs {needed >> 20} MiB unpacked, and {folder} has {free >> 20} "
                                  "MiB left: free some space, or choose another folder")
            for target, member in missing.items():
                with zipped.open(member) as source, new_file(target, durable=False) as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:  # RuntimeError: encrypted
        raise CorpusError(f"{archive} is not a ZIP that can be unpacked ({error}): remove it and fetch again") from None
    except OSError as error:
        raise CorpusError(f"cannot unpack into {folder}: {error.strerror or error}") from None
    return len(targets)


def _chosen(
    archive: Path, zipped: zipfile.ZipFile, members: re.Pattern[str], strip: int
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    chosen = []
    for member in zipped.infolist():
        name = member.filename.replace("\\", "/")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
            raise CorpusError(f"{archive} holds {member.filename!r}, which would be unpacked outside the folder: do "
                              "not trust it")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise CorpusError(f"{archive} holds a link, {member.filename!r}: do not trust it")
        inner = PurePosixPath(*path.parts[strip:])
        if not member.is_dir() and inner.parts and not _SKIPPED.search(inner.as_posix()) and members.search(name):
            chosen.append((member, inner))
    return chosen
