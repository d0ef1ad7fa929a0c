"""Quasi-global momentum: a momentum of the change of the mixed parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@ALGORITHMS.register("quasi-global-momentum")
@dataclass(frozen=True, kw_only=True)
class QuasiGlobalMomentum(Algorithm):
    """Local steps with quasi-global momentum (QG-DSGDm).

    Each peer stores a buffer m_i, 0 at first. In round r it takes K local steps along gradient plus buffer, mixes, and
    moves the buffer towards the change of its row, the exchange included::

        z_i     =  x_i;  K times:  z_i <- z_i - lr (grad f_i(z_i) + momentum m_i)
        x_i'    =  sum_j W_ij z_j
        m_i    <-  decay m_i + (1 - decay) (x_i - x_i') / (K lr)
        x_i    <-  x_i'

    K = 1 is the published rule. For K > 1 the buffer is held during the round and its update counted per step.
    In a steady direction the step is lr / (1 - momentum) times the gradient, as with local momentum; but a
    buffer of mixed rows does not pull towards its peer's own minimum.

    Assumes: W averages (as for ``d-psgd``); plain local SGD (training.momentum = 0). Conserved by the exchange: the
    mean of the rows (clip weighting: the clip-weighted mean). With identical peers it is SGD with quasi-hyperbolic
    momentum. A missing edge needs no repair: it is settled late, or its weight stays with the receiver.

    Reference: T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi, "Quasi-Global Momentum: Accelerating Decentralized
    Deep Learning on Heterogeneous Data", ICML 2021.
    """

    parts: ClassVar[bool] = True
    requires = (requirements.plain_sgd, requirements.averaging)

    momentum: float = 0.9
    """factor of the buffer that is added to each gradient (beta), in [0, 1); 0: dfedavg without momentum"""
    decay: float = 0.5
    """factor of the buffer after a round (mu), in [0, 1); the paper has 0.9, a time constant of
    1 / ((1 - decay) (1 - momentum)) = 100 rounds, too slow for runs of that length"""

    def __post_init__(self) -> None:
        requirements.below_one(momentum=self.momentum, decay=self.decay)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from an empty buffer."""
        state.rows.setdefault("buffer", torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps, mix at Step(round, 0), and update the buffer."""
        x, buffer = state.rows["x"], state.rows["buffer"]
        mixed = mixer.mix(local.train(state, round, correction=self.momentum * buffer), Step(round, 0))
        moved = (x - mixed) / (local.steps * local.lr(round))
        state.rows["buffer"] = self.decay * buffer + (1 - self.decay) * moved
        state.rows["x"] = mixed
        return state
