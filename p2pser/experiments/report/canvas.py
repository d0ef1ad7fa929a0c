"""What all pictures share: an empty figure, its file, and panels without clutter.

matplotlib is used through its objects, without pyplot and its global state, and imported when a picture is
drawn. Colours, lines and markers are those of ``report/styles.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from p2pser.base import pictures
from p2pser.base.errors import ConfigError
from p2pser.experiments.report.styles import INK

Curve: TypeAlias = Sequence[float | None]
"""One value a round; None where nothing was measured."""
DPI = 150
FLOOR = 1e-6
"""Distances below are not drawn: they are rounding, and would take most of a logarithmic axis."""


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of this size [inches]."""
    return pictures.new_figure(width, height, dpi=DPI, facecolor="white")


def save(figure: Any, path: Path) -> None:
    """Write a figure; the format follows the ending of ``path``, and missing folders are made.

    Raises ConfigError for an ending that is not of ``pictures.ENDINGS``, and where nothing can be written.
    """
    if path.suffix.lower() not in pictures.ENDINGS:
        raise ConfigError(f"cannot draw {path}: let its name end in {' or '.join(pictures.ENDINGS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another place") from None


def array(curve: Curve) -> np.ndarray:
    """Return a curve with NaN where nothing was measured."""
    return np.array([np.nan if value is None else value for value in curve], dtype=np.float64)


def with_grid(axes: Any) -> None:
    """Give a panel a grid behind its curves, and no frame above and to the right."""
    axes.grid(True, color="#e9e9e9", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def without_frame(axes: Any) -> None:
    """Take a panel's frame and the ticks beside its labels away."""
    axes.tick_params(length=0, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)
