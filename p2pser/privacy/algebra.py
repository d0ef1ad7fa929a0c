"""For how many other peers the observers of a run can solve, from the exchanges that really happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from p2pser.graph.exposure import solvable
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology
from p2pser.privacy.findings import Attack, Finding
from p2pser.privacy.wire import Wire
from p2pser.run.setup import STATISTICS
from p2pser.simulation.results import Simulation


def solved(wire: Wire, topology: Topology, run: Simulation, observers: Mapping[int, tuple[int, ...]], limit: int, *,
           sent: bool) -> list[Finding]:
    """Return for how many other peers the observers that learn most can solve in each phase.

    sent : whether the run finds statistics.
    """
    groups = sorted(set(observers.values()))
    found = [("sums", "statistics", _most(repeat(metropolis(topology.graph)), wire.exchanges[STATISTICS], groups)
              if sent and wire.sums else 0)]
    found += [("rows", f"round {round + 1}", max(wire.direct(round).values(), default=0))
              for round in sorted(wire.rounds)]
    final = wire.exchanges.get(run.config.training.rounds + 1, 0)
    found.append(("rows", "final consensus", _most(repeat(metropolis(topology.graph, wire.counts)), final, groups)))
    return [Attack(about, "linear algebra", seen).finding(
        "other peers", value, np.nan, np.nan, 0, topology.size, limit) for about, seen, value in found]


def _most(matrices: Iterable[NDArray[np.float64]], exchanges: int, groups: list[tuple[int, ...]]) -> int:
    most = 0
    for observers in groups:
        dimensions = [0]
        for (peers, dimension), _ in zip(solvable(matrices, observers), range(exchanges)):
            most = max(most, len(peers))
            if dimension == dimensions[-1]:
                break
            dimensions.append(dimension)
    return most
