"""The version of p2pser, and whether the package is installed twice."""

from __future__ import annotations

import os
from pathlib import Path

__version__ = "0.1.0"

TWICE = ("p2pser and p2pser-predict are both installed here, over the same files, and removing one removes those of "
         "the other: remove both (pip uninstall p2pser p2pser-predict), then install one")


def installed_twice(site: Path = Path(__file__).parents[2]) -> bool:
    """Whether both distributions of this package are installed in its folder; pip does not refuse the second."""
    try:
        installed = {name.partition("-")[0] for name in os.listdir(site) if name.endswith(".dist-info")}
    except OSError:
        return False
    return {"p2pser", "p2pser_predict"} <= installed
