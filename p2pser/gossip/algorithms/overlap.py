"""Decentralised averaging whose exchange runs during the local steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

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

    Assumes: W averages (``dfedavg``; also doubly stochastic schedules). Conserved by the exchange: the mean of the
    rows (clip weighting: the clip-weighted mean). For K = 1 and plain SGD its fixed point is that of
    X = W X - lr G(X); it is stable for lr L < 1 + lambda_min(W), L the gradients' Lipschitz constant: for graphs
    with a small lambda_min (bipartite ones) take ``weights: lazy`` or a lower rate than for ``dfedavg``.

    A missing edge is a missing flow: the mixer settles it late, or its weight stays with the receiver.

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
