"""How commands print (results on standard output, sentences on standard error), and how they serve pages."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import click

from p2pser.base.wording import shown as shown


def print_json(document: Any) -> None:
    """Print one JSON document on standard output (numbers finite or null, keys in the given order).

    It is in ASCII where it holds a name that the encoding of standard output lacks, that is no valid text, or that has
    control characters.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        plain = text.isprintable()
    except UnicodeEncodeError:
        plain = False
    click.echo(text if plain else json.dumps(document, allow_nan=False))


def echo(text: str) -> None:
    """Print a text on standard output, in ``printable_lines``."""
    click.echo(printable_lines(text))


def note(sentence: str) -> None:
    """Print a sentence on standard error, in ``printable_lines``."""
    click.echo(printable_lines(sentence), err=True)


def printable_lines(text: str) -> str:
    """Return a text with each of its lines as ``shown``."""
    return "\n".join(map(shown, text.split("\n")))


def serve_until_interrupted(sock: socket.socket, serve: Callable[[], None]) -> None:
    """Print the address of a server, and run it until Ctrl-C."""
    host, port = sock.getsockname()[:2]
    click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    note("open this address in a browser; Ctrl-C ends the server")
    with contextlib.suppress(KeyboardInterrupt):  # not raised where the shell ignores Ctrl-C
        serve()
    note("ended")


def print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each finding of a check; MEND marks what prevents the run, ``?`` what cannot be checked."""
    for finding in findings:
        mark = "ok" if finding["fits"] else "?" if finding.get("state") == "dials us" else "MEND"
        echo(f"{mark:4} {shown(finding['sentence'])}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None,
                sections: Collection[int] = (), left: Collection[int] = (0,), folded: bool = False,
                dense: bool = False) -> None:
    """Print a table of text on standard output.

    Parameters
    ----------
    head : the names of the columns; no line of names where all are empty.
    rows : the cells.
    title : a line above the table.
    sections : numbers of the rows that a line follows.
    left : numbers of the columns that are aligned to the left; the others are aligned to the right.
    folded : fold long cells, the first column's excepted, into the width of the terminal. Otherwise nothing is cut or
        folded, whatever the terminal's width.
    dense : one space between columns instead of three.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title and shown(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False, show_header=any(head), padding=0 if dense else (0, 1))
    for number, name in enumerate(head):
        table.add_column(shown(name), justify="left" if number in left else "right", overflow="fold",
                         no_wrap=not folded or number == 0)
    for number, row in enumerate(rows):
        table.add_row(*map(shown, row), end_section=number in sections)
    def console(width: int) -> Console:
        return Console(width=width, highlight=False, emoji=False, markup=False)  # cells may hold brackets

    needed = 0 if folded else console(10_000).measure(table).maximum
    console(max(Console().width, needed)).print(table)
