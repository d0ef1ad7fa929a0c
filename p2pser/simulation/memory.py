"""The memory of a simulation, estimated before it starts: its rows are most of it."""

from __future__ import annotations

import numpy as np

from p2pser.base import memory
from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.training.optimisers import Optimizer

LINK, PEER = 600, 12_000
"""Bytes of a link and of a peer without its rows and clips, as measured (benchmarks/growth.py)."""
LARGE = 1 << 30
"""From this number of bytes on a message before the start states the memory."""


def needed(config: Config, topology: Topology, parameters: int) -> int:
    """Return the bytes that a simulation of so many parameters needs, without its data and the algorithm's memory.

    Rows in float32: the initial ones, those of the round, trained and mixed, and the optimiser's; at the end, in
    float64, those before and after an exchange, and the adopted ones.
    """
    rows = topology.size * parameters * (_trained(config) + 3 * 8)
    return rows + topology.size * PEER + int(topology.graph.number_of_edges()) * LINK


def _trained(config: Config) -> int:
    """Return the bytes of a parameter in the rows of training: four, and the optimiser's."""
    return 4 * (4 + sum(name != "steps" for name in Optimizer(config.training).names))


PROCESS = 300 << 20
"""Bytes of a peer's process without its rows: the interpreter, torch and the libraries."""


def of_a_peer(config: Config, topology: Topology, parameters: int) -> np.ndarray:
    """Return the bytes that each peer's own process needs, (N,), without its recordings' features.

    Its rows are those of training, and in the final consensus, in float64, its own, the previous one, one of each
    neighbour, a second copy of the one that is read, and three copies between threads. A ring of three with 7.0 million
    parameters took 810 to 864 MiB a peer; this estimate is 861.
    """
    degrees = np.array([len(topology.neighbours(i)) for i in range(topology.size)])
    return np.asarray(PROCESS + parameters * (_trained(config) + 8 * (6 + degrees)))


def require(config: Config, topology: Topology, parameters: int) -> int:
    """Return ``needed``. Raises ConfigError where less is free."""
    bytes_, free = needed(config, topology, parameters), memory.available()
    if free is not None and bytes_ > free:
        raise ConfigError(f"{topology.size} peers of {parameters:,} parameters need about {in_words(bytes_)} of "
                          f"memory, and {in_words(free)} are free: take fewer peers or a smaller model")
    return bytes_


def in_words(bytes_: int) -> str:
    """Return a number of bytes in GiB, in words."""
    return f"{bytes_ / 2**30:.1f} GiB"
