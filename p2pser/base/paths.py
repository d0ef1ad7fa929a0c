"""The user's folders: the cache, which can be recomputed, and the configuration.

``$XDG_CACHE_HOME`` and ``$XDG_CONFIG_HOME`` apply on every system; without them the system's own folders are used
(on Linux ``~/.cache/p2pser`` and ``~/.config/p2pser``). No function here creates these. A service or a container
without a writable home folder has its cache in the folder for temporary files.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

APPLICATION = "p2pser"


def cache_folder() -> Path:
    """Return the folder of features and the synthetic corpus; ``$P2PSER_CACHE`` replaces it."""
    chosen = os.environ.get("P2PSER_CACHE")
    if chosen:
        return expanded(chosen)
    usual = _usual_cache()
    if "XDG_CACHE_HOME" in os.environ or can_be_written(usual):
        return usual
    return _temporary_cache() or usual


def tell_of_caches(say: Callable[[str], None]) -> None:
    """Warn where the cache cannot be written, or is in the folder for temporary files and is made now."""
    try:
        before = _temporary().exists()
    except OSError:
        before = False
    folder = cache_folder()
    if not can_be_written(folder):
        say(f"the cache folder {folder} cannot be written: features are computed anew each time, and numba compiles "
            "nothing; name a folder that can be written: P2PSER_CACHE")
    elif not before and folder == _temporary():
        say(f"the home folder cannot be written: features are kept in {folder} for as long as the system keeps it; "
            "name a permanent folder: P2PSER_CACHE")


def _temporary() -> Path:
    """Return the path of the temporary cache. Raises FileNotFoundError where no folder takes temporary files."""
    return Path(tempfile.gettempdir()) / f"{APPLICATION}-{os.getuid()}"


def _temporary_cache() -> Path | None:
    """Return the temporary cache; None where it cannot be made, or another user made a folder of that name."""
    try:
        folder = _temporary()
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    ours = state.st_uid == os.getuid() and not state.st_mode & 0o077 and stat.S_ISDIR(state.st_mode)
    return folder if ours else None


def _usual_cache() -> Path:
    import platformdirs

    return _xdg("XDG_CACHE_HOME") or platformdirs.user_cache_path(APPLICATION, appauthor=False)


def expanded(path: Path | str) -> Path:
    """Return a path with ``~`` replaced by the home folder; that of a user unknown to this machine stays."""
    return Path(os.path.expanduser(path))  # pathlib would raise an error for an unknown user


def existing(path: Path) -> Path:
    """Return the path where it exists, else the nearest folder above it that does."""
    path = path.absolute()
    # pathlib would raise an error for what is in a folder that this user may not enter.
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def can_be_written(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    return os.access(existing(folder), os.W_OK | os.X_OK)


def keep_compiled_code() -> None:
    """Let numba, which librosa uses, cache its compiled code; call it before librosa is imported.

    Its default is beside librosa's sources, if these can be written. Otherwise it is given a folder in the cache
    folder, and if that cannot be written either, compilation is off: numba raises an error without a cache folder, and
    without a permanent one each process would compile for 20 s.
    """
    if "NUMBA_CACHE_DIR" in os.environ or _beside_librosa():
        return
    folder = cache_folder() / "numba"
    if can_be_written(folder):
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    else:
        os.environ["NUMBA_DISABLE_JIT"] = "1"


def _beside_librosa() -> bool:
    spec = importlib.util.find_spec("librosa")
    places = spec.submodule_search_locations if spec is not None else None
    return bool(places) and all(can_be_written(Path(place) / "util" / "__pycache__") for place in places or ())


def config_folder() -> Path:
    """Return the folder of the user's secret."""
    import platformdirs

    return _xdg("XDG_CONFIG_HOME") or platformdirs.user_config_path(APPLICATION, appauthor=False)


def _xdg(variable: str) -> Path | None:
    base = os.environ.get(variable)
    return expanded(base) / APPLICATION if base else None


def packaged(name: str) -> Path:
    """Return the path of a file or folder that is part of p2pser, in a source tree or as installed."""
    return Path(str(importlib.resources.files("p2pser") / name))
