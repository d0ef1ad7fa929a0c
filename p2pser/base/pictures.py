"""What all pictures need: the endings of their files, and matplotlib with its fonts."""

from __future__ import annotations

import os
import sys
from typing import Any

from p2pser.base.paths import cache_folder, can_be_written, expanded

ENDINGS = (".png", ".svg", ".pdf")
"""Of files in which pictures are written."""


def new_figure(width: float, height: float, **options: Any) -> Any:
    """Return an empty figure of this size [inches], of matplotlib's ``Figure`` with these options."""
    _find_fonts()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **options)


def _find_fonts() -> None:
    """Import matplotlib, which finds the fonts of this machine then, and asks fontconfig (``fc-list``) for them.

    Both keep what they find below the home folder, and complain where it cannot be written: there they are given the
    cache folder. The variable of fontconfig is set for the search only, since it is of all programs.
    """
    if "matplotlib.font_manager" in sys.modules:
        return
    before, folder = os.environ.get("XDG_CACHE_HOME"), str(cache_folder())
    if not can_be_written(expanded(before or "~/.cache")):
        os.environ.setdefault("MPLCONFIGDIR", os.path.join(folder, "matplotlib"))
        os.environ["XDG_CACHE_HOME"] = folder
    try:
        import matplotlib.font_manager  # noqa: F401
    finally:
        os.environ.pop("XDG_CACHE_HOME", None)
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
