"""Federated learning with an optimiser at the server, whose gradient is the clients' mean step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, nearest
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.server import Server, mean
from p2pser.graph.spec import Topology

DEFAULTS = {"adam": (0.01, 0.9), "yogi": (0.01, 0.9), "adagrad": (0.01, 0.9), "sgdm": (1.0, 0.3)}
"""The server's default lr and beta1 with each optimiser: the best of small grids on clients held out of training, where
the clients' own steps have momentum. There sgdm diverges with lr / (1 - beta1) far above 1."""


@ALGORITHMS.register("fedopt")
@dataclass(frozen=True, kw_only=True)
class FedOpt(Server):
    """Federated optimisation (FedOpt): FedAdam, FedYogi, FedAdagrad and FedAvgM.

    The sampled clients train as in FedAvg; the hub takes their mean step d as minus a gradient::

        d   = sum_{i in S_r} p_i (z_i - x)
        m  <- beta1 m + (1 - beta1) d                  (sgdm: m <- beta1 m + d)
        v  <- beta2 v + (1 - beta2) d^2                adam
        v  <- v - (1 - beta2) d^2 sign(v - d^2)        yogi
        v  <- v + d^2                                  adagrad
        x  <- x + lr m / (sqrt(v) + tau)               (sgdm: x <- x + lr m)

    from m = 0, v = tau^2, without a correction of the bias. ``sgdm`` with beta1 = 0 and lr = 1 is FedAvg.

    References: S. J. Reddi et al., "Adaptive Federated Optimization", ICLR 2021 (Algorithm 2); T.-M. H. Hsu, H. Qi,
    M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019
    (FedAvgM).
    """

    optimizer: str = "adam"
    """the server's: adam, yogi, adagrad or sgdm"""
    lr: float | None = None
    """the server's learning rate, above 0; none: 0.01, sgdm 1"""
    beta1: float | None = None
    """decay of the mean step, in [0, 1); none: 0.9, sgdm 0.3"""
    beta2: float = 0.99
    """decay of the mean square step, in [0, 1)"""
    tau: float = 0.01
    """adaptivity, above 0: coordinates with a mean step far below tau are not accelerated"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """As ``Server.validate``; raises ConfigError for hyper-parameters out of range, too."""
        if self.optimizer not in DEFAULTS:
            raise ConfigError(f"gossip.parameters.optimizer: there is no {self.optimizer!r}"
                              f"{nearest(self.optimizer, DEFAULTS)}")
        lr, beta1 = self._settings
        if not (lr > 0 and self.tau > 0 and 0 <= beta1 < 1 and 0 <= self.beta2 < 1):
            raise ConfigError(f"fedopt needs lr and tau above 0 and beta1 and beta2 in [0, 1), not lr {lr}, tau "
                              f"{self.tau}, beta1 {beta1}, beta2 {self.beta2}: set gossip.parameters")
        return super().validate(config, topology)

    @property
    def _settings(self) -> tuple[float, float]:
        """The lr and beta1 in use."""
        lr, beta1 = DEFAULTS[self.optimizer]
        return lr if self.lr is None else self.lr, beta1 if self.beta1 is None else self.beta1

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add the server's ``m`` and ``v`` (B, D), which only the hub's row uses."""
        super().begin(state, mixer)
        state.rows.setdefault("m", torch.zeros_like(state.rows["x"]))
        if self.optimizer != "sgdm":
            state.rows.setdefault("v", torch.full_like(state.rows["x"], self.tau**2))

    def merge(self, state: State, b: int, rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> None:
        """Take the server's step on the hub's row, at place ``b``."""
        (lr, beta1), x, m = self._settings, state.rows["x"][b], state.rows["m"][b]
        step = mean(rows, counts) - x
        if self.optimizer == "sgdm":
            x.add_(m.mul_(beta1).add_(step), alpha=lr)
            return
        v, square = state.rows["v"][b], step.square()
        if self.optimizer == "adam":
            v.mul_(self.beta2).add_(square, alpha=1 - self.beta2)
        elif self.optimizer == "yogi":
            v.sub_(square * (v - square).sign(), alpha=1 - self.beta2)
        else:
            v.add_(square)
        m.mul_(beta1).add_(step, alpha=1 - beta1)
        x.addcdiv_(m, v.sqrt().add_(self.tau), value=lr)
