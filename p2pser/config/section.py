"""What a group of settings is, and which of its fields all peers must have equal."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SHARED: dict[str, Any] = {"shared": True}
"""Marks a field that all peers must have equal (``json_schema_extra``)."""


def shared(default: Any, description: str, **limits: Any) -> Any:
    """Return a field that all peers must have equal."""
    return Field(default, description=description, json_schema_extra=SHARED, **limits)


class Section(BaseModel):
    """A group of settings: unknown names are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
