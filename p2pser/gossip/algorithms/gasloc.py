"""GASLoC: gossip with momentum on the rows after their local steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@ALGORITHMS.register("gasloc")
@dataclass(frozen=True, kw_only=True)
class GASLoC(Algorithm):
    """Accelerated gossip as the outer step of local training (GASLoC).

    Each peer stores its row y_i' after the local steps of the round before, at first its initial row::

        y_i     =  x_i + rate (local_K(x_i, r) - x_i)
        x_i    <-  y_i - gossip (y_i - sum_j W_ij y_j) + momentum (y_i - y_i')

    With momentum 0, rate 1 and gossip 1 it is ``dfedavg``. A disagreement along an eigenvector of W with eigenvalue l
    shrinks by the larger root of ``q^2 - (1 - gossip (1 - l) + momentum) q + momentum`` in each round: with
    momentum = (1 - sqrt(gossip (1 - l)))^2 by 1 - sqrt(gossip (1 - l)).

    Assumes: W averages (as for ``dfedavg``); gossip (1 - l) < 2 (1 + momentum) for all eigenvalues. Conserved: the mean
    of the rows moves as one server's with this momentum. A missing edge is a missing flow: the mixer settles it late,
    or its weight stays with the receiver.

    Reference: P. Cagnasso, E. Belilovsky, E. Oyallon, "Unifying Local Communications and Local Updates for LLM
    Pretraining", arXiv 2606.11081, 2026.
    """

    parts: ClassVar[bool] = True
    requires = (requirements.averaging,)

    momentum: float = 0.5
    """factor of the change of the rows after local steps (gamma), in [0, 1); 0: not accelerated"""
    rate: float = 0.7
    """factor of the change of the local steps (eta), above 0; a steady change counts rate / (1 - momentum) times"""
    gossip: float = 1.0
    """factor of the difference from the neighbours' mean (alpha), above 0 and at most 1 + momentum"""

    def __post_init__(self) -> None:
        requirements.outer_step(self.momentum, self.rate, gossip=self.gossip)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from rest."""
        state.rows.setdefault("before", state.rows["x"])

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps, mix at Step(round, 0), and add the momentum."""
        x = state.rows["x"]
        trained = x + self.rate * (local.train(state, round) - x)
        mixed = trained + self.gossip * (mixer.mix(trained, Step(round, 0)) - trained)
        state.rows["x"] = mixed + self.momentum * (trained - state.rows["before"])
        state.rows["before"] = trained
        return state
