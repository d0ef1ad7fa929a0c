"""Errors in settings as one sentence, without the validator's own wording."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from p2pser.base.errors import ConfigError, nearest
from p2pser.config.constraints import expected

M = TypeVar("M", bound=BaseModel)

_SHORT = reprlib.Repr()


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the full name (``training.lr``) and the field of every setting of a model."""
    for name, field in model.model_fields.items():
        section = _section_of(field)
        if section is None:
            yield prefix + name, field
        else:
            yield from settings_of(section, f"{prefix}{name}.")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section of a field; None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def validated(model: type[M], tree: Any) -> M:
    """Return the validated settings of a mapping. Raises ValueError with one sentence."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ValueError(_sentence(error, model, tree)) from None


def section(model: type[M], **values: Any) -> M:
    """Return a section with these values. Raises ConfigError, with one sentence, where a value is invalid."""
    try:
        return validated(model, values)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _sentence(error: ValidationError, model: type[BaseModel], tree: Any) -> str:
    """Return the first error as a sentence: ``"training.lr = -1: must be a number above 0"``.

    error : raised by the validation of ``tree`` against ``model``.
    """
    first = error.errors()[0]
    place = _place(model, tree, first["loc"])
    path = ".".join(place.path)
    if first["type"] in ("extra_forbidden", "invalid_key"):
        unknown, known = ".".join(str(part) for part in first["loc"] if part != "[key]"), dict(settings_of(model))
        if unknown in known:  # one key of a file, with the dots of --set
            above, _, name = unknown.rpartition(".")
            return f"settings are written by section here: {above}: {{{name}: …}} instead of {unknown}: …"
        return f"there is no setting {unknown!r}{nearest(unknown, known)}"
    if first["type"] == "value_error":  # raised by a validator of p2pser
        own = str(first.get("ctx", {}).get("error") or first["msg"].removeprefix("Value error, "))
        return f"{path} = {_shown(place.value)}: {own}" if place.field else f"{path}: {own}" if path else own
    if place.field is None:
        what = "a mapping of settings" if path else "a mapping of sections"
        return f"{path or 'the document'} = {_shown(place.value)}: must be {what}"
    hint = ""
    if first["type"] == "string_type" and not isinstance(first["input"], (Mapping, list, tuple, type(None))):
        hint = "; quote it in YAML"
    return f"{path} = {_shown(place.value)}: must be {expected(place.field)}{hint}"


def _shown(value: Any) -> str:
    """Return a value as text, shortened if it is long or deep."""
    return repr(value) if isinstance(value, (str, int, float)) else _SHORT.repr(value)


class _Place(NamedTuple):
    path: tuple[str, ...]
    field: FieldInfo | None
    """None: the place is a section."""
    value: Any


def _place(model: type[BaseModel], tree: Any, location: tuple[int | str, ...]) -> _Place:
    """Return the setting, or the section, at the location of an error."""
    path: list[str] = []
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            break
        path.append(str(part))
        tree = tree.get(part) if isinstance(tree, Mapping) else getattr(tree, str(part), None)
        section = _section_of(field)
        if section is None:
            return _Place(tuple(path), field, tree)
        model = section
    return _Place(tuple(path), None, tree)
