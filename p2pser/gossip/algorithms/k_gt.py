"""K-GT: gradient tracking with local steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Late, Mixer, Step
from p2pser.gossip.reading import Edge
from p2pser.gossip.stacked import mix_keeping_flows, settle_both, without_flows


@ALGORITHMS.register("k-gt")
@dataclass(frozen=True, kw_only=True)
class KGT(Algorithm):
    """K-GT: local steps that are corrected by tracked gradients (SCAFFOLD in gossip form), [x; z] as one wide row.

    Each peer stores a correction c_i, 0 at first. In round r it takes K local steps of mean direction z_i, and all
    peers mix::

        u_i  =  x_i;  K times:  u_i <- u_i - lr (grad f_i(u_i) + c_i)
        z_i  =  (x_i - u_i) / (K lr)
        c_i <-  c_i - z_i + sum_j W_ij z_j
        x_i <-  sum_j W_ij (x_j - communication_rate K lr z_j)

    Conserved: sum_i c_i = 0 (clip weighting: the clip-weighted sum). At the fixed point each correction
    compensates its peer's own gradient, so that with a constant rate, small enough for K and the graph, all peers end
    at the optimum of the mean objective, for any number of local steps and however heterogeneous the peers are;
    averaging local steps (``dfedavg``) does not. A falling rate (the cosine) is possible, since z is divided by it.

    Assumes: doubly stochastic W (proven for a static one; schedules that conserve the mean conserve the sum too), or
    the clip-weighted chain. No local momentum: the correction would be applied 1 / (1 - momentum) times. The
    paper starts c at the negative gradient plus the mean gradient; with 0 the first rounds find it. It sends
    twice the bytes of ``dfedavg``. A missing edge needs no repair: both halves of the row are settled late together, or
    not at all. Where a neighbour is lost, both ends take the flows of its edge out of their corrections, which sum to 0
    over the peers that are left: these go on to the optimum of their own mean objective (not on one-way links).

    Reference: Y. Liu, T. Lin, A. Koloskova, S. U. Stich, "Decentralized gradient tracking with local steps",
    Optimization Methods and Software 2024 (arXiv 2023).
    """

    parts: ClassVar[bool] = True
    requires = (requirements.doubly_stochastic, requirements.plain_sgd)

    communication_rate: float = 1.0
    """part of the local steps' change that a row takes before it is mixed (eta_s), above 0"""

    def __post_init__(self) -> None:
        if not self.communication_rate > 0:
            raise ConfigError(f"gossip.parameters.communication_rate = {self.communication_rate:g} must be above 0: "
                              "1 takes their whole change")

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from corrections of 0."""
        state.rows.setdefault("c", torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the corrected local steps, and mix rows and directions at Step(round, 0)."""
        x, c = state.rows["x"], state.rows["c"]
        moved = local.train(state, round, correction=c) - x
        z = moved / (-local.steps * local.lr(round))
        state.rows["x"], mixed = mix_keeping_flows(
            state, mixer, Step(round, 0), x + self.communication_rate * moved, z)
        state.rows["c"] = c + (mixed - z)
        return state

    def on_edge_broken(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Take the flows of the edge out of the correction."""
        without_flows(state, peers, edge, "c")

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add late flows to the parameters and to the corrections."""
        settle_both(state, late, peers, "c")
