"""CHOCO-SGD: peers exchange compressed differences to public copies of their rows, and mix the copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import public_copies, requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Step
from p2pser.graph.spec import Topology
from p2pser.wire.codec import Codec, compressor

STEPS = {"top-k": 2.5, "random-k": 1.0, "sign": 12.0, "qsgd": 1.5, "8-bit": 1.0, "low-rank": 1.5, "dense": 1.0}
"""Default gamma over the compressor's contraction delta: two thirds or less of where trials on rings diverged. A
compressor that is not here has 1."""


def proven_step(W: np.ndarray, delta: float) -> float:
    """Return the gamma of CHOCO's theorem for a symmetric W (N, N) and a compressor with contraction ``delta``.

    With rho = 1 - slem(W) and beta = |I - W|_2: rho^2 delta / (16 rho + rho^2 + 4 beta^2 + 2 rho beta^2 - 8 rho delta).
    """
    values = np.linalg.eigvalsh(W)
    rho, beta = 1 - max(abs(values[0]), abs(values[-2])), 1 - values[0]
    return float(rho**2 * delta / (16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * delta))


@ALGORITHMS.register("choco")
@dataclass(frozen=True, kw_only=True)
class Choco(Algorithm):
    """CHOCO-SGD: local steps, then one exchange of compressed differences, with error feedback built in.

    Every peer has a public copy c_i of its row, which its neighbours store too. In round r, with the compressor Q::

        z_i  =  local_K(x_i, r)
        q_i  =  Q(z_i - c_i),    c_i <- c_i + q_i           (i sends q_i; its neighbours update their c_i)
        x_i <-  z_i + gamma sum_j W_ij (c_j - c_i)

    The error of Q stays in z_i - c_i and is sent later. Conserved: the mean of the rows, for any Q. Without local steps
    the rows converge linearly to it for any Q with |Q(x) - x|^2 <= (1 - delta) |x|^2 and gamma small enough. The copies
    begin as the initial rows, which are equal at all peers, so that the first message is a difference too.

    Assumes: one symmetric W for all rounds. Each peer stores the copies of all neighbours; the memory-efficient form of
    the paper stores their weighted sum only, which cannot be repaired after a gap. After a lost message the edge is not
    mixed until the sender of the lost message has sent its whole copy, once; a flow that one end alone applied is taken
    back (``both_ends``).

    Reference: A. Koloskova, S. U. Stich, M. Jaggi, "Decentralized Stochastic Optimization and Gossip Algorithms with
    Compressed Communication", ICML 2019.
    """

    requires = (requirements.static_symmetric, requirements.uniform_weighting)

    compressor: str = "top-k"
    """top-k, random-k, sign, qsgd, 8-bit, low-rank, dense, or a compressor of an installed package"""
    share: float = 0.04
    """of top-k and random-k: share of the numbers that are sent, in (0, 1]"""
    bits: int = 8
    """of top-k and random-k: bits of each number, 2 (top-k only), 8 or 32 (unchanged)"""
    levels: int = 7
    """of qsgd: levels of the magnitudes, 1 to 127"""
    rank: int = 1
    """of low-rank: rank of each matrix"""
    gamma: float = 0.0
    """step of the consensus, in (0, 1]; 0: a default for the compressor"""

    compression: tuple[tuple[str, object], ...] = field(default=(), repr=False, metadata={"internal": True})
    """Further settings (name, value) of the compressor, which are no fields of this class."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gossip.parameters.gamma = {self.gamma:g} must be in (0, 1], or 0 for the default")
        _ = self.form  # raises for an unknown compressor and values out of range

    def step(self, form: Codec, size: int) -> float:
        """Return gamma, or its default for rows of ``size`` numbers in the form ``form``."""
        return self.gamma or min(1.0, STEPS.get(self.compressor, 1.0) * form.contraction(size))

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse schedules and clip weights. Warns of a gamma beyond the theorem's."""
        super().validate(config, topology)
        if topology.size < 2 or self.compressor in ("dense", "low-rank"):
            return ()
        form = self.form
        step, proven = self.step(form, 10**6), proven_step(topology.matrix(), form.contraction(10**6))
        return () if step <= proven else (
            f"choco's gamma = {step:.2g} is beyond {proven:.2g}, up to which convergence is proven here (a bound that "
            "is far from tight); if the peers diverge, lower gossip.parameters.gamma",)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Start from the initial rows as public copies."""
        public_copies.begin(state, mixer)

    def on_join(self, state: State, mixer: Mixer) -> None:
        """Start from the rows as copies that no neighbour knows yet."""
        public_copies.join(state, mixer)

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and mix the copies at Step(round, 0)."""
        form = self.form.shaped(local.shapes)
        z = local.train(state, round)
        state.rows["x"] = public_copies.mix_copies(state, mixer, z, Step(round, 0), round, self.step(form, z.shape[1]),
                                                   lambda peer: form.at(self.context.config.seed, peer, round))
        return state

    @cached_property
    def form(self) -> Codec:
        """The compressor with its settings."""
        settings = {"share": self.share, "bits": self.bits, "levels": self.levels, "rank": self.rank}
        return compressor(self.compressor, settings | dict(self.compression))
