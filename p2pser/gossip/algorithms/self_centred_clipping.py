"""Self-centred clipping: averaging whose flows are clipped to a radius."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.robust import NeighbourRow, Robust
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import slem


@ALGORITHMS.register("self-centred-clipping")
@dataclass(frozen=True, kw_only=True)
class SelfCentredClipping(Robust):
    """Self-centred clipping (ClippedGossip): plain averaging whose flows are cut to a radius::

        x_i <- z_i + sum_j W_ij clip(z_j - z_i, tau_i)         clip(v, tau) = v min(1, tau / ||v||)

    The radius is adaptive unless it is given. Let delta_i be the weight of the b heaviest neighbours, and S_i the peer
    itself and its closest neighbours up to a weight of 1 - delta_i (the furthest with the part that is missing)::

        tau_i^2 = (1 / delta_i) sum_{j in S_i} W_ij ||z_j - z_i||^2

    The paper's oracle radius, of which this one is never more, has the sum over the honest neighbours and the weight
    of the hostile ones for delta_i. For the oracle, let m be the mean of the honest rows and rho^2 their mean square
    distance to it, delta the largest weight that hostile neighbours of an honest peer have, and g the spectral gap of
    the honest part of the graph, whose other weights stay with the receiver. For any hostile rows, the mean square
    distance to m is afterwards at most ((1 - g + 4 sqrt(delta)) rho)^2, and the honest mean has moved by at most
    4 sqrt(delta) rho. So the rows contract where 4 sqrt(delta) < g: a sufficient condition, which small graphs do not
    meet.

    b = 0 is the plain average. See ``Robust`` for assumptions and limits.

    Reference: L. He, S. P. Karimireddy, M. Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip", 2022
    (arXiv:2202.01545). The constant 4 follows from cutting a flow of length a by a^2 / tau at most, and from
    ||z_i - z_j||^2 <= 2 ||z_i - m||^2 + 2 ||z_j - m||^2.
    """

    radius: float | None = None
    """tau, the same for all peers and rounds, above 0; none: adaptive"""


    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """As ``Robust.validate``; raises ConfigError for a radius that is not above 0, warns beyond the bound."""
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ConfigError(f"gossip.parameters.radius = {self.radius} must be above 0 and finite: with a radius "
                              "of 0 the peers never mix; leave it out for an adaptive one")
        super().validate(config, topology)
        W = topology.matrix()
        delta = max(sum(sorted((W[i, j] for j in topology.neighbours(i)), reverse=True)[: self.hostile])
                    for i in range(topology.size))
        gap = 1 - slem(W)
        if 4 * math.sqrt(delta) < gap:
            return ()
        return (f"self-centred-clipping: {self.hostile} hostile neighbour(s) may have a weight of {delta:.3g}, and "
                f"agreement is proven below (spectral gap / 4)^2 = {gap**2 / 16:.3g} only (the gap of the honest part "
                "of the graph; printed is the whole graph's); that bound is sufficient, not necessary",)

    def combine(self, peer: int, own: Tensor, neighbours: Sequence[NeighbourRow], hostile: int) -> Tensor:
        """Return own + sum_j W_ij clip(x_j - own, tau)."""
        flows = [neighbour.row - own for neighbour in neighbours]
        away = [float(torch.linalg.vector_norm(flow, dtype=torch.float64)) for flow in flows]
        radius = self.radius_of(peer, neighbours, away, hostile)
        mixed = own.clone()
        for neighbour, flow, distance in zip(neighbours, flows, away):
            if math.isfinite(distance):
                mixed.add_(flow, alpha=neighbour.weight * (1.0 if distance <= radius else radius / distance))
        return mixed

    def radius_of(self, peer: int, neighbours: Sequence[NeighbourRow], away: Sequence[float], hostile: int) -> float:
        """Return tau of ``peer``, whose neighbours have the distances ``away``; infinite where none can be hostile."""
        if self.radius is not None:
            return self.radius
        delta = sum(sorted((neighbour.weight for neighbour in neighbours), reverse=True)[:hostile])
        if not delta:
            return math.inf
        left, total = sum(neighbour.weight for neighbour in neighbours) - delta, 0.0
        for distance, weight in sorted((distance, neighbour.weight) for neighbour, distance in zip(neighbours, away)):
            if left <= 1e-12:  # the rounding of the sum
                break
            total += min(weight, left) * distance**2
            left -= weight
        return math.sqrt(total / delta)
