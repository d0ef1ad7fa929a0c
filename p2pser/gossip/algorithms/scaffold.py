"""Federated averaging whose clients correct for their drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import Local, State
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.server import Server, mean
from p2pser.graph.spec import Topology


@ALGORITHMS.register("scaffold")
@dataclass(frozen=True, kw_only=True)
class Scaffold(Server):
    """Stochastic controlled averaging (SCAFFOLD), with its second option for the control variates.

    The control variate c_i is client i's estimate of its own gradient, c the mean of all clients' estimates. In round r
    the sampled clients S_r take K local steps of plain SGD from the server's row x, each gradient corrected by c - c_i,
    and the hub averages::

        z_i  = local_K(x, r; g - c_i + c)             for i in S_r
        c_i <- c_i - c + (x - z_i) / (K lr_r)         for i in S_r
        x   <- x + lr sum_{i in S_r} p_i (z_i - x)
        c   <- sum_i p_i c_i                          over all clients, those not sampled with the c_i they had

    The hub stores every client's last c_i, so that the next upload repairs a lost one. Unlike FedAvg's, its fixed point
    is the optimum of the mean objective, however heterogeneous the clients are and however many local steps they take.
    It sends twice FedAvg's bytes.

    Assumes plain SGD (no momentum), else (x - z_i) / (K lr) is no mean gradient. p_i: see ``FedAvg``.

    Reference: S. P. Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020
    (Algorithm 1, option II).
    """

    lr: float = 1.0
    """the server's learning rate (the paper's global step size), above 0"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """As ``Server.validate``; raise ConfigError for momentum, another local optimiser, or a learning rate <= 0."""
        if config.training.optimizer != "sgd" or config.training.momentum:
            raise ConfigError("scaffold needs local steps of plain SGD, from which it reads the mean gradient: set "
                              "training.optimizer=sgd and training.momentum=0 (and a larger training.lr for it)")
        if not self.lr > 0:
            raise ConfigError(f"gossip.parameters.lr = {self.lr} must be above 0")
        return super().validate(config, topology)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``c`` and ``c_own`` (B, D), and at the hub each client's last c_i and count (0 before an upload)."""
        super().begin(state, mixer)
        x = state.rows["x"]
        for name in ("c", "c_own"):
            state.rows.setdefault(name, torch.zeros_like(x))
        if self.hub in mixer.peers:
            for i in self.clients:
                state.edges.setdefault((self.hub, i), {"c": torch.zeros_like(x[0]), "count": x.new_zeros(1)})

    def train(self, state: State, local: Local, round: int, active: Sequence[int]) -> Tensor:
        """Return the rows [z_i, c_i] (B, 2 D)."""
        x, c, own = state.rows["x"], state.rows["c"], state.rows["c_own"].clone()
        z = local.train(state, round, correction=c - own, only=active)
        for b in active:
            own[b] += (x[b] - z[b]) / (local.steps * local.lr(round)) - c[b]
        state.rows["c_own"] = own
        return torch.cat([z, own], dim=1)

    def merge(self, state: State, b: int, rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> None:
        """Move the hub's row and the mean control variate, at place ``b``."""
        x, known = state.rows["x"][b], {i: dict(state.edges[self.hub, i]) for i in self.clients}
        x.add_(mean({i: row.chunk(2)[0] for i, row in rows.items()}, counts) - x, alpha=self.lr)
        for i, count in counts.items():
            known[i]["count"] = x.new_tensor([count])
        for i, row in rows.items():
            known[i]["c"] = row.chunk(2)[1].clone()
        # Replaced, not changed: a snapshot of the round's start shares the edges.
        state.edges = state.edges | {(self.hub, i): kept for i, kept in known.items()}
        state.rows["c"] = state.rows["c"].clone()
        state.rows["c"][b] = mean({i: kept["c"] for i, kept in known.items()},
                                  {i: float(kept["count"]) for i, kept in known.items()})

    def download(self, state: State, b: int) -> Tensor:
        """Return the hub's [x, c], (2 D,)."""
        return torch.cat([state.rows["x"][b], state.rows["c"][b]])

    def adopt(self, state: State, b: int, row: Tensor) -> None:
        """Take the hub's [x, c] at a client's place ``b``."""
        state.rows["x"][b], state.rows["c"][b] = row.chunk(2)
