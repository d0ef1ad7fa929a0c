"""Names of the files in a peer's folder that its viewers read too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN = "run.json"
STARTS = "starts.json"
FINISHED = "finished.json"
LOCK = "lock"
MODEL = "model"
PERSONAL = "personal"


def in_folder(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a summary that names the folder in which it lies now: since it was written, that may have been moved."""
    places = {"out": folder, "model": folder / MODEL, "personal": folder / PERSONAL}
    return {**summary, **{name: str(place) for name, place in places.items() if name in summary}}
