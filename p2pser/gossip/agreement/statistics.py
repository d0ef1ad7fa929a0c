"""Statistics over the clips of all peers, without pooling them.

Each peer holds the sums over its own training clips, a row [count, sum x, sum x^2] of length 1 + 2 F
(``p2pser.features.normalisation.sums``). The peers find the mean of these rows, from which follow mean and variance of
the pooled clips: by a consensus, which shows each neighbour the row itself, or by a secure sum, which shows nobody more
than the mean.

**What one liar can do.** A neighbour's first row is its own, so one that cannot be a row of sums is refused, and so are
its later ones. Later rows are mixed with those of peers further away, and the acceleration may make an honest row
negative for a while: they are not checked. Where the result cannot be a mean of sums, the peer goes on with the rows
that it can check, which are its own and its neighbours' first ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.gossip.agreement.consensus import Consensus, consensus
from p2pser.gossip.agreement.secure_sum import secure_sum
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.reading import Edge
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology

Flaw = Callable[[NDArray[np.float64]], str]
"""Why a row (S,) is neither a row of sums nor a sum or mean of such rows; "" where it may be one."""

TOLERANCE = 1e-12
LARGEST = 1e30
"""Magnitude of the largest sum: sums differ much between peers, and a peer without clips has none."""
LEAST = 1e-6
"""The least count of a result, relative to what one peer's own clips give it."""
LIMBS, LIMB_BITS, FRACTION_BITS = 4, 32, 64
"""A number in a secure sum: fixed point of 128 bits, 64 of them behind the point, in words of 64 bits of which each
peer fills 32, so that no sum of fewer than 2^32 peers overflows."""


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
    cut: Collection[tuple[int, int]] = (),
    flaw: Flaw = lambda row: "",
    warn: Callable[[str], None] = lambda sentence: None,
) -> Consensus:
    """Return the consensus on the mean row of ``sums`` (B, 1 + 2 F), at Step(round, 0), Step(round, 1), …

    The weights are uniform whatever the run's weighting, since the sums contain the counts. The resulting rows are
    means over the reachable peers: times their number they are the sums over all their clips. ``slem``: of the uniform
    weights (``living_slem(topology, None, cut, peer)``). ``cut``: see ``consensus``. ``flaw``: finds false rows.
    ``warn``: called with a sentence where the result is false.
    """
    W = metropolis(topology.graph)
    first: dict[Edge, Tensor] = {}
    refused: dict[Edge, str] = {}

    def check(exchange: int, edge: Edge, row: Tensor) -> str:
        if not exchange and (why := flaw(row.numpy())):
            refused[edge] = f"false statistics of its clips: {why}"
        elif not exchange:
            first[edge] = row.clone()
        return refused.get(edge, "")

    agreed = consensus(
        mixer,
        sums,
        round,
        topology,
        TOLERANCE,
        slem=slem,
        cut=cut,
        weights=lambda i, j: float(W[i, j]),
        measure=relative_sums,
        largest=LARGEST,
        check=check,
    )
    rows = agreed.rows.clone()
    for b, peer in enumerate(mixer.peers):
        own = sums[b].to(torch.float64)
        why = flaw(rows[b].numpy())
        if not why and not float(rows[b, 0]) * len(W) >= LEAST * float(own[0]):
            why = f"a sum over {float(rows[b, 0]) * len(W):.4g} clips, fewer than its own"
        if why:
            known = [own, *(row for (dst, _), row in first.items() if dst == peer)]
            rows[b] = torch.stack(known).mean(0)
            warn(f"the statistics of features and targets cannot be those of all peers ({why}): a peer sent false "
                 f"numbers. Peer {peer} goes on with those of its own and {len(known) - 1} neighbours' clips, and "
                 "other peers may use others: results may be worse")
    return replace(agreed, rows=rows)


def secure_statistics(mixer: Mixer, sums: Tensor, round: int, graph: nx.Graph, *, least: int,
                      flaw: Flaw = lambda row: "") -> Consensus:
    """Return the mean row of ``sums`` (B, S) by a secure sum, from Step(round, 0) on: the same bits at all peers.

    A total that does not come is not sought again: the difference of two totals could be one peer's sums. least : the
    fewest peers whose sum is made. flaw : finds false totals. Raises P2PSERError where a sum is too large for
    the fixed point, or no total came that may be true.
    """
    words = {i: np.concatenate([np.ones(1, np.uint64), to_words(row.numpy())]) for i, row in zip(mixer.peers, sums)}
    totals = secure_sum(mixer, round, words, graph, least=least,
                        plausible=lambda total: not flaw(from_words(total[1:]) / float(total[0])))
    rows = []
    for total in totals.values():
        if total is None:
            raise P2PSERError("the secure sum of the statistics has no total, since too few peers could be reached, "
                              "one was lost meanwhile, or one sent false numbers (no peer can find out which one): "
                              "start this peer again, and where no other trains all of them")
        rows.append(torch.from_numpy(from_words(total[1:]) / float(total[0])))
    return Consensus(torch.stack(rows), 0.0, 0, (), True)


def to_words(row: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return numbers (S,) as words (S * LIMBS,), the lowest first. Raises P2PSERError for one of 2^62 or more."""
    words = []
    for value in row.tolist():
        if not abs(value) < 2.0**62:
            raise P2PSERError(f"a sum over this peer's clips is {value:g}, too large for a secure sum: look for "
                              "features of extreme size")
        whole = int(math.ldexp(value, FRACTION_BITS)) % 2 ** (LIMBS * LIMB_BITS)
        words += [whole >> LIMB_BITS * k & 2**LIMB_BITS - 1 for k in range(LIMBS)]
    return np.array(words, dtype=np.uint64)


def from_words(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the numbers (S,) of a sum of ``to_words``."""
    modulus = 2 ** (LIMBS * LIMB_BITS)
    values = []
    for limbs in words.reshape(-1, LIMBS).tolist():
        whole = sum(limb << LIMB_BITS * k for k, limb in enumerate(limbs)) % modulus
        values.append(math.ldexp(float(whole - modulus if whole >= modulus // 2 else whole), -FRACTION_BITS))
    return np.array(values)
