"""The plan of faults of scripts/chaos: a pure function of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pser.graph.spec import Topology

FAULTS = {
    "kill": "a peer's process is killed, and started again later",
    "restart": "a peer is interrupted (SIGINT), and started again at once",
    "stop": "a peer's process is stopped (SIGSTOP), and continued later",
    "cut": "a part of the network is cut off from the rest, and joined again later",
    "one-way": "a link carries nothing one way, until it is healed",
    "break": "the connections between two peers are reset",
    "delay": "all packets of a peer are delayed, in both directions",
    "lose": "a share of a peer's packets is lost, and sent again by TCP",
    "slow": "a peer's links carry few bytes a second",
    "disk": "a peer's disk is full, until room is made",
    "tear": "a peer is killed, its newest checkpoint is cut short, and it is started again",
    "delete": "a peer is killed, its folder is deleted, and it is started again",
    "hostile": "a peer is started again as a hostile one; once, and to the end",
}
"""The faults, and their meanings."""
LINKS = ("cut", "one-way", "break", "delay", "lose", "slow")
"""Faults of links: they may hit a peer that another fault holds."""
SHAPED = ("delay", "lose", "slow")
"""Faults for which links must be shaped."""


@dataclass(frozen=True)
class Fault:
    """One event of a plan.

    at : seconds after the beginning. kind : of ``FAULTS``. peers : the affected peers; of links their ends, of a cut
    the part that is cut off. seconds : the duration. amount : a delay [s], a share lost, a rate [B/s], or the number of
    a lie.
    """

    at: float
    kind: str
    peers: tuple[int, ...]
    seconds: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.kind} {', '.join(map(str, self.peers))}{amount}{lasts}"


def plan(topology: Topology, seed: int, seconds: float, every: float, dead_after: float,
         kinds: Sequence[str] = tuple(FAULTS)) -> tuple[Fault, ...]:
    """Return the faults of a run: one every ``every`` seconds.

    Parameters
    ----------
    topology, seed : the network, and the seed of the draws.
    seconds, every : the length of the plan, and the time between two faults [s].
    dead_after : ``network.dead_after`` [s]: faults last for .1 to 2 times as long.
    kinds : the faults to draw from, equally often.
    """
    draw = np.random.default_rng([seed, topology.size])
    busy: dict[int, float] = {}
    faults: list[Fault] = []
    left = list(kinds)
    at = every / 2
    end = seconds - dead_after  # a network that is cut in two when training ends cannot end with one model
    while at < end and left:
        kind = left[int(draw.integers(len(left)))]
        free = [i for i in range(topology.size) if busy.get(i, 0.0) <= at or kind in LINKS]
        if free:
            lasts = min(float(draw.uniform(0.1, 2.0)) * dead_after, end - at)
            fault = _drawn(kind, at, lasts, draw, topology, free[int(draw.integers(len(free)))])
            faults.append(fault)
            if kind == "hostile":
                left.remove(kind)
            if kind not in LINKS:
                busy[fault.peers[0]] = np.inf if kind == "hostile" else at + fault.seconds + dead_after
        at += every
    return tuple(faults)


def _drawn(kind: str, at: float, lasts: float, draw: np.random.Generator, topology: Topology, peer: int) -> Fault:
    """Return a fault of a kind that hits ``peer``, or others where it hits several."""
    match kind:
        case "cut":
            part = draw.permutation(topology.size)[: int(draw.integers(1, topology.size // 2 + 1))]
            return Fault(at, kind, tuple(sorted(map(int, part))), lasts)
        case "one-way" | "break":
            others = topology.neighbours(peer)
            other = others[int(draw.integers(len(others)))]
            return Fault(at, kind, (peer, other), lasts if kind == "one-way" else 0.0)
        case "delay":
            return Fault(at, kind, (peer,), lasts, float(draw.uniform(0.02, 0.3)))
        case "lose":
            return Fault(at, kind, (peer,), lasts, float(draw.uniform(0.01, 0.1)))
        case "slow":
            return Fault(at, kind, (peer,), lasts, float(draw.uniform(5e4, 5e5)))
        case "restart":
            return Fault(at, kind, (peer,))
        case "hostile":
            return Fault(at, kind, (peer,), amount=float(draw.integers(1000)))
        case _:
            return Fault(at, kind, (peer,), lasts)
