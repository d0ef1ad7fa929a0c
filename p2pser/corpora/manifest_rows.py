"""The cells of a manifest: what a spreadsheet, a script or a person may have written there."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path, PureWindowsPath

from p2pser.base.errors import CorpusError
from p2pser.base.wording import shown

COLUMNS = ("path", "speaker", "gender", "language", "emotion", "arousal", "valence", "dominance", "transcript")
"""The columns of a manifest, in any case; only ``path`` and one label (emotion or a dimension) are needed."""

PURPOSE, UNTIL, LICENCE = "purpose", "consent_until", "licence"
"""The columns of what a clip's speaker has agreed to (``p2pser.corpora.consent``)."""

CORPUS, SYNTHETIC = "corpus", "synthetic"
"""The column that names each clip's corpus, in a manifest of several, and the one that marks synthetic speech."""

VOTES = "votes."
"""The prefix of columns with the share of listeners who named an emotion."""

_KNOWN = frozenset({*COLUMNS, PURPOSE, UNTIL, LICENCE, CORPUS, SYNTHETIC})
"""Columns that have a meaning. Their names count in any case, with blanks or dashes for underscores too: a consent
must not be missed because its column is called "Consent until"."""

_MISSING = frozenset({"", "nan", "na", "n/a", "null"})
"""Cells, in lower case, that programs write where there is no value."""

_GENDERS = {
    "f": "f female woman girl w weiblich frau féminin femme femenino mujer femminile donna",
    "m": "m male man boy männlich mann masculin homme masculino hombre maschile uomo",
    "": "unknown other another nonbinary non-binary nb x diverse divers d unbekannt andere inconnu autre otro altro",
}
"""Words for a speaker's gender, in lower case: female, male, and another or an unknown one."""

_LANGUAGES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv
ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne
ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st
su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
"""The codes of languages (ISO 639-1)."""

_MEANT = {
    "path": "file filename file_name filepath file_path audio audio_path audio_file wav recording clip name uri datei",
    "emotion": "label labels emotion_label class category target emo",
    "speaker": "speaker_id speakerid spk spk_id subject subject_id participant participant_id patient person actor",
}
"""Other names that tables have for a column, in lower case with underscores."""

_DELIMITERS = (",", ";", "\t")
_GIVEN = re.compile(r'"?sep=([^"\r\n]?)"?\s*', re.IGNORECASE)
"""A first line by which spreadsheets are told the separator."""
QUOTED = 100
"""Characters of a cell that a sentence quotes."""
LARGEST = 256 << 20
"""Size of the largest manifest [B]: about two million clips."""
MOST_COLUMNS = 4096


def read_text(path: Path) -> tuple[bytes, str]:
    """Return a manifest's bytes and its text: UTF-8, or UTF-16 with a byte order mark.

    Raises CorpusError where it cannot be read or is no such text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise CorpusError(f"the manifest {path} is larger than {LARGEST >> 20} MiB: it is another file")
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content, content.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read the manifest {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"the manifest {path} is not UTF-8 text: save it as CSV in UTF-8") from None


def table(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a manifest, and the (line, values) of its rows; blank rows are skipped.

    Cells are separated by commas, semicolons or tabs, or by what a first line ``sep=;`` gives: by the first of these
    that makes ``path`` one of the header's columns. Raises CorpusError where the text is not CSV or has no such column.
    """
    csv.field_size_limit(LARGEST)  # a long transcript costs only itself
    first, _, rest = text.partition("\n")
    given = _GIVEN.fullmatch(first)
    text, skipped = (rest, 1) if given else (text, 0)
    others: list[str] = []
    for delimiter in dict.fromkeys([*(given[1] if given else ""), *_DELIMITERS]):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = _header(reader)
        if "path" not in header:
            others = max(others, header, key=len)
            continue
        if len(header) > MOST_COLUMNS:
            raise CorpusError(f"the manifest {path} has {len(header)} columns: leave out those that are no facts of "
                              f"clips ({MOST_COLUMNS} at most)")
        repeated = {name for name, count in Counter(header).items() if count > 1 and name}
        if repeated:
            raise CorpusError(f"the manifest {path} has the column {quoted(min(repeated))} twice: rename one")
        try:
            return header, [(reader.line_num + skipped, row) for row in reader if any(value.strip() for value in row)]
        except csv.Error as error:
            raise CorpusError(f"line {reader.line_num + skipped} of the manifest {path} is not CSV: {error}") from None
    if "\0" in text[:1000]:
        raise CorpusError(f"the manifest {path} is not UTF-8 text: save it as CSV in UTF-8")
    raise CorpusError(f"the manifest {path} has no column 'path': its first line must name the columns, e.g. "
                      f"path,speaker,emotion{meant('path', others)}")


