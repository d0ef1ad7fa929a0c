"""Types of options: finite numbers, valid paths, and places that are writable.

A wrong option is refused here, before the command reads or computes anything.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from p2pser.base.atomic import require_place
from p2pser.base.errors import ConfigError, unwritable
from p2pser.base.pictures import ENDINGS

LONGEST = 600
"""Longest window of speech with one label [s]."""


def writable(path: Path, *, folder: bool = True) -> Path:
    """Return a path where a file, or a folder for files, can be written now. Raises ConfigError where it cannot."""
    try:
        require_place(path, folder=folder)
    except (OSError, ValueError) as error:
        raise unwritable(ConfigError, f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}; "
                         "choose another place", error) from None
    return path


class Number(click.FloatRange):
    """A finite number within limits: FloatRange takes nan, and inf where there is no upper limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; a usage error where it is not finite or beyond the limits."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Source(click.Path):
    """A path that the command reads. It may be missing, which the reading code reports, unless ``exists`` is set."""

    def __init__(self, *, exists: bool = False, dir_okay: bool = True, file_okay: bool = True) -> None:
        super().__init__(path_type=Path, exists=exists, dir_okay=dir_okay, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a usage error where this system has no such paths."""
        try:
            Path(value).exists()
        except (OSError, ValueError) as error:
            self.fail(f"{str(value)!r} is not a valid path: {getattr(error, 'strerror', None) or error}", param, ctx)
        return super().convert(value, param, ctx)


class Target(click.Path):
    """A path of a file or folder that the command writes: it must be writable before the work begins.

    endings : of the names of files, which decide what is written; (): any.
    """

    def __init__(self, *, folder: bool, endings: Sequence[str] = ()) -> None:
        super().__init__(path_type=Path, file_okay=not folder, dir_okay=folder)
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a usage error where nothing can be written there, or its name has another ending."""
        if self.endings and Path(value).suffix.lower() not in self.endings:
            self.fail(f"{str(value)!r} has another ending: let its name end in {' or '.join(self.endings)}", param, ctx)
        try:
            writable(Path(value), folder=self.dir_okay)
        except ConfigError as error:
            if error.exit_code != ConfigError.exit_code:  # a full disk is no fault of the call
                raise
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class Table(Target):
    """The file of a table: no recording, as the first one would be where the shell makes names of ``--csv *.wav``."""

    def __init__(self) -> None:
        super().__init__(folder=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a usage error where a recording has such a name, or nothing can be written there."""
        from p2pser.corpora.files import EXTENSIONS

        if Path(value).suffix.lower() in EXTENSIONS:
            self.fail(f"{str(value)!r} is the name of a recording: let the table's name end in .csv", param, ctx)
        return super().convert(value, param, ctx)


def spare(table: Path | None, read: Iterable[Path | None]) -> None:
    """Raise a usage error where a table would replace a file that the command reads, such as a manifest."""
    if table is not None and any(path and os.path.realpath(path) == os.path.realpath(table) for path in read):
        raise click.UsageError(f"--csv would replace {table}, which is read: give the table another name")


PICTURE = Target(folder=False, endings=ENDINGS)
"""The file of a picture."""
