"""The mean of all peers' units' updates by a secure sum, with noise of which each peer adds a share (``budget``).

Draws and noise come from a key that only the peer knows. The noise of a round follows from the key and from what it is
added to: a peer that is started again makes the same input, and an input that differs has other noise, so that no two
sums differ by data alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from p2pser.gossip.agreement.budget import Budget
from p2pser.gossip.agreement.masks import FixedPoint, Integers, digest
from p2pser.gossip.agreement.noise import Stream, discrete_gaussian
from p2pser.gossip.agreement.secure_sum import secrets_of, secure_sum
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.secrets import Secrets

Updates = Iterable[NDArray[np.float64]]
"""The update (D,) of each of a peer's units."""


def private_mean(mixer: Mixer, round: int, updates: Mapping[int, Updates], size: int, budget: Budget,
                 numbers: FixedPoint, graph: nx.Graph, *, least: int
                 ) -> dict[int, tuple[NDArray[np.float64], int] | None]:
    """Return the mean update (D,) over all reachable peers' units and the number of these peers, by hosted peer; None
    where this round has none.

    Parameters
    ----------
    mixer : carries a secure sum from Step(round, 0) on.
    updates : by hosted peer. All are made, drawn or not: the time that a round takes tells nothing of the draws.
    size : D.
    budget : of the run.
    numbers : whose integers are summed.
    graph : the topology's graph.
    least : the fewest peers whose sum is made.
    """
    secrets = secrets_of(mixer)
    inputs = {i: np.concatenate([np.ones(2, dtype=numbers.dtype),
                                 contribution(secrets.own(i), round, each, size, budget).astype(numbers.dtype)])
              for i, each in updates.items()}

    def plausible(total: Integers) -> bool:
        return bool(np.abs(numbers.signed(total[2:])).max(initial=0.0) <= budget.largest)

    totals = secure_sum(mixer, round, inputs, graph, least=least, plausible=plausible,
                        may=lambda i, roster: budget.allows(rosters(secrets, i, round, roster)))
    return {i: None if total is None else (budget.decode(numbers.signed(total[2:]), int(total[0])), int(total[0]))
            for i, total in totals.items()}


def contribution(key: bytes, round: int, updates: Updates, size: int, budget: Budget) -> NDArray[np.int64]:
    """Return the sum (D,) of the updates of the units that are drawn in a round, and a share of the noise.

    key : 32 secret bytes.
    """
    at = round.to_bytes(4, "little")
    total, draws = np.zeros(size, dtype=np.int64), Stream(key, b"units" + at)
    for update in updates:
        drawn = int(draws.words(1)[0]) < budget.sampling * 2.0**64
        own = budget.integers(update)
        if drawn:
            total += own
    return total + discrete_gaussian(Stream(key, b"noise" + at + digest(total.tobytes())), size, budget.log_scale)


def rosters(secrets: Secrets, peer: int, round: int = -1, roster: int = 0) -> list[int]:
    """Return the number of peers in each sum of training that a hosted peer gave to, with one more of ``roster`` peers
    in ``round`` where that is not negative.
    """
    sizes = {at: given.size for at, given in secrets.given(peer).items() if at >= 0}
    if round >= 0:
        sizes[round] = roster
    return list(sizes.values())