def _header(reader: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns; none where the first line is not CSV with this separator."""
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error:
        return []
    return [_usual(name) for name in names]


def _usual(name: str) -> str:
    """Return a column's name as the code knows it; one without a meaning as it is."""
    plain = re.sub(r"[\s-]+", "_", name.lower())
    if plain in _KNOWN:
        return plain
    return VOTES + name[len(VOTES):] if name.lower().startswith(VOTES) else name


def word(text: str) -> str:
    """Return a cell without blanks at its ends; "" where it only marks a missing value.

    >>> word(" anger "), word("NaN")
    ('anger', '')
    """
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def truth(text: str) -> bool:
    """Return whether a cell says yes: anything but 0, false, no and what marks a missing value.

    >>> truth("1"), truth("No"), truth("")
    (True, False, False)
    """
    return word(text).lower() not in ("", "0", "0.0", "false", "no", "n")


def gender(text: str) -> str:
    """Return ``"f"`` or ``"m"`` for the usual words for them, ``""`` where it is missing, unknown or another one.

    Raises ValueError for anything else.

    >>> gender("Female"), gender("M"), gender("NA"), gender("divers")
    ('f', 'm', '', '')
    """
    text = word(text)
    found = next((sex for sex, words in _GENDERS.items() if text.lower() in words.split()), None)
    if text and found is None:
        raise ValueError(f"gender = {quoted(text)} is neither f nor m: correct the cell, or leave it empty")
    return found or ""


def language(text: str) -> str:
    """Return the code of a language (ISO 639-1), without a region; "" where it is missing. Raises ValueError for
    anything else.

    >>> language("DE"), language("pt-BR"), language("")
    ('de', 'pt', '')
    """
    text = word(text)
    code = re.split("[-_]", text.lower())[0]
    if text and code not in _LANGUAGES.split():
        raise ValueError(f"language = {quoted(text)} is no code of two letters (ISO 639-1: de, en): correct the "
                         "cell, or leave it empty")
    return code


def quoted(cell: str) -> str:
    """Return a cell as a sentence quotes it: in quotation marks, and a long one shortened."""
    return shown(repr(cell), QUOTED)


def meant(column: str, header: Iterable[str]) -> str:
    """Return what to do where a header lacks a column, if it has another one that may be meant; else "".

    >>> meant("path", ["File name", "emotion"]), meant("path", ["x"])
    ("; rename the column 'File name' to 'path' if that is meant", '')
    """
    names = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in header}
    near = difflib.get_close_matches(column, [name for name in names if name not in _KNOWN], n=1, cutoff=0.7)
    found = next((names[name] for name in (*_MEANT[column].split(), *near) if name in names), None)
    return "" if found is None else f"; rename the column {quoted(found)} to {column!r} if that is meant"


def number(text: str) -> float | None:
    """Return a cell's number; None where it is missing. Raises ValueError where it is no finite number."""
    text = word(text)
    if not text:
        return None
    value = float(text)
    if not math.isfinite(value) or "_" in text:
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
        usual = name.replace("\\", "/")
        forms = (unicodedata.normalize(form, usual) for form in ("NFC", "NFD"))
        for spelling in dict.fromkeys((name, usual, *forms)):
            if os.path.isfile(path := self._root / spelling):
                return path
        if PureWindowsPath(name).drive:
            raise ValueError(f"{shown(name, QUOTED)} is a path of a Windows machine: write it relative to the "
                             "manifest's folder")
        return self._root / usual

    def missing(self, path: Path) -> str | None:
        """Return why there is no such file, with the nearest one; None where there is."""
        if os.path.isfile(path):
            return None
        if os.path.lexists(path):
            return "it is a folder" if os.path.isdir(path) else "it is no file, but a pipe, a device or a broken link"
        near = self._nearest(path)
        return "the file is missing" + (f"; did you mean {near}?" if near else "")

    def _nearest(self, path: Path) -> str | None:
        """Return the file whose names differ from a path's in case, extension or composition only, if there is one:
        its name, or its path below the root where a folder differs.
        """
        place = self._root if path.is_relative_to(self._root) else Path(path.anchor)
        for folder in path.relative_to(place).parent.parts:
            near = folder if os.path.lexists(place / folder) else self._names_in(place).get(_folded(folder))
            if near is None:
                return None
            place /= near
        near = self._names_in(place).get(_plain(path.name))
        if near is None:
            return None
        place /= near
        if place.parent == path.parent or not place.is_relative_to(self._root):
            return place.name
        return place.relative_to(self._root).as_posix()

    def _names_in(self, folder: Path) -> Mapping[str, str]:
        if str(folder) not in self._names:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            self._names[str(folder)] = {key(name): name for key in (_plain, _folded) for name in names}
        return self._names[str(folder)]


def _plain(name: str) -> str:
    """Return a name without its extension, case and composition of characters."""
    return _folded(os.path.splitext(name)[0])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def last_day(cell: str) -> date | None:
    """Return the day in a cell (YYYY-MM-DD); None where there is no value. Raises ValueError for anything else."""
    if cell.strip().lower() in _MISSING:
        return None
    try:
        return date(*map(int, cell.strip().split("-")))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{quoted(cell)} is no day: write it as YYYY-MM-DD") from None
