"""The simulated time of local steps and messages: of fast and slow peers, with lines of a LAN, a WAN, DSL or 4G.

Seconds are simulated: they do not depend on the machine that runs the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, nearest
from p2pser.simulation.links import LINES, Links, require_positive

TICKS = 10**9
"""Ticks of simulated time a second. Events are ordered by whole ticks: floating-point functions differ in their last
bits between processors, and the order of events must not."""

DEVICES = {"server": 0.5, "desktop": 1.0, "laptop": 2.0, "phone": 5.0, "board": 10.0}
"""The time of a local step, as a multiple of a desktop's. Round figures, not measurements."""


def ticks(seconds: float) -> int:
    """Return a time in whole ticks."""
    return round(seconds * TICKS)


@dataclass(frozen=True)
class Clock:
    """The time of local steps and messages.

    step_s : seconds of a local step of an ordinary peer.
    slow : {peer: factor} of slower peers (5: five times as long).
    jitter : standard deviation of the logarithm of a round's compute time, drawn by (seed, peer, round).
    links : the lines, which determine the time of messages.
    exchange_s : seconds of computation of an exchange, beside its messages.
    round_s : seconds of computation of a round, beside local steps and exchanges.
    seed : of the jitter.
    """

    step_s: float = 0.05
    slow: Mapping[int, float] = field(default_factory=dict)
    jitter: float = 0.1
    links: Links = field(default_factory=Links)
    exchange_s: float = 0.0
    round_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where a time is not positive."""
        require_positive("clock", step_s=self.step_s, **{f"slow[{i}]": factor for i, factor in self.slow.items()})
        if not min(self.jitter, self.exchange_s, self.round_s) >= 0:
            raise ConfigError("the simulated clock's jitter, exchange_s and round_s cannot be negative")

    def step(self, peer: int, round: int) -> int:
        """Return the ticks of one local step in a round, at least 1."""
        drawn = seeding.generator(self.seed, "clock", peer, round).normal() if self.jitter else 0.0
        return max(1, ticks(self.step_s * self.slow.get(peer, 1.0) * float(np.exp(self.jitter * drawn))))

    def compute(self, peer: int, round: int, steps: int) -> float:
        """Return the seconds of a round's ``steps`` local steps."""
        return steps * self.step(peer, round) / TICKS


def preset(name: str, *, step_s: float = 0.05, slow: Mapping[int, float] | None = None, jitter: float = 0.1,
           seed: int = 0) -> Clock:
    """Return the clock of peers whose lines are all of ``links.LINES[name]``; the other parameters as in ``Clock``.

    Raises ConfigError for an unknown name, with the nearest known one.

    >>> preset("wan").links.line.latency_s
    0.05
    """
    if name not in LINES:
        raise ConfigError(f"there is no simulated network {name!r}{nearest(name, LINES)}")
    return Clock(step_s, slow or {}, jitter, Links(LINES[name]), seed=seed)
