"""Decentralised federated averaging: local steps, then one exchange with the neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@ALGORITHMS.register("dfedavg")
@dataclass(frozen=True, kw_only=True)
class DFedAvg(Algorithm):
    """Decentralised federated averaging (DFedAvg).

    In round r each peer i takes K local steps (SGD with momentum or AdamW) from its row, then averages::

        z_i     = local_K(x_i, r)
        x_i <-  sum_j W_ij z_j

    For K = 1 and plain SGD this is D-PSGD in its adapt-then-combine form. The optimiser's state (momentum)
    is not mixed.

    Assumes: a connected undirected graph, or a schedule whose matrices are doubly stochastic (with row-stochastic
    matrices the peers agree on an average that weights some more). Metropolis-Hastings weights
    conserve the plain mean of the rows, the clip-weighted chain (pi^T W = pi^T) the clip-weighted mean. All peers take
    the same number of local steps and begin with equal rows.

    A missing edge is a missing flow: the mixer settles it late, or its weight stays with the receiver. So an edge needs
    no repair after a gap.

    References: T. Sun, D. Li, B. Wang, "Decentralized Federated Averaging", IEEE TPAMI 2022 (Algorithm 1);
    X. Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017 (D-PSGD).
    """

    parts: ClassVar[bool] = True
    requires = (requirements.averaging,)

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps of ``round`` and mix at Step(round, 0); ``state.rows["x"]`` is replaced."""
        state.rows["x"] = mixer.mix(local.train(state, round), Step(round, 0))
        return state
