"""Hyper-parameters of a registered class: the fields of its dataclass, by name and type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

from p2pser.base.errors import ConfigError, nearest


@lru_cache(maxsize=256)
def parameter_types(cls: Any) -> Mapping[str, Any]:
    """Return name -> type of the fields of a dataclass."""
    types = get_type_hints(cls)
    return MappingProxyType({field.name: types[field.name] for field in fields(cls)})


def typed(values: Mapping[str, Any], types: Mapping[str, Any], setting: str, what: str) -> dict[str, Any]:
    """Return the values as their fields want them: whole numbers become floats where floats are wanted.

    Parameters
    ----------
    values : the values by name, as a run file or ``--set`` gives them.
    types : the type of each known name.
    setting : the setting that holds them, for messages (``features.parameters``).
    what : the registered thing that they belong to, for messages.

    Raises
    ------
    ConfigError
        Where a name is unknown (with the nearest known one) or a value has another type.
    """
    result = {}
    for name, value in values.items():
        if name not in types:
            hint = nearest(name, types) if types else "; it has none"
            raise ConfigError(f"{setting}: {what} has no parameter {name!r}{hint}")
        allowed = get_args(types[name]) or (types[name],)
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed:
            names = " or ".join("none" if kind is NoneType else kind.__name__ for kind in allowed)
            raise ConfigError(f"{setting}.{name} = {value!r} must be {names}")
        result[name] = value
    return result
