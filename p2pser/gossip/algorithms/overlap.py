"""Decentralised averaging whose exchange runs during the local steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Outbox, Step, add_flows
from p2pser.graph.spec import Topology


@ALGORITHMS.register("overlap")
@dataclass(frozen=True, kw_only=True)
class Overlap(Algorithm):
    """Local steps during the exchange: combine while adapting (D-PSGD as first published, K local steps).

    In round r each peer sends its row, takes K local steps from it while the neighbours' rows are on their way, and
    then adds the change of its local steps to the mixed row::

        x_i <- sum_j W_ij x_j + (local_K(x_i, r) - x_i)

    The local steps of round r - 1 are thus mixed in round r, one round later than by ``dfedavg``, and a round takes the
    longer of training and exchange instead of their sum. Each round sends the row that it starts from: no message is
    on its way between rounds, and a checkpoint of "x" is complete. After the last round only that round's own local
    steps are unmixed; the final consensus averages them.

    With ``momentum`` the local steps are along gradient plus ``momentum`` times the buffer of
    ``quasi-global-momentum``, which follows (x_i - x_i') / (K lr), x_i' the new row: it does not pull towards the
    peer's own minimum, and makes up for most of what the delay costs where peers differ.

    Assumes: W averages (``dfedavg``; also doubly stochastic schedules). Conserved by the exchange: the mean of the
    rows (clip weighting: the clip-weighted mean). For K = 1 and plain SGD its fixed point is that of
    X = W X - lr G(X); it is stable for lr L < 1 + lambda_min(W), L the gradients' Lipschitz constant: for graphs
    with a small lambda_min (bipartite ones) take ``weights: lazy`` or a lower rate than for ``dfedavg``.

    A missing edge is a missing flow: the mixer settles it late, or its weight stays with the receiver.

    Reference: X. Lian, C. Zhang, H. Zhang, C.-J. Hsieh, W. Zhang, J. Liu, "Can Decentralized Algorithms Outperform
    Centralized Algorithms?", NeurIPS 2017 (Algorithm 1, whose gradient and exchange may run in parallel); with K local
    steps Y. Zhou, S. Pu, "Accelerating Decentralized Optimization via Overlapping Local Steps", arXiv 2601.01493, 2026;
    the buffer T. Lin et al., "Quasi-Global Momentum", ICML 2021.
    """

    parts: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True
    requires = (requirements.averaging,)

    momentum: float = 0.0
    """factor of the buffer that is added to each gradient, in [0, 1); 0: none, and local momentum is allowed"""
    decay: float = 0.5
    """factor of the buffer after a round, in [0, 1)"""

    def __post_init__(self) -> None:
        requirements.below_one(momentum=self.momentum, decay=self.decay)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse matrices that do not average, and with ``momentum`` local momentum and AdamW."""
        super().validate(config, topology)
        if self.momentum:
            requirements.plain_sgd("overlap with momentum", config, topology)
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from an empty buffer."""
        if self.momentum:
            state.rows.setdefault("buffer", torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Post at Step(round, 0), train, collect, and update the buffer."""
        x, at, buffer = state.rows["x"], Step(round, 0), state.rows.get("buffer")
        mixer.post(at, Outbox(rows=x))
        trained = local.train(state, round, correction=None if buffer is None else self.momentum * buffer)
        state.rows["x"] = add_flows(x, mixer.collect(at), mixer.peers) + (trained - x)
        if buffer is not None:
            moved = (x - state.rows["x"]) / (local.steps * local.lr(round))
            state.rows["buffer"] = self.decay * buffer + (1 - self.decay) * moved
        return state
