"""The cells of a manifest: what a spreadsheet, a script or a person may have written there."""

from __future__ import annotations

import csv
import io
import math
import os
import unicodedata
from collections.abc import Sequence
from datetime import date
from pathlib import Path, PureWindowsPath

from p2pser.base.errors import CorpusError

PURPOSE, UNTIL, LICENCE = "purpose", "consent_until", "licence"
"""The columns of what a clip's speaker has agreed to (``p2pser.corpora.consent``)."""

_MISSING = frozenset({"", "nan", "na", "n/a", "null"})
"""Cells, in lower case, that programs write where there is no value."""

_DELIMITERS = (",", ";", "\t")


def read_text(path: Path) -> tuple[bytes, str]:
    """Return a manifest's bytes and its text: UTF-8, or UTF-16 with a byte order mark.

    Raises CorpusError where it cannot be read or is no such text.
    """
    try:
        content = path.read_bytes()
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content, content.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read the manifest {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"the manifest {path} is not UTF-8 text: save it as CSV in UTF-8") from None


def table(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a manifest, and the (line, values) of its rows; blank rows are skipped.

    Cells are separated by commas, semicolons or tabs: by what a first line ``sep=;`` gives, else by what makes ``path``
    one of the header's columns. Raises CorpusError where the text is not CSV or has no such column.
    """
    first, _, rest = text.partition("\n")
    given = first.removeprefix("sep=")[:1] if first.startswith("sep=") else ""
    skipped = 1 if given else 0
    for delimiter in [given] if given in _DELIMITERS else _DELIMITERS:
        reader = csv.reader(io.StringIO(rest if given else text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if "path" not in header:
                continue
            rows = [(reader.line_num + skipped, row) for row in reader if any(value.strip() for value in row)]
        except csv.Error as error:
            raise CorpusError(f"line {reader.line_num + skipped} of the manifest {path} is not CSV: {error}") from None
        repeated = {name for name in header if header.count(name) > 1}
        if repeated:
            raise CorpusError(f"the manifest {path} has the column {min(repeated)!r} twice: rename one")
        return header, rows
    raise CorpusError(f"the manifest {path} has no column 'path': its first line must name the columns, e.g. "
                      "path,speaker,emotion")


def word(text: str) -> str:
    """Return a cell without blanks at its ends; "" where it only marks a missing value.

    >>> word(" anger "), word("NaN")
    ('anger', '')
    """
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def number(text: str) -> float | None:
    """Return a cell's number; None where it is missing. Raises ValueError where it is no finite number."""
    text = word(text)
    if not text:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class Files:
    """The recordings that a manifest's cells name, below ``root``. It reads each folder at most once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, dict[str, str]] = {}

    def path(self, cell: str) -> Path:
        """Return the file that a cell names, existing or not. Raises ValueError, with the reason, where it names none.

        Backslashes separate folders as slashes do, and composed and decomposed Unicode are the same name.
        """
        name = cell.strip()
        if not name or "\0" in name:
            raise ValueError("it has no usable path")
        spellings = [name]
        if "\\" in name:
            if PureWindowsPath(name).drive:
                raise ValueError(f"{name} is a path of a Windows machine: write it relative to the manifest's folder")
            spellings.append(name.replace("\\", "/"))
        spellings += [unicodedata.normalize(form, spellings[-1]) for form in ("NFC", "NFD")]
        paths = [self._root / spelling for spelling in spellings]
        return next((path for path in paths if os.path.isfile(path)), paths[-3])

    def missing(self, path: Path) -> str | None:
        """Return why there is no such file, with the nearest name in its folder; None where there is."""
        if os.path.isfile(path):
            return None
        folder = str(path.parent)
        if folder not in self._names:
            self._names[folder] = {_plain(name): name for name in _listed(folder)}
        near = self._names[folder].get(_plain(path.name))
        return "the file is missing" + (f"; did you mean {near}?" if near else "")


def _listed(folder: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return ()


def _plain(name: str) -> str:
    """Return a name without its extension, case and composition of characters."""
    return unicodedata.normalize("NFC", os.path.splitext(name)[0]).casefold()


def last_day(cell: str) -> date | None:
    """Return the day in a cell (YYYY-MM-DD); None where there is no value. Raises ValueError for anything else."""
    if cell.strip().lower() in _MISSING:
        return None
    try:
        return date(*map(int, cell.strip().split("-")))
    except (TypeError, ValueError):
        raise ValueError(f"{cell!r} is no day: write it as YYYY-MM-DD") from None
