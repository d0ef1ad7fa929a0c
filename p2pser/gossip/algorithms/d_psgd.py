"""Decentralised parallel SGD: one gradient step, one exchange."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@ALGORITHMS.register("d-psgd")
@dataclass(frozen=True, kw_only=True)
class DPSGD(Algorithm):
    """Decentralised parallel SGD (D-PSGD), adapt then combine.

    In round r, with the stochastic gradients G of the peers at their own rows::

        X <- W (X - lr G(X))

    Assumes: one local step, no momentum; W averages (undirected graphs, also time-varying and directed graphs
    with doubly stochastic matrices; with row-stochastic matrices the peers agree on an average that weights some more).
    Conserved by the exchange: the mean of the rows (clip weighting: the clip-weighted mean).

    With heterogeneous peers and a constant rate it ends away from the optimum, at the fixed point of
    X = W (X - lr G(X)): by O(lr^2) in the square, more on slow graphs. ``d2`` and ``gradient-tracking`` do not.
    For several local steps, momentum or AdamW use ``dfedavg``. A missing edge needs no repair: it is settled
    late, or its weight stays with the receiver.

    References: X. Lian, C. Zhang, H. Zhang, C.-J. Hsieh, W. Zhang, J. Liu, "Can Decentralized Algorithms
    Outperform Centralized Algorithms?", NeurIPS 2017 (combine then adapt); F. S. Cattivelli, A. H. Sayed,
    "Diffusion LMS Strategies for Distributed Estimation", IEEE Transactions on Signal Processing 2010 (adapt then
    combine).
    """

    parts: ClassVar[bool] = True
    requires = (partial(requirements.one_local_step, instead="dfedavg"), requirements.plain_sgd, requirements.averaging)

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take one gradient step and mix at Step(round, 0)."""
        x = state.rows["x"]
        state.rows["x"] = mixer.mix(x - local.lr(round) * local.gradient(x, round), Step(round, 0))
        return state
