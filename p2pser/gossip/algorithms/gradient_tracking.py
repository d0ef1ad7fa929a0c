"""Gradient tracking: every peer follows an estimate of the mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Late, Mixer, Step
from p2pser.gossip.reading import Edge
from p2pser.gossip.stacked import mix_keeping_flows, settle_both, without_flows


@ALGORITHMS.register("gradient-tracking")
@dataclass(frozen=True, kw_only=True)
class GradientTracking(Algorithm):
    """Gradient tracking (DIGing, NEXT), adapt then combine, [x; y] as one wide row.

    Each peer stores its last gradient g_i and a tracker y_i of the mean gradient, both 0 at first. In round r::

        Y  <-  Y + G(X) - G;   G <- G(X)
        X  <-  W (X - lr Y);   Y <- W Y

    Conserved: sum_i y_i = sum_i g_i (clip weighting: the clip-weighted sums), so that peers that
    agree follow the gradient of the mean objective: with a constant rate, small enough for the graph, the fixed point
    of every peer is the optimum, however heterogeneous the peers are. A falling rate (the cosine) is possible, as all
    peers have the same, but the run stops where the rate ends.

    Assumes: doubly stochastic W, also directed and changing from exchange to exchange (jointly connected); or the
    clip-weighted chain, whose weighted mean is conserved. One local step, no momentum. It sends twice the bytes of
    ``d-psgd``. A missing edge needs no repair: both halves of the row are settled late together, or not at all. Where a
    neighbour is lost, both ends take the flows of its edge out of their trackers: sum_i y_i = sum_i g_i over the peers
    that are left, which go on to the optimum of their own mean objective (not on one-way links).

    References: P. Di Lorenzo, G. Scutari, "NEXT: In-Network Nonconvex Optimization", IEEE Transactions on Signal
    and Information Processing over Networks 2016; A. Nedic, A. Olshevsky, W. Shi, "Achieving Geometric Convergence
    for Distributed Optimization over Time-Varying Graphs", SIAM Journal on Optimization 2017 (DIGing).
    """

    parts: ClassVar[bool] = True
    requires = (requirements.doubly_stochastic, partial(requirements.one_local_step, instead="k-gt"),
                requirements.plain_sgd)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from gradients of 0: the first round makes each tracker its peer's own gradient."""
        for name in ("y", "gradient"):
            state.rows.setdefault(name, torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Track, step, and mix both at Step(round, 0)."""
        x = state.rows["x"]
        gradient = local.gradient(x, round)
        y = state.rows["y"] + (gradient - state.rows["gradient"])
        state.rows["gradient"] = gradient
        state.rows["x"], state.rows["y"] = mix_keeping_flows(
            state, mixer, Step(round, 0), x - local.lr(round) * y, y)
        return state

    def on_edge_broken(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Take the flows of the edge out of the tracker."""
        without_flows(state, peers, edge, "y")

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add late flows to the parameters and to the trackers."""
        settle_both(state, late, peers, "y")
