"""``p2pser algorithms``: the gossip algorithms and their hyper-parameters."""

from __future__ import annotations

import inspect
from typing import Any

import click

from p2pser.base.registry import Origin
from p2pser.cli.common import json_option
from p2pser.cli.output import echo, print_json, print_table


@click.command()
@click.argument("name", required=False)
@json_option
def algorithms(name: str | None, as_json: bool) -> None:
    """List the gossip algorithms, or explain NAME: its update rule, assumptions and hyper-parameters.

    --set gossip.algorithm=NAME selects the algorithm of a run, --set gossip.parameters.X=VALUE sets a hyper-parameter.

    Example: p2pser algorithms k-gt
    """
    from p2pser.base.registries import ALGORITHMS
    from p2pser.gossip.registry import hyper_parameters

    chosen = ALGORITHMS.items() if name is None else [(name, ALGORITHMS[name])]
    facts = [_facts(each, kind, ALGORITHMS.origin(each), hyper_parameters(kind)) for each, kind in chosen]
    if as_json:
        print_json(facts[0] if name is not None else facts)
    elif name is not None:
        _explain(facts[0])
    else:
        print_table(("algorithm", "what it does", "hyper-parameters"), [
            (each["name"], each["about"],
             ", ".join(f"{parameter['name']}={parameter['default']}" for parameter in each["parameters"]))
            for each in facts], left=(0, 1, 2), folded=True)


def _facts(name: str, kind: type, origin: Origin, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    text = inspect.getdoc(kind) or ""
    about = text.partition("\n")[0].rstrip(".:")
    return {"name": name, "about": about if origin.builtin else f"{about} (from {origin})", "origin": str(origin),
            "description": text, "parameters": parameters}


def _explain(facts: dict[str, Any]) -> None:
    echo(f"{facts['name']}: {facts['description']}")
    for parameter in facts["parameters"]:
        echo(f"\ngossip.parameters.{parameter['name']} (default {parameter['default']}): {parameter['about']}")
