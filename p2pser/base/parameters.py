"""Hyper-parameters of a registered class: the fields of its dataclass, by name and type."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

from p2pser.base.errors import ConfigError, nearest

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "none"}
"""The types of hyper-parameters, in the words of messages."""


@lru_cache(maxsize=256)
def parameter_types(cls: Any) -> Mapping[str, Any]:
    """Return name -> type of the fields of a dataclass."""
    types = get_type_hints(cls)
    return MappingProxyType({field.name: types[field.name] for field in fields(cls)})


class Parameter(NamedTuple):
    """One hyper-parameter; ``about`` is the text below its field in the source."""

    name: str
    default: Any
    type: Any
    about: str


def described(cls: type) -> list[Parameter]:
    """Return the hyper-parameters of a dataclass, without fields that are ``internal`` by their metadata."""
    about: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        about |= texts_below(base)
    types = parameter_types(cls)
    return [Parameter(field.name, None if field.default is MISSING else field.default, types[field.name],
                      about.get(field.name, "")) for field in fields(cls) if not field.metadata.get("internal")]


@lru_cache(maxsize=256)
def texts_below(cls: type) -> Mapping[str, str]:
    """Return name -> text below it, on one line, for the annotated names of a class; {} if there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # a class of C, of a notebook, of an interactive session
        return {}
    pairs = itertools.pairwise(tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else ())
    return {name.target.id: " ".join(str(below.value.value).split()) for name, below in pairs
            if isinstance(name, ast.AnnAssign) and isinstance(name.target, ast.Name)
            and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)}


def typed(values: Mapping[str, Any], types: Mapping[str, Any], setting: str, what: str) -> dict[str, Any]:
    """Return the values with the types of their fields: whole numbers become floats for fields that are floats.

    Parameters
    ----------
    values : the values by name, as a run file or ``--set`` gives them.
    types : the type of each known name.
    setting : the setting that holds them, for messages (``features.parameters``).
    what : the registered thing to which they belong, for messages.

    Raises
    ------
    ConfigError
        Where a name is unknown (the nearest known name is suggested) or a value has another type.
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
            names = " or ".join(WORDS.get(kind, str(kind)) for kind in allowed)
            raise ConfigError(f"{setting}.{name} = {value!r} must be {names}")
        result[name] = value
    return result
