"""Forked processes that work in a folder of their own, with this checkout's p2pser."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from commands import Command, Forked

from p2pser.base import registries
from p2pser.base.registry import Registry

ROOT = Path(__file__).parents[2]
PATIENCE = 370.0
"""Longest time of a page on a busy machine [s]."""


def settle(folder: Path, *installed: Path) -> None:
    """Let this process, and those that it starts, work in a folder with p2pser and what is installed in others."""
    path = [str(ROOT), *map(str, installed)]
    os.environ |= {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    sys.path[:0] = path
    for registry in filter(lambda value: isinstance(value, Registry), vars(registries).values()):
        vars(registry).pop("_entries", None)  # what is installed is looked for anew
    os.chdir(folder)


def ended(process: Forked) -> tuple[int | None, str, str]:
    """Return the exit code of a process, its standard output and its standard error."""
    with process:
        out, err = process.communicate(PATIENCE)
        return process.returncode, out, err


def called(folder: Path, *arguments: str, installed: tuple[Path, ...] = ()) -> tuple[int | None, str, str]:
    """Run a ``p2pser`` command in a folder; return what ``ended`` does."""
    return ended(Command(*arguments, change=partial(settle, folder, *installed)))
