"""Feature statistics over the clips of all peers, by gossip instead of pooling.

Each peer holds the sums over its own training clips, a row [count, sum x, sum x^2] of length 1 + 2 F
(``p2pser.features.normalisation.sums``). The consensus finds the mean of these rows over the peers, from which follow
mean and variance of the pooled clips.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from p2pser.gossip.agreement.consensus import Consensus, consensus
from p2pser.gossip.mixer import Mixer
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology

TOLERANCE = 1e-12
LARGEST = 1e30
"""Magnitude of the largest sum: sums differ much between peers, and a peer without clips has none."""


def relative_sums(own: Tensor, other: Tensor) -> float:
    """Return the largest difference of two rows of sums, each element relative to its own scale.

    |d count| / count, |d sum x| / sqrt(count * sum x^2) and |d sum x^2| / sum x^2, because the scales
    of features differ by 1e7, and a norm would see the largest only. A feature that is 0 everywhere has difference 0.
    """
    features = (len(own) - 1) // 2
    count, squares = own[:1].abs(), own[1 + features :].abs()
    scale = torch.cat([count, (count * squares).sqrt(), squares])
    difference = (own - other).abs()
    relative = torch.where(difference == 0, torch.zeros_like(difference), difference / scale)
    return float(relative.max()) if len(relative) else 0.0


def statistics(
    mixer: Mixer,
    sums: Tensor,
    round: int,
    topology: Topology,
    *,
    slem: float,
    max_exchanges: int = 2000,
    tolerance: float = TOLERANCE,
    cut: Collection[tuple[int, int]] = (),
    observe: Callable[[int, Tensor], None] | None = None,
) -> Consensus:
    """Return the consensus on the mean row of ``sums`` (B, 1 + 2 F), at Step(round, 0), Step(round, 1), …

    The weights are uniform whatever the run's weighting, since the sums contain the counts. The resulting rows are
    means over the reachable peers: times their number they are the sums over all their clips. ``slem``: of the uniform
    weights (``living_slem(topology, None, cut, peer)``). Other parameters: see ``consensus``.
    """
    W = metropolis(topology.graph)
    return consensus(
        mixer,
        sums,
        round,
        topology,
        tolerance,
        slem=slem,
        max_exchanges=max_exchanges,
        cut=cut,
        weights=lambda i, j: float(W[i, j]),
        measure=relative_sums,
        largest=LARGEST,
        observe=observe,
    )
