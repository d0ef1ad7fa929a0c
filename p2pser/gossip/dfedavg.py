"""Decentralised federated averaging: local steps, then one exchange with the neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@dataclass
class DFedAvg(Algorithm):
    """Decentralised federated averaging (DFedAvg).

    In round r each peer i takes K local steps (SGD with momentum or AdamW) from its row, then averages::

        z_i     = local_K(x_i, r)
        x_i <-  sum_j W_ij z_j

    For K = 1 and plain SGD this is D-PSGD in its adapt-then-combine form. The optimiser's memory (momentum)
    stays with its peer and is not mixed.

    Assumes: a connected undirected graph; W from Metropolis-Hastings (symmetric, doubly stochastic: the plain
    mean of the rows is conserved by the exchange) or the clip-weighted chain (pi^T W = pi^T: the
    clip-weighted mean is); equally many local steps everywhere; equal initial rows.

    A missed edge is a missed flow: it is settled late by the mixer, or its weight stays at home. So an edge
    that comes back after a gap needs nothing.

    References: T. Sun, D. Li, B. Wang, "Decentralized Federated Averaging", IEEE TPAMI 2022 (Algorithm 1);
    X. Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017 (D-PSGD).
    """

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps of ``round`` and mix at Step(round, 0); ``state.rows["x"]`` is replaced."""
        state.rows["x"] = mixer.mix(local.train(state, round), Step(round, 0))
        return state
