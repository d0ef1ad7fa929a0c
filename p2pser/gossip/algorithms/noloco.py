"""NoLoCo: an outer momentum whose step also pulls towards the neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step


@ALGORITHMS.register("noloco")
@dataclass(frozen=True, kw_only=True)
class NoLoCo(Algorithm):
    """Local steps, then an outer step with momentum that averages the changes and pulls the rows together.

    Each peer stores a velocity v_i, 0 at first. In round r it takes K local steps (SGD or AdamW) and sends one row::

        z_i     =  rate (local_K(x_i, r) - x_i) + pull x_i
        v_i    <-  momentum v_i + sum_j W_ij z_j - pull x_i
        x_i    <-  x_i + v_i

    That is ``momentum v_i + rate sum_j W_ij d_j - pull (x_i - sum_j W_ij x_j)``, d_j the neighbours' changes: the
    published rule, there for random pairs (here the schedule ``random-matching``). With momentum 0, rate 1 and pull 1
    it is ``dfedavg``. The momentum also speeds up the gossip: a disagreement along an eigenvector of W with
    eigenvalue l shrinks by the larger root of ``q^2 - (1 + momentum - pull (1 - l)) q + momentum`` in each round: on a
    ring of 16 by .88 with the values below instead of .95.

    Assumes: W averages (as for ``dfedavg``); pull (1 - l) < 2 (1 + momentum) for all eigenvalues. Conserved: the mean
    of the rows moves by the mean velocity, which is that of one server with this momentum. A missing edge is a missing
    flow: the mixer settles it late, or its weight stays with the receiver.

    Reference: J. Kolehmainen et al., "NoLoCo: No-all-reduce Low Communication Training Method for Large Models",
    arXiv 2506.10911, 2025.
    """

    parts: ClassVar[bool] = True
    requires = (requirements.averaging,)

    momentum: float = 0.5
    """factor of the velocity after a round (alpha), in [0, 1)"""
    rate: float = 0.7
    """factor of the averaged change of the local steps (beta), above 0; a steady change counts
    rate / (1 - momentum) times"""
    pull: float = 1.0
    """factor of the difference from the neighbours' mean (gamma), above 0 and at most 1 + momentum"""

    def __post_init__(self) -> None:
        requirements.outer_step(self.momentum, self.rate, pull=self.pull)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from rest."""
        state.rows.setdefault("velocity", torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps, mix at Step(round, 0), and take the outer step."""
        x = state.rows["x"]
        sent = self.rate * (local.train(state, round) - x) + self.pull * x
        step = mixer.mix(sent, Step(round, 0)) - self.pull * x
        state.rows["velocity"] = self.momentum * state.rows["velocity"] + step
        state.rows["x"] = x + state.rows["velocity"]
        return state
