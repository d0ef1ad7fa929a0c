"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def run_options(command: F) -> F:
    """Add ``--run FILE`` and ``--set section.field=value`` (repeatable): parameters ``run_file``, ``settings``."""
    command = click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
                           help="Override one setting of the run (may be given several times).")(command)
    return click.option("--run", "run_file", type=click.Path(path_type=Path, dir_okay=False), default=None,
                        help="Run file (YAML) with the settings of the run.")(command)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output (numbers finite or null, keys in the given order)."""
    click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))


def note(sentence: str) -> None:
    """Print a sentence for the person who watches, on standard error."""
    click.echo(sentence, err=True)
