"""Federated averaging with a server."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.server import Server


@ALGORITHMS.register("fedavg")
@dataclass(frozen=True, kw_only=True)
class FedAvg(Server):
    """Federated averaging with a server (FedAvg); with ``training.proximal`` above 0 it is FedProx.

    In round r the sampled clients S_r take K local steps from the server's row x, and the hub averages::

        z_i  = local_K(x, r)             for i in S_r
        x   <- sum_{i in S_r} p_i z_i    p_i equal, or in proportion to the clips (``gossip.weighting=clips``)

    The optimiser's state (momentum) stays at its client. For S_r and the exchange see ``Server``.

    References: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017; T. Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (FedProx).
    """
