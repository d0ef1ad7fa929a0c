"""Every setting with its default, unit and meaning, for ``p2pser settings`` and the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from p2pser.base import registries
from p2pser.base.parameters import Parameter, described
from p2pser.base.registry import Registry
from p2pser.config.constraints import expected, words
from p2pser.config.problems import settings_of
from p2pser.config.section import SHARED

UNIT = re.compile(r"\s*\[(s|ms|Hz|B|dB|dBFS[^\]]*|semitones|their standard deviations)\]")
"""The unit in a description: ``length [s]``."""

OWNERS: tuple[tuple[str, str, Registry[Any]], ...] = (
    ("gossip", "algorithm", registries.ALGORITHMS), ("gossip", "parameters.compressor", registries.COMPRESSORS),
    ("model", "name", registries.FAMILIES), ("features", "kind", registries.FEATURES))
"""Settings that name a thing with its own hyper-parameters: section, field, and the registry of the things."""


def reference(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a description of every setting of a run and of every registered hyper-parameter.

    Returns
    -------
    A list of mappings, all plain data, with the keys

    * ``name``: ``training.lr``; ``section``: ``training``, or ``""`` for settings of the run itself;
    * ``only_with``: the setting to which a hyper-parameter belongs (``gossip.algorithm=fedopt``), or ``""``;
    * ``default``; ``families``: the defaults of model families that differ from it;
    * ``takes``: the allowed values in words; ``unit``: ``""`` if there is none; ``meaning``;
    * ``shared``: whether it must be equal at all peers.
    """
    entries = [_setting(path, field) for path, field in settings_of(model)]
    sections: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        sections.setdefault(entry["section"], []).append(entry)
    for section, field, registry in OWNERS:
        sections[section] += _hyper_parameters(section, field, registry, {entry["name"] for entry in entries})
    return [entry for section in sections.values() for entry in section]


def _setting(path: str, field: FieldInfo) -> dict[str, Any]:
    default = field.get_default(call_default_factory=True, validated_data={})
    return _entry(path, "", default, expected(field), field.description or "", field.json_schema_extra == SHARED)


def _hyper_parameters(section: str, field: str, registry: Registry[Any], known: set[str]) -> Iterator[dict[str, Any]]:
    for name, thing in registry.items():
        for each in _own(thing):
            if f"{section}.{each.name}" not in known:
                yield _entry(f"{section}.parameters.{each.name}", f"{section}.{field}={name}", each.default,
                             words(each.type), each.about, True)


def _own(thing: Any) -> list[Parameter]:
    return described(thing) if hasattr(thing, "__dataclass_fields__") else []


def _entry(path: str, only_with: str, default: Any, takes: str, about: str, shared: bool) -> dict[str, Any]:
    unit = UNIT.search(about)
    section = path.partition(".")[0] if "." in path else ""
    return {"name": path, "section": section, "only_with": only_with, "default": _plain(default),
            "families": {name: _plain(family.defaults[path]) for name, family in registries.FAMILIES.items()
                         if path in family.defaults}, "takes": takes,
            "unit": unit[1] if unit else "", "meaning": UNIT.sub("", about), "shared": shared}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
