"""A group of settings, and the mark of settings that must be equal at all peers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from p2pser.base.wording import listed
from p2pser.config.constraints import expected, holds_list, takes_none, takes_truth

S = TypeVar("S", bound="Section")

SHARED: dict[str, Any] = {"shared": True}
"""Marks a field that must be equal at all peers (``json_schema_extra``)."""


def at_home(path: Path) -> Path:
    """Return a path with ``~`` replaced by the home folder. Raises ValueError where it is invalid."""
    if "\0" in str(path):
        raise ValueError("must be a path, and holds a character 0")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("names the home of a user that this machine does not know") from None


UserPath: TypeAlias = Annotated[Path, AfterValidator(at_home)]
"""A path in which ``~`` is the home folder."""


def shared(default: Any, description: str, **limits: Any) -> Any:
    """Return a field that must be equal at all peers.

    default: a value, or a function that computes it from the fields before this one.
    """
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=SHARED, **limits)
    return Field(default, description=description, json_schema_extra=SHARED, **limits)


class Section(BaseModel):
    """A group of settings: unknown names are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Accept ``a,b`` as the list [a, b], one value as a list of one, and ``none`` as None."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and not takes_truth(field):
            raise ValueError(f"must be {expected(field)}")  # True would count as 1
        if value == "none" and takes_none(field):
            return None
        if holds_list(field):
            if isinstance(value, str):
                return tuple(listed(value))
            if isinstance(value, (int, float)):
                return (value,)
        return value


def with_defaults(section: S, defaults: Mapping[str, Any]) -> S:
    """Return the section with these defaults for its unset fields, which stay unset.

    Raises ValidationError where a default is invalid.
    """
    if not defaults:
        return section
    complete = type(section).model_validate({**defaults, **section.model_dump(exclude_unset=True)})
    return cast(S, type(section).model_construct(section.model_fields_set, **dict(complete)))
