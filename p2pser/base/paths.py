"""Where p2pser keeps what it can make again: features and the synthetic corpus."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ``$P2PSER_CACHE``, else ``$XDG_CACHE_HOME/p2pser``, else ``~/.cache/p2pser``.

    The folder is not created here.
    """
    own = os.environ.get("P2PSER_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "p2pser"
