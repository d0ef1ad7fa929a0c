"""``p2pser algorithms``: the gossip algorithms and their hyper-parameters."""

from __future__ import annotations

import inspect
from typing import Any

import click

from p2pser.cli.common import json_option, print_json


@click.command()
@click.argument("name", required=False)
@json_option
def algorithms(name: str | None, as_json: bool) -> None:
    """List the gossip algorithms, or say what NAME does: its update rule, what it assumes, its hyper-parameters.

    A run takes one with --set gossip.algorithm=NAME and its hyper-parameters with --set gossip.parameters.X=VALUE.

    Example: p2pser algorithms k-gt
    """
    from p2pser.base.errors import ConfigError, nearest
    from p2pser.base.registries import ALGORITHMS
    from p2pser.gossip.registry import hyper_parameters

    if name is not None and name not in ALGORITHMS:
        raise ConfigError(f"there is no algorithm {name!r}{nearest(name, ALGORITHMS)}")
    facts = [_facts(one, kind, hyper_parameters(kind)) for one, kind in ALGORITHMS.items() if name in (None, one)]
    if as_json:
        print_json(facts[0] if name is not None else facts)
    elif name is not None:
        _explain(facts[0])
    else:
        _list(facts)


def _facts(name: str, kind: type, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    text = inspect.getdoc(kind) or ""
    return {"name": name, "about": text.partition("\n")[0].rstrip(".:"), "description": text, "parameters": parameters}


def _explain(facts: dict[str, Any]) -> None:
    click.echo(f"{facts['name']}: {facts['description']}")
    for one in facts["parameters"]:
        click.echo(f"\ngossip.parameters.{one['name']} (default {one['default']}): {one['about']}")


def _list(facts: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("algorithm", "what it does", "hyper-parameters"):
        table.add_column(column)
    for one in facts:
        parameters = ", ".join(f"{each['name']}={each['default']}" for each in one["parameters"])
        table.add_row(one["name"], one["about"], parameters)
    Console(highlight=False, emoji=False, markup=False).print(table)
