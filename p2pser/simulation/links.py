"""The lines of peers: the latency of messages, and the bytes per second that a peer can send and receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.gossip.reading import Edge
from p2pser.graph.sparse import Array, Index


def require_positive(what: str, **values: float) -> None:
    """Raise ConfigError where a value is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"the simulated {what}'s {name} is {value}: it must be positive")


@dataclass(frozen=True)
class Line:
    """A peer's line to the network.

    latency_s : seconds between the departure and the arrival of a message of two peers with such lines.
    up, down : bytes per second that the peer can send and receive. All its messages share them.
    """

    latency_s: float = 0.0002
    up: float = 125e6
    down: float = 125e6

    def __post_init__(self) -> None:
        """Raise ConfigError where a rate is not positive, or the latency negative."""
        require_positive("line", up=self.up, down=self.down)
        if not self.latency_s >= 0:
            raise ConfigError("the simulated line's latency_s cannot be negative")


LINES: dict[str, Line] = {
    "lan": Line(0.0002, 125e6, 125e6),
    "wan": Line(0.05, 12.5e6, 12.5e6),
    "dsl": Line(0.015, 1.25e6, 6.25e6),
    "4g": Line(0.04, 1.25e6, 3.75e6),
    "phone": Line(0.1, 0.625e6, 0.625e6),
}
"""Up and down: 1 Gbit/s at 0.2 ms; 100 Mbit/s at 50 ms; 10 and 50 Mbit/s at 15 ms; 10 and 30 Mbit/s at 40 ms; 5 Mbit/s
at 100 ms. They are round figures, not measurements: a site should measure its own line."""


@dataclass(frozen=True)
class Way:
    """The measured path from a peer to another; ``rate`` is in bytes per second."""

    latency_s: float
    rate: float = float("inf")

    def __post_init__(self) -> None:
        """Raise ConfigError where the rate is not positive, or the latency negative."""
        require_positive("way", rate=self.rate)
        if not self.latency_s >= 0:
            raise ConfigError("the simulated way's latency_s cannot be negative")


@dataclass(frozen=True)
class Links:
    """The lines of all peers, and measured paths.

    line : of every peer that ``of`` does not name. of : the lines of single peers. ways : measured paths by edge (dst,
    src); the latency of others is the mean of both ends' lines.
    """

    line: Line = LINES["lan"]
    of: Mapping[int, Line] = field(default_factory=dict)
    ways: Mapping[Edge, Way] = field(default_factory=dict)

    def at(self, peer: int) -> Line:
        """Return a peer's line."""
        return self.of.get(peer, self.line)

    def latency(self, dst: int, src: int) -> float:
        """Return the seconds between the departure and the arrival of a message."""
        way = self.ways.get((dst, src))
        return way.latency_s if way else (self.at(dst).latency_s + self.at(src).latency_s) / 2

    def rate(self, dst: int, src: int) -> float:
        """Return the bytes per second of a message that shares neither line."""
        way = self.ways.get((dst, src))
        return min(self.at(src).up, self.at(dst).down, way.rate if way else float("inf"))

    def table(self, peers: int) -> LinkTable:
        """Return the links of so many peers in arrays."""
        lines = [self.at(i) for i in range(peers)]
        known = sorted((dst * peers + src, way) for (dst, src), way in self.ways.items())
        return LinkTable(
            np.array([line.up for line in lines]), np.array([line.down for line in lines]),
            np.array([line.latency_s for line in lines]), np.array([key for key, _ in known], dtype=np.int64),
            np.array([way.latency_s for _, way in known]), np.array([way.rate for _, way in known]))


@dataclass(frozen=True)
class LinkTable:
    """Links in arrays: of peers (N,), and of the measured paths, whose ``keys`` dst * N + src ascend."""

    up: Array
    down: Array
    line_latency: Array
    keys: Index
    way_latency: Array
    way_rate: Array

    def of(self, dst: Index, src: Index) -> tuple[Array, Array]:
        """Return the latency and the rate of the path of each edge, (E,)."""
        latency, rate = (self.line_latency[dst] + self.line_latency[src]) / 2, np.full(len(dst), np.inf)
        if len(self.keys):
            edges = dst * len(self.up) + src
            place = np.minimum(np.searchsorted(self.keys, edges), len(self.keys) - 1)
            known = self.keys[place] == edges
            latency[known], rate[known] = self.way_latency[place[known]], self.way_rate[place[known]]
        return latency, rate
