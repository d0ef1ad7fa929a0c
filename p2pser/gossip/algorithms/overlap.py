"""Decentralised averaging that trains while the rows travel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Outbox, Step, add_flows
from p2pser.topology.spec import Topology


@ALGORITHMS.register("overlap")
@dataclass(frozen=True, kw_only=True)
class Overlap(Algorithm):
    """Local steps and exchange at the same time: combine while adapting (D-PSGD as first published, K local steps).

    In round r each peer sends its row, takes K local steps from it while the neighbours' rows are on their way, and
    then takes in what came::

        x_i <- sum_j W_ij x_j + (local_K(x_i, r) - x_i)

    What is trained in round r - 1 is thus mixed in round r, one round later than ``dfedavg`` mixes it, and a round
    takes the longer of training and exchange instead of their sum. What is sent is the row that the round starts
    with: nothing is on its way between rounds, and a checkpoint of "x" holds all. After the last round only that
    round's own local steps are unmixed, as a difference between rows; the final consensus averages them.

    Assumes: W averages (``dfedavg``; also doubly stochastic schedules). Conserved by the exchange: the mean of the
    rows (clip weighting: the clip-weighted one). For K = 1 and plain SGD its fixed point is that of
    X = W X - lr G(X); it is stable for lr L < 1 + lambda_min(W), L the gradients' Lipschitz constant: for graphs
    with a small lambda_min (bipartite ones) take ``weights: lazy`` or a lower rate than for ``dfedavg``.

    A missed edge is a missed flow: it is settled late by the mixer, or its weight stays at home.

    Reference: X. Lian, C. Zhang, H. Zhang, C.-J. Hsieh, W. Zhang, J. Liu, "Can Decentralized Algorithms Outperform
    Centralized Algorithms?", NeurIPS 2017 (Algorithm 1, whose gradient and exchange may run in parallel).
    """

    parts: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse matrices that do not average."""
        requirements.averaging(self.name, topology)
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Post at Step(round, 0), train, collect."""
        x, at = state.rows["x"], Step(round, 0)
        mixer.post(at, Outbox(rows=x))
        trained = local.train(state, round)
        state.rows["x"] = add_flows(x, mixer.collect(at), mixer.peers) + (trained - x)
        return state
