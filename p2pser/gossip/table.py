"""The gossip algorithms by name."""

from __future__ import annotations

from collections.abc import Callable

from p2pser.errors import ConfigError, nearest
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.dfedavg import DFedAvg

ALGORITHMS: dict[str, Callable[[], Algorithm]] = {"dfedavg": DFedAvg}
"""Name of ``gossip.algorithm`` -> the algorithm."""


def algorithm(name: str) -> Algorithm:
    """Return a fresh algorithm. Raises ConfigError for an unknown name, with the nearest.

    >>> algorithm("dfedavg").slots
    1
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"gossip.algorithm: there is no {name!r}{nearest(name, ALGORITHMS)}")
    return ALGORITHMS[name]()
