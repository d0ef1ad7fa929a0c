"""All defaults of a run, and what each model family changes, as plain data.

    PYTHONPATH=. python tests/config/golden.py

writes ``golden_defaults.json``, with which a test compares: a default that changes is a difference that a reader of the
change sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p2pser.base.registries import FAMILIES
from p2pser.config import Config

GOLDEN = Path(__file__).with_name("golden_defaults.json")


def current() -> dict[str, Any]:
    """Return the defaults by name, the names that all peers must have equal, and each family's own defaults."""
    plain = Config()
    defaults = _flat(plain.model_dump(mode="json"))
    families = {}
    for family in (name for name in FAMILIES if FAMILIES.origin(name).builtin):
        config = Config().with_settings([f"model.name={family}"])
        values = _flat(config.model_dump(mode="json"))
        families[family] = {name: value for name, value in values.items() if defaults[name] != value}
        assert sorted(config.shared()) == sorted(plain.shared())
        assert json.loads(json.dumps(config.shared())) == {name: values[name] for name in config.shared()}
    return {"defaults": defaults, "shared": sorted(plain.shared()), "families": families}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {section.field: value}; ``parameters`` stay mappings."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict) and name != "parameters" and not prefix:
            flat |= _flat(value, f"{name}.")
        else:
            flat[prefix + name] = value
    return flat


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
