"""``p2pser topology``: list, show and plot who talks to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from p2pser.cli.common import json_option, note, print_json

F = TypeVar("F", bound=Callable[..., Any])


def _graph_options(command: F) -> F:
    command = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                           help="Seed of random graphs whose file gives none.")(command)
    command = click.option("--peers", type=click.IntRange(min=1), default=None,
                           help="Number of peers, instead of the file's.")(command)
    return click.argument("file")(command)


@click.group()
def topology() -> None:
    """List, show and plot topologies.

    FILE is a topology file (YAML or GraphML) or the name of a shipped one, such as ring.

    Example: p2pser topology show torus --peers 16
    """


@topology.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the topologies that come with p2pser.

    Example: p2pser topology list
    """
    from p2pser.topology import spec, summary

    rows = []
    for path in spec.shipped().values():
        facts = summary.summarise(spec.load(str(path)))
        comment = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        rows.append({**facts, "about": comment, "file": str(path)})
    if as_json:
        print_json(rows)
        return
    table = _table("topology", ("peers", "right"), ("links", "right"), ("degree", "right"), ("slem", "right"),
                   "what for")
    for row in rows:
        table.add_row(row["name"], str(row["peers"]), str(row["edges"]), _degrees(row["degree"]),
                      f"{row['slem']:.3f}", row["about"])
    _print(table)


@topology.command(short_help="Show a topology in numbers.")
@_graph_options
@json_option
def show(file: str, peers: int | None, seed: int, as_json: bool) -> None:
    """Show a topology in numbers: size, degrees, diameter, and how fast gossip on it agrees.

    Example: p2pser topology show ring --peers 16 --json
    """
    from p2pser.topology import spec, summary

    loaded = spec.load(file, peers, seed)
    facts = summary.summarise(loaded)
    if as_json:
        print_json(facts)
        return
    rounds = facts["rounds_to_1e-6"]
    table = _table("", ("", "left"), title=loaded.name)
    for label, value in (
        ("peers", facts["peers"]),
        ("links", facts["edges"]),
        ("degree (min, mean, max)", f"{facts['degree']['min']}, {facts['degree']['mean']:.3g}, "
                                    f"{facts['degree']['max']}"),
        ("diameter", f"{facts['diameter']} links"),
        ("weights", facts["weights"]),
        ("slem of W", f"{facts['slem']:.6f}"),
        ("spectral gap", f"{facts['spectral_gap']:.6f}"),
        ("exchanges to 1e-6", "never" if rounds is None else rounds),
        ("own keys", "yes" if any(entry.key for entry in loaded.peers.values()) else "no"),
        ("digest", loaded.digest()),
    ):
        table.add_row(label, str(value))
    _print(table)
    names = {i: label for i, label in loaded.graph.nodes(data="label") if label is not None}
    neighbours = _table(("peer", "right"), "neighbours", *(["name in the file"] if names else []))
    for i in range(min(loaded.size, 64)):
        linked = ", ".join(map(str, loaded.neighbours(i)))
        neighbours.add_row(str(i), linked, *([names.get(i, "")] if names else []))
    _print(neighbours)
    if loaded.size > 64:
        note(f"neighbours of the first 64 of {loaded.size} peers")


@topology.command()
@_graph_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=None, metavar="PNG",
              help="Where to write the picture (.png, .svg or .pdf); default NAME.png.")
@json_option
def plot(file: str, peers: int | None, seed: int, out: Path | None, as_json: bool) -> None:
    """Draw a topology.

    Example: p2pser topology plot hypercube --out hypercube.png
    """
    from p2pser.topology import plot as drawing
    from p2pser.topology import spec

    loaded = spec.load(file, peers, seed)
    out = out or Path(f"{Path(loaded.name).name or 'topology'}.png")
    drawing.draw(loaded, out)
    if as_json:
        print_json({"name": loaded.name, "peers": loaded.size, "out": str(out)})
    else:
        click.echo(str(out))


def _degrees(degree: dict[str, Any]) -> str:
    low, high = degree["min"], degree["max"]
    return str(low) if low == high else f"{low}–{high}"


def _table(*columns: str | tuple[str, str], title: str | None = None) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_header=title is None)
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False, emoji=False, markup=False).print(table)
