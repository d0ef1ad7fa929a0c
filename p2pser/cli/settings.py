"""``p2pser settings``: every setting with default, allowed values, unit and meaning."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from p2pser.cli.common import json_option
from p2pser.cli.output import echo, print_json


@click.command()
@click.argument("section", required=False)
@json_option
def settings(section: str | None, as_json: bool) -> None:
    """List the settings of a run: default, allowed values, unit and meaning.

    SECTION is a section (training), a setting (training.lr) or the beginning of one (gossip.parameters). Settings are
    given with --set SECTION.FIELD=VALUE or in a run file (--run). Hyper-parameters belong to one algorithm, kind of
    features, family or compressor.

    Example: p2pser settings training
    """
    from p2pser.base.errors import ConfigError, nearest
    from p2pser.config import describe

    entries = describe()
    chosen = [entry for entry in entries if section is None or section in (entry["section"], entry["name"])
              or entry["name"].startswith(f"{section}.")]
    if section is not None and not chosen:
        names = {entry[key] for entry in entries for key in ("section", "name")} - {""}
        raise ConfigError(f"there is no section or setting {section!r}{nearest(section, names)}")
    if as_json:
        print_json(chosen)
        return
    for entry in chosen:
        echo(_text(entry))


def _text(entry: dict[str, Any]) -> str:
    unit = f" {entry['unit']}" if entry["unit"] else ""
    families = ", ".join(f"{_value(default)} for {name}" for name, default in entry["families"].items())
    facts = [entry["takes"], f"with {entry['only_with']}" if entry["only_with"] else "",
             f"default {families}" if families else "", "equal at all peers" if entry["shared"] else ""]
    meaning = textwrap.indent(textwrap.fill(f"{entry['meaning'].rstrip('.')}.", 96), "    ")
    return f"{entry['name']} = {_value(entry['default'])}{unit}\n{meaning}\n    ({'; '.join(filter(None, facts))})"


def _value(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False).strip('"')
