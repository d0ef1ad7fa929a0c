"""The exact sum over all reachable peers of rows of whole numbers: by a consensus, or by a secure sum.

A consensus ends with the mean of the rows at each peer, up to a small difference. Times the number of peers that is the
sum, and rounded to whole numbers it is exact, and the same everywhere. Where a peer is lost on the way, a part of its
row is lost with it: what is left is not whole numbers, and so there is no sum rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.gossip.agreement.consensus import consensus, living_slem
from p2pser.gossip.agreement.secure_sum import secure_sum
from p2pser.gossip.mixer import Mixer
from p2pser.graph.mixing import weight
from p2pser.graph.spec import Topology

Whole: TypeAlias = NDArray[np.int64]

LARGEST = 2**45
"""Magnitude of the largest number: float64 leaves room for the exchanges' rounding below 1."""
OFF = 0.25
"""Largest distance of a sum from a whole number."""


def gossiped(mixer: Mixer, rows: Mapping[int, Whole], round: int, topology: Topology, *,
             cut: Collection[tuple[int, int]] = (), peer: int) -> dict[int, Whole | None]:
    """Return the sum (S,) of the hosted peers' and all reachable peers' rows, by hosted peer; None where there is none.

    Parameters
    ----------
    mixer : carries a consensus at Step(round, 0), Step(round, 1), …
    rows : (S,) by hosted peer, all of the same length.
    topology : the run's.
    cut : edges known as cut.
    peer : a hosted peer that takes part.
    """
    degree, size = topology.graph.degree, len(topology.graph)
    own = torch.from_numpy(np.stack([rows[i] for i in mixer.peers]).astype(np.float64))
    if float(own.abs().max()) >= LARGEST:
        own = torch.full_like(own, float(LARGEST))  # beyond what others take for possible: no peer has a sum
    agreed = consensus(mixer, own, round, topology, OFF / (2 * size), slem=living_slem(topology, None, cut, peer),
                       cut=cut, weights=lambda i, j: weight(degree[i], degree[j]), measure=furthest,
                       largest=float(LARGEST - 1))
    count = size - len(agreed.dead)
    return {i: _whole(row * count) if agreed.converged else None for i, row in zip(mixer.peers, agreed.rows.numpy())}


def furthest(own: Tensor, other: Tensor) -> float:
    """Return the largest difference of two rows (S,)."""
    return float((own - other).abs().max()) if len(own) else 0.0


def _whole(total: NDArray[np.float64]) -> Whole | None:
    rounded = np.rint(total)
    fits = bool(np.isfinite(total).all()) and float(np.abs(total - rounded).max(initial=0.0)) <= OFF
    return rounded.astype(np.int64) if fits and float(np.abs(rounded).max(initial=0.0)) < LARGEST else None


def secured(mixer: Mixer, rows: Mapping[int, Whole], round: int, graph: nx.Graph, *, least: int
            ) -> dict[int, Whole | None]:
    """Return what ``gossiped`` returns, by a secure sum: no peer sees a part of it.

    least : the fewest peers whose sum is made.
    """
    words = {i: np.concatenate([np.ones(1, np.uint64), rows[i].astype(np.uint64)]) for i in mixer.peers}
    totals = secure_sum(mixer, round, words, graph, least=least)
    return {i: None if total is None else total[1:].astype(np.int64) for i, total in totals.items()}
