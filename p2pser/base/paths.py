"""Folders of the user's: the cache, which can be made again, and the configuration.

``$XDG_CACHE_HOME`` and ``$XDG_CONFIG_HOME`` count on every system; without them the system's own places are taken
(on Linux ``~/.cache/p2pser`` and ``~/.config/p2pser``). No function here creates a folder.
"""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

APPLICATION = "p2pser"


def cache_folder() -> Path:
    """Return the folder of features, filters and the synthetic corpus; ``$P2PSER_CACHE`` replaces it."""
    chosen = os.environ.get("P2PSER_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return _xdg("XDG_CACHE_HOME") or platformdirs.user_cache_path(APPLICATION, appauthor=False)


def config_folder() -> Path:
    """Return the folder of the user's secret."""
    import platformdirs

    return _xdg("XDG_CONFIG_HOME") or platformdirs.user_config_path(APPLICATION, appauthor=False)


def _xdg(variable: str) -> Path | None:
    base = os.environ.get(variable)
    return Path(base).expanduser() / APPLICATION if base else None


def packaged(name: str) -> Path:
    """Return the path of a file or folder that is part of p2pser, in a source tree or as installed."""
    return Path(str(importlib.resources.files("p2pser") / name))
