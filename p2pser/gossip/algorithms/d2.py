"""D2, or exact diffusion: D-PSGD without the bias that heterogeneous peers cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Late, Mixer, Step
from p2pser.gossip.reading import Edge
from p2pser.gossip.stacked import mix_keeping_flows, without_flows


@ALGORITHMS.register("d2")
@dataclass(frozen=True, kw_only=True)
class D2(Algorithm):
    """D2 (exact diffusion) on V = (I + W) / 2.

    Each peer stores psi_i, the result of its last gradient step, at first x_i. In round r::

        psi'  =  X - lr G(X)
        X    <-  V (psi' + X - psi)
        psi  <-  psi'

    which is X_{t+1} = V (2 X_t - X_{t-1} - lr (G_t - G_{t-1})) after a first step X_1 = V (X_0 - lr G_0). The fixed
    point of every peer is the optimum of the mean objective, however heterogeneous the peers are.

    Assumes: a static undirected graph, symmetric W (V has no negative eigenvalue, without which it can diverge, as
    on bipartite graphs), one local step, no momentum, a constant rate. Conserved: the sum over peers of x - psi,
    which is 0; missing and late flows conserve it too, because each flow has two ends. So a missing edge needs no
    repair: to restart the difference (psi <- x) at its two ends alone would break the sum, and with it the fixed
    point, for good. Where a neighbour is lost, both ends take the flows of its edge out of x - psi: the sum is 0 over
    the peers that are left, which go on to the optimum of their own mean objective.

    References: H. Tang, X. Lian, M. Yan, C. Zhang, J. Liu, "D2: Decentralized Training over Decentralized Data",
    ICML 2018; K. Yuan, B. Ying, X. Zhao, A. H. Sayed, "Exact Diffusion for Distributed Optimization and Learning",
    IEEE Transactions on Signal Processing 2019.
    """

    parts: ClassVar[bool] = True
    requires = (requirements.static_symmetric, requirements.uniform_weighting,
                partial(requirements.one_local_step, instead="k-gt"), requirements.plain_sgd,
                requirements.constant_rate)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start with no difference."""
        state.rows.setdefault("psi", state.rows["x"].clone())

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take one gradient step, correct it, and mix at Step(round, 0)."""
        x = state.rows["x"]
        psi = x - local.lr(round) * local.gradient(x, round)
        corrected = psi + (x - state.rows["psi"])
        (mixed,) = mix_keeping_flows(state, mixer, Step(round, 0), corrected, part=0.5)
        state.rows["x"] = (corrected + mixed) / 2
        state.rows["psi"] = psi
        return state

    def on_edge_broken(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Take the flows of the edge out of x - psi, by psi: the parameters stay."""
        without_flows(state, peers, edge, "psi", 1.0)

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add half of each flow, as in the rounds."""
        super().settle(state, tuple(replace(flow, weight=flow.weight / 2) for flow in late), peers)
