"""The time that a run would take: local steps of fast and slow peers, links of a LAN, a WAN or a phone network.

Seconds are simulated: they do not depend on the machine that runs the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, nearest
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology

TICKS = 10**9
"""Ticks of simulated time a second. Events are ordered by whole ticks: floating-point functions differ in their last
bits between processors, and the order of events must not."""


def ticks(seconds: float) -> int:
    """Return a time in whole ticks."""
    return round(seconds * TICKS)


@dataclass(frozen=True)
class Clock:
    """How long local steps and messages take.

    step_s : seconds of a local step of an ordinary peer.
    slow : {peer: factor} of slower peers (5: five times as long).
    jitter : standard deviation of the logarithm of a round's compute time, drawn by (seed, peer, round).
    latency_s : seconds between the departure and the arrival of a message.
    bandwidth : bytes per second that a peer can send. Its messages leave one after the other; receiving is free.
    """

    step_s: float = 0.05
    slow: Mapping[int, float] = field(default_factory=dict)
    jitter: float = 0.1
    latency_s: float = 0.0002
    bandwidth: float = 125e6
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where a time is not positive."""
        for name, value in (("step_s", self.step_s), ("bandwidth", self.bandwidth), *(
                (f"slow[{peer}]", factor) for peer, factor in self.slow.items())):
            if not value > 0:
                raise ConfigError(f"the simulated clock's {name} is {value}: it must be positive")
        if self.jitter < 0 or self.latency_s < 0:
            raise ConfigError("the simulated clock's jitter and latency_s cannot be negative")

    def step(self, peer: int, round: int) -> int:
        """Return the ticks of one local step in a round, at least 1."""
        drawn = seeding.generator(self.seed, "clock", peer, round).normal() if self.jitter else 0.0
        return max(1, ticks(self.step_s * self.slow.get(peer, 1.0) * float(np.exp(self.jitter * drawn))))

    def compute(self, peer: int, round: int, steps: int) -> float:
        """Return the seconds of a round's ``steps`` local steps."""
        return steps * self.step(peer, round) / TICKS

    def sending(self, size: int) -> float:
        """Return the seconds for which a message of ``size`` bytes keeps its sender's line busy."""
        return size / self.bandwidth


PRESETS: dict[str, Mapping[str, float]] = {
    "lan": {"latency_s": 0.0002, "bandwidth": 125e6},
    "wan": {"latency_s": 0.05, "bandwidth": 12.5e6},
    "phone": {"latency_s": 0.1, "bandwidth": 0.625e6},
}
"""Links: 1 Gbit/s at 0.2 ms, 100 Mbit/s at 50 ms, 5 Mbit/s upwards at 100 ms."""


def preset(name: str, *, step_s: float = 0.05, slow: Mapping[int, float] | None = None, jitter: float = 0.1,
           seed: int = 0) -> Clock:
    """Return the clock of ``lan``, ``wan`` or ``phone`` links; ConfigError names the nearest for another name.

    >>> preset("wan").latency_s
    0.05
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no simulated network {name!r}{nearest(name, PRESETS)}")
    return Clock(step_s, slow or {}, jitter, seed=seed, **PRESETS[name])


def synchronous(clock: Clock, topology: Topology, rounds: int, steps: int,
                sizes: Sequence[int | Mapping[Edge, int]], *, overlap: bool = False) -> np.ndarray:
    """Return when each peer has finished each round of a synchronous algorithm, (rounds, N) simulated seconds.

    steps: local steps per round. sizes: bytes of a peer's message to each neighbour, for each exchange of a round in
    turn; where messages differ, by edge (dst, src), and no message on the other edges. Each exchange is a barrier over
    neighbours: a peer goes on when all their messages are there. A hub takes no local steps.
    overlap: a round's messages travel during the next round's local steps, whose end waits for them.
    """
    peers = topology.size
    now, arrived = np.zeros(peers), np.zeros((peers, peers))
    finished = np.zeros((rounds, peers))
    free = np.zeros(peers)  # when each peer's line is free again
    for round in range(rounds):
        ready = now + [0.0 if i == topology.hub else clock.compute(i, round, steps) for i in range(peers)]
        for slot, size in enumerate(sizes):
            before, arrived = arrived, np.zeros((peers, peers))
            t = round * len(sizes) + slot
            for j in range(peers):
                free[j] = max(free[j], ready[j])
                for i in topology.receivers(j, t):
                    if topology.hub is not None and (i == topology.hub) != (slot == 0):
                        continue  # clients upload in the first exchange, the hub sends in the second
                    if not isinstance(size, int) and (i, j) not in size:
                        continue
                    free[j] += clock.sending(size if isinstance(size, int) else size[i, j])
                    arrived[i, j] = free[j] + clock.latency_s
            # The first round of an overlapped run has nothing to wait for: zeros wait for nothing.
            ready = np.maximum(ready, (before if overlap else arrived).max(axis=1))
        now = finished[round] = ready
    return finished
