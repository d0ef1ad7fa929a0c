"""``p2pser models``: the families of models, their sizes and layers."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import RUN_OPTION, json_option
from p2pser.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from p2pser.config import Config


@click.command()
@click.argument("name", required=False)
@click.option("--features", "kind", metavar="KIND",
              help="Kind of features (features.kind).  [default: each family's own]")
@click.option("--classes", type=click.IntRange(min=2), default=7, show_default=True, help="Number of emotions.")
@RUN_OPTION["run"]
@RUN_OPTION["set"]
@json_option
def models(name: str | None, kind: str | None, classes: int, run_file: Path | None, settings: tuple[str, ...],
           as_json: bool) -> None:
    """List the families of models with parameters and multiply-adds, or explain NAME layer by layer.

    --set model.name=NAME selects the family of a run. The defaults of other settings (features, sizes, training) depend
    on it.

    Example: p2pser models gru --features mfcc+chroma --set model.hidden=[96]
    """
    from p2pser import config
    from p2pser.base.errors import ConfigError, ModelError
    from p2pser.base.registries import FAMILIES

    if name is not None:
        FAMILIES[name]  # refuses an unknown name
    more = [] if kind is None else [f"features.kind={json.dumps(kind)}"]
    facts = []
    for family in [known for known, _ in FAMILIES.items()] if name is None else (name,):
        chosen = config.load(run_file, [*more, *settings, f"model.name={family}"])
        try:
            facts.append(_facts(family, chosen, classes))
        except (ModelError, ConfigError):
            if name is not None:
                raise
            facts.append(_facts(family, chosen, None))
    if as_json:
        print_json(facts[0] if name is not None else facts)
    elif name is not None:
        _explain(facts[0])
    else:
        print_table(("model", "features", "parameters", "multiply-adds", "what it is", "from"), list(map(_row, facts)),
                    left=(0, 1, 4, 5), folded=True)


def _facts(name: str, config: Config, classes: int | None) -> dict[str, Any]:
    """Return the facts about a family; ``classes`` is None for a family that does not take these features."""
    from p2pser.base.parameters import described
    from p2pser.base.registries import FAMILIES
    from p2pser.config import ModelSettings
    from p2pser.features.clip_features import shape as shape_of
    from p2pser.models import build, for_run
    from p2pser.models.cost import BYTES, cost

    family = FAMILIES[name]
    encoded = family.takes == "states"  # the shape is that of an encoder
    shape = () if encoded and classes is None else shape_of(config.features)
    text = (inspect.getdoc(family) or "").replace("``", "")
    about = {field: ModelSettings.model_fields[field].description for field in family.uses} | {
        f"parameters.{parameter.name}": parameter.about for parameter in described(family)}
    facts: dict[str, Any] = {
        "name": name, "from": str(FAMILIES.origin(name)), "about": _about(text), "description": text,
        "features": config.features.kind, "shape": list(shape), "classes": classes, "parameters": None,
        "message_bytes": None, "operations": None, "layers": [],
        "settings": {field: getattr(config.model, field) for field in family.uses}
        | {f"parameters.{parameter}": value for parameter, value in config.model.parameters.items()},
        "settings_about": about, "defaults": dict(family.defaults),
    }
    if classes is None:
        return facts
    config = for_run(config, 1) if encoded else config
    module = build(config.model, shape, classes, config.seed)
    layers = [{"name": path, "shape": list(parameter.shape), "parameters": parameter.numel()}
              for path, parameter in module.named_parameters()]
    costs = cost(module, shape)
    return {**facts, "parameters": costs.parameters, "message_bytes": BYTES * costs.parameters,
            "operations": costs.operations, "layers": layers}


def _about(text: str) -> str:
    """Return the first words of a docstring, up to the details."""
    first = text.partition("\n")[0].rstrip(".")
    return re.split(r"[:,]| \(", first, maxsplit=1)[0]


def _explain(facts: dict[str, Any]) -> None:
    echo(f"{facts['name']} ({facts['from']}): {facts['description']}\n")
    size = " by ".join(map(str, facts["shape"]))
    echo(f"for {facts['features']}, {size} for a clip, and {facts['classes']} emotions:")
    if facts["parameters"]:
        width = max(len(layer["name"]) for layer in facts["layers"])
        for layer in facts["layers"]:
            echo(f"  {layer['name']:<{width}}  {layer['parameters']:>9,}  "
                       f"{' x '.join(map(str, layer['shape']))}")
        echo(f"  {'parameters':<{width}}  {facts['parameters']:>9,}  "
                   f"{facts['message_bytes'] / 1e6:.2f} MB to each neighbour in an exchange, uncompressed")
        echo(f"{facts['operations']:,} multiply-adds for a clip\n")
    else:
        echo("  parameters grow with peers and rounds\n")
    for field, value in facts["settings"].items():
        echo(f"model.{field} = {_plain(value)}: {facts['settings_about'][field]}")
    others = {path: value for path, value in facts["defaults"].items() if not path.startswith("model.")}
    if others:
        echo("defaults with this family: " + ", ".join(f"{path}={_plain(value)}"
                                                             for path, value in others.items()))


def _plain(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    """Return a family's line of the list."""
    size = (f"not {facts['features']}" if facts["shape"] else "needs features.encoder", "-", "-")
    if facts["parameters"] is not None:
        size = (" ".join([facts["features"], "x".join(map(str, facts["shape"]))]),
                f"{facts['parameters']:,}" if facts["parameters"] else "grow with rounds",
                f"{facts['operations']:,}")
    return facts["name"], *size, facts["about"], facts["from"]
