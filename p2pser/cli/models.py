"""``p2pser models``: the families of models, their size and what they compute."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import json_option, print_json

if TYPE_CHECKING:
    from p2pser.config import Config


@click.command()
@click.argument("name", required=False)
@click.option("--features", "kind", metavar="KIND", help="Kind of features.  [default: each family's own]")
@click.option("--classes", type=click.IntRange(min=2), default=7, show_default=True, help="Number of emotions.")
@click.option("--run", "run_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Run file (YAML) whose features and model are meant.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="Override one setting of the run (may be given several times).")
@json_option
def models(name: str | None, kind: str | None, classes: int, run_file: Path | None, settings: tuple[str, ...],
           as_json: bool) -> None:
    """List the families of models with their parameters and operations, or say what NAME is made of.

    A run takes one with --set model.name=NAME. What it is not told (features, sizes, training) follows the family.

    Example: p2pser models gru --features mfcc+chroma --set model.hidden=[96]
    """
    from p2pser import config
    from p2pser.base.errors import ModelError
    from p2pser.models import FAMILIES, family

    if name is not None:
        family(name)
    more = [] if kind is None else [f"features.kind={json.dumps(kind)}"]
    facts = []
    for one in FAMILIES if name is None else (name,):
        chosen = config.load(run_file, [*more, *settings, f"model.name={one}"])
        try:
            facts.append(_facts(one, chosen, classes))
        except ModelError:
            if name is not None:
                raise
            facts.append(_facts(one, chosen, None))
    if as_json:
        print_json(facts[0] if name is not None else facts)
    elif name is not None:
        _explain(facts[0])
    else:
        _list(facts)


def _facts(name: str, config: Config, classes: int | None) -> dict[str, Any]:
    """What there is to say of a family; without ``classes``, of one that cannot take these features."""
    from p2pser import models as families
    from p2pser.config import BY_MODEL
    from p2pser.features import clip_features
    from p2pser.models.cost import BYTES, cost

    family = families.family(name)
    shape = clip_features.shape(config.features)
    text = (inspect.getdoc(family) or "").replace("``", "")
    facts: dict[str, Any] = {
        "name": name, "about": _about(text), "description": text,
        "features": config.features.kind, "shape": list(shape), "classes": classes, "parameters": None,
        "message_bytes": None, "operations": None, "layers": [],
        "settings": {field: getattr(config.model, field) for field in family.SETTINGS},
        "defaults": dict(BY_MODEL.get(name, {})),
    }
    if classes is None:
        return facts
    module = families.build(config.model, shape, classes, config.seed)
    layers = [{"name": path, "shape": list(one.shape), "parameters": one.numel()}
              for path, one in module.named_parameters()]
    found = cost(module, shape)
    return {**facts, "parameters": found.parameters, "message_bytes": BYTES * found.parameters,
            "operations": found.operations, "layers": layers}


def _about(text: str) -> str:
    """The first words of a module's docstring, up to what it says in detail."""
    first = text.partition("\n")[0].rstrip(".")
    return re.split(r"[:,]| \(", first, maxsplit=1)[0]


def _explain(facts: dict[str, Any]) -> None:
    from p2pser.config import ModelSettings

    click.echo(f"{facts['name']}: {facts['description']}\n")
    size = " by ".join(map(str, facts["shape"]))
    click.echo(f"for {facts['features']}, {size} a clip, and {facts['classes']} emotions:")
    if facts["parameters"]:
        width = max(len(layer["name"]) for layer in facts["layers"])
        for layer in facts["layers"]:
            click.echo(f"  {layer['name']:<{width}}  {layer['parameters']:>9,}  "
                       f"{' x '.join(map(str, layer['shape']))}")
        click.echo(f"  {'parameters':<{width}}  {facts['parameters']:>9,}  "
                   f"{facts['message_bytes'] / 1e6:.2f} MB to each neighbour and exchange, uncompressed")
        click.echo(f"{facts['operations']:,} multiply-adds an answer\n")
    else:
        click.echo("  parameters grow with peers and rounds\n")
    for field, value in facts["settings"].items():
        about = ModelSettings.model_fields[field].description
        click.echo(f"model.{field} = {_plain(value)}: {about}")
    others = {path: value for path, value in facts["defaults"].items() if not path.startswith("model.")}
    if others:
        click.echo("defaults with this family: " + ", ".join(f"{path}={_plain(value)}"
                                                             for path, value in others.items()))


def _plain(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _list(facts: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("model", "features", "parameters", "multiply-adds", "what it is"):
        table.add_column(column, justify="right" if column in ("parameters", "multiply-adds") else "left")
    for one in facts:
        kind = " ".join([one["features"], "x".join(map(str, one["shape"]))])
        parameters = f"{one['parameters']:,}" if one["parameters"] else "grow with rounds"
        if one["parameters"] is None:
            table.add_row(one["name"], f"not {one['features']}", "-", "-", one["about"])
        else:
            table.add_row(one["name"], kind, parameters, f"{one['operations']:,}", one["about"])
    Console(highlight=False, emoji=False, markup=False).print(table)
