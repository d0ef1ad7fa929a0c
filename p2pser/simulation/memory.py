"""How much memory a simulation takes, known before it starts: its rows are most of it."""

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
"""From this many bytes on a simulation states its memory before it starts."""


def needed(config: Config, topology: Topology, parameters: int) -> int:
    """Return the bytes that a simulation of so many parameters needs, beside its data and what an algorithm keeps.

    Rows in float32: the initial ones, those of the round, trained and mixed, and the optimiser's; at the end, in
    float64, those before and after an exchange, and the adopted ones.
    """
    kept = 4 * (4 + sum(name != "steps" for name in Optimizer(config.training).names))
    rows = topology.size * parameters * (kept + 3 * 8)
    return rows + topology.size * PEER + int(topology.graph.number_of_edges()) * LINK


PROCESS = 300 << 20
"""Bytes of a peer's process without its rows: the interpreter, torch and the libraries."""


def of_a_peer(config: Config, topology: Topology, parameters: int) -> np.ndarray:
    """Return the bytes that each peer's own process needs, (N,), beside its recordings' features.

    Of its rows: those of the training, and in the end, in float64, its own, the one before, one of each neighbour,
    which is there twice while it is read, and three for copies between threads. A ring of three with 7.0 million
    parameters took 810 to 864 MiB a peer, for which this gives 861.
    """
    rows = 4 * (4 + sum(name != "steps" for name in Optimizer(config.training).names))
    degrees = np.array([len(topology.neighbours(i)) for i in range(topology.size)])
    return np.asarray(PROCESS + parameters * (rows + 8 * (6 + degrees)))


def require(config: Config, topology: Topology, parameters: int) -> int:
    """Return ``needed``; ConfigError where so much is not free."""
    bytes_, free = needed(config, topology, parameters), memory.available()
    if free is not None and bytes_ > free:
        raise ConfigError(f"{topology.size} peers of {parameters:,} parameters need about {in_words(bytes_)} of "
                          f"memory, and {in_words(free)} are free: take fewer peers or a smaller model")
    return bytes_


def in_words(bytes_: int) -> str:
    """Return a number of bytes in GiB, for people."""
    return f"{bytes_ / 2**30:.1f} GiB"
