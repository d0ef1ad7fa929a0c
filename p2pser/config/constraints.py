"""The allowed values of a setting in words, from the types and limits of its field."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo


def expected(field: FieldInfo) -> str:
    """Return the allowed values of a field: ``"a number above 0"``, ``"a list of whole numbers of 1 or more (a,b)"``.
    """
    return words(field.annotation, field.metadata)


def holds_list(field: FieldInfo) -> bool:
    """Whether a field allows a list but no single text or path, so that ``a,b`` can only be a list of two."""
    return tuple in _kinds(field) and not {str, Path} & _kinds(field)


def takes_none(field: FieldInfo) -> bool:
    """Whether a field allows None but no text or path, so that ``none`` can only mean None."""
    return type(None) in _kinds(field) and not {str, Path} & _kinds(field)


def takes_truth(field: FieldInfo) -> bool:
    """Whether a field allows true and false, itself or in a mapping."""
    return bool({bool, dict} & _kinds(field))


def takes_mapping(field: FieldInfo) -> bool:
    """Whether a field allows a mapping, whose entries can be set individually."""
    return dict in _kinds(field)


def _kinds(field: FieldInfo) -> set[Any]:
    """Return the types that a field allows, lists and mappings without their entries' types."""
    return {get_origin(kind) or kind for kind in _alternatives(field.annotation)}


def _alternatives(annotation: Any) -> Sequence[Any]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def words(annotation: Any, limits: Sequence[Any] = (), *, plural: bool = False) -> str:
    """Return the words for a type with these limits; ``plural`` for the entries of a list."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words(arguments[0], arguments[1:], plural=plural)
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        some = ", at least one" if any(getattr(limit, "min_length", None) for limit in limits) else ""
        most = "".join(f", {limit.max_length} at most" for limit in limits if getattr(limit, "max_length", None))
        return f"a list of {count}{words(arguments[0], plural=True)} (a,b){some}{most}"
    if origin is dict:
        return f"a mapping of names to {words(arguments[1], plural=True)}"
    if origin is Literal:
        return _either([str(value) for value in arguments])
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in arguments if not (kind is int and float in arguments)]
        if type(None) in kinds:
            kinds.remove(type(None))
            kinds += [] if plural else [type(None)]
        return _either([words(kind, limits, plural=plural) for kind in kinds])
    if annotation in (int, float):
        noun = "whole number" if annotation is int else "number"
        return " ".join(filter(None, (f"{noun}s" if plural else f"a {noun}", _range(limits))))
    singular, several = _NOUNS.get(annotation, ("another value", "other values"))
    return several if plural else singular


_NOUNS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"), str: ("text", "texts"), Path: ("a path", "paths"),
    None: ("none", "none"), type(None): ("none", "none"),
}


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _range(limits: Iterable[Any]) -> str:
    """Return the words for the limits of a number."""
    flat = [inner for limit in limits for inner in (limit.metadata if isinstance(limit, FieldInfo) else (limit,))]
    known = {name: f"{value:.10g}" if abs(value) < 2**31 else f"2^{math.log2(value):g}" for limit in flat
             for name in ("gt", "ge", "lt", "le", "multiple_of")
             if (value := getattr(limit, name, None)) is not None}
    step = f"that is a multiple of {known['multiple_of']}" if "multiple_of" in known else ""
    if "ge" in known and "le" in known:
        between = f"from {known['ge']} to {known['le']}"
    else:
        low = f"above {known['gt']}" if "gt" in known else f"of {known['ge']} or more" if "ge" in known else ""
        high = f"below {known['lt']}" if "lt" in known else f"at most {known['le']}" if "le" in known else ""
        between = " and ".join(filter(None, (low, high)))
    return " ".join(filter(None, (between, step)))
