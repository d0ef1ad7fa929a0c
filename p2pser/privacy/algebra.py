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


def solved(wire: Wire, topology: Topology, rounds: int, watched: Mapping[int, tuple[int, ...]], limit: int, *,
           sums: bool) -> list[Finding]:
    """Return for how many other peers the observers that learn most can solve in each phase.

    rounds : of training. watched : the observers of each peer. sums : whether the sums of the statistics came as they
    are.
    """
    groups = sorted(set(watched.values()))
    leaks = [("sums", "statistics", _most(repeat(metropolis(topology.graph)), wire.exchanges[STATISTICS], groups)
              if sums else 0)]
    left = None if wire.numbers is None else _left(topology, groups)
    leaks += [("rows", f"round {round + 1}", max(wire.direct(observers, round) for observers in groups)
               if left is None else left) for round in sorted(wire.rounds)]
    final = wire.exchanges.get(rounds + 1, 0)
    leaks.append(("rows", "final consensus", _most(repeat(metropolis(topology.graph, wire.counts)), final, groups)
                  if left is None else left))
    others = topology.size - min(map(len, groups))
    return [Attack(about, "linear algebra", seen).finding("other peers", value, np.nan, np.nan, 0, others, limit)
            for about, seen, value in leaks]


def _left(topology: Topology, groups: list[tuple[int, ...]]) -> int:
    """Return for how many peers a total over all can be solved: for one where the observers are all others."""
    return max(int(topology.size - len(observers) == 1) for observers in groups)


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
