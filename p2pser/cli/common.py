"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from p2pser.config import Config

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def run_options(command: F) -> F:
    """Add the options that make a run's configuration: pass them all to ``run_configuration``."""
    for option in reversed((
        click.option("--run", "run_file", type=click.Path(path_type=Path, dir_okay=False),
                     help="Run file (YAML) with the settings of the run."),
        click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
                     help="Override one setting of the run (may be given several times)."),
        click.option("--corpus", metavar="NAME|PATH",
                     help="A corpus (p2pser corpus list) or a path; several: emodb=DIR,ravdess=DIR,synthetic:es."),
        click.option("--data", type=click.Path(path_type=Path),
                     help="Folder or manifest of the recordings; of several corpora a folder with a folder for each."),
        click.option("--fold", type=click.IntRange(min=0), help="Which fold is held out for testing."),
        click.option("--rounds", type=click.IntRange(min=0), help="Communication rounds."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random."),
        click.option("--name", help="Name of the run."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of runs (default runs)."),
    )):
        command = option(command)
    return command


def run_configuration(options: Mapping[str, Any], *, more: Iterable[str] = (), own_data: bool = False) -> Config:
    """Return the settings of a run from the options of ``run_options``; ``more`` are further ``--set`` values.

    own_data: ``--data`` without ``--corpus`` is this peer's alone and not dealt over the peers.
    """
    from p2pser import config

    own = own_data and options["data"] is not None and options["corpus"] is None
    corpus, data = which_corpus(options["corpus"], options["data"])
    given = {"corpus.name": corpus, "corpus.data": data, "corpus.fold": options["fold"],
             "training.rounds": options["rounds"], "seed": options["seed"], "name": options["name"],
             "peer.out": options["out"], "corpus.partition": "own" if own else None,
             "corpus.split": "none" if own else None}
    # As JSON, which YAML reads back as it is: a path may hold what YAML takes for syntax.
    plain = [f"{field}={json.dumps(value, default=str)}" for field, value in given.items() if value is not None]
    return config.load(options["run_file"], [*plain, *more, *options["settings"]])


def which_corpus(corpus: str | None, data: Path | None) -> tuple[str | None, Any]:
    """Return ``corpus.name`` and ``corpus.data`` for the values of ``--corpus`` and ``--data``, None where not given.

    Several corpora are ``NAME[=PATH],NAME[=PATH],…``; a path alone is a corpus that is recognised by what lies there.
    Raises ConfigError where paths are given both ways.
    """
    from p2pser.base.errors import ConfigError
    from p2pser.corpora.loading import names as corpus_names

    if corpus is None:
        return (None if data is None else "auto"), data

    def one(text: str) -> tuple[str, str | None]:
        if text.partition(":")[0] not in corpus_names() and Path(text).exists():
            return "auto", text
        name, _, path = text.partition("=")
        return name.strip(), path.strip() or None

    whole = one(corpus) == ("auto", corpus)
    found = [one(text.strip()) for text in ([corpus] if whole else corpus.split(","))]
    paths = [path for _, path in found]
    if data is not None and any(paths):
        raise ConfigError(f"--corpus {corpus} names paths, and --data another: give one of them")
    names = "+".join(name for name, _ in found)
    if not any(paths):
        return names, data
    return names, paths if len(paths) > 1 else paths[0]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output (numbers finite or null, keys in the given order)."""
    click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))


def note(sentence: str) -> None:
    """Print a sentence for the person who watches, on standard error."""
    click.echo(sentence, err=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None,
                sections: Collection[int] = ()) -> None:
    """Print a table of text on standard output: the first column to the left, the others to the right, a line after
    the rows ``sections``. Never cut, not even where the terminal is narrow: the numbers are the result.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(*row, end_section=number in sections)
    needed = Console(width=10_000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)
