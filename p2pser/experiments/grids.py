"""Grids of settings, written ``SECTION.FIELD=VALUE,VALUE,…``."""

from __future__ import annotations

import itertools

from p2pser.base.errors import ConfigError
from p2pser.base.wording import COMMA


def grid(text: str) -> tuple[str, ...]:
    """Return the points of a grid, each as ``section.field=value``; of an empty text none.

    Several settings are written with ``;`` between them. A point then takes a value of each, joined by ``;``, and the
    grid has all combinations. Raises ConfigError for a setting with fewer than two different values, or that is there
    twice.
    """
    axes: dict[str, list[str]] = {}
    for part in text.split(";") if text else ():
        name, _, values = part.strip().partition("=")
        settings = list(dict.fromkeys(f"{name}={value.strip()}" for value in COMMA.split(values) if value.strip()))
        if len(settings) < 2:
            raise ConfigError(f"--tune {part!r}: write a setting with two values or more that differ, such as "
                              "training.lr=0.02,0.05")
        if name in axes:
            raise ConfigError(f"--tune {part!r}: {name} is there twice; write all its values in one list")
        axes[name] = settings
    return tuple(";".join(point) for point in itertools.product(*axes.values())) if axes else ()
