"""RelaySGD: along a tree, sums of rows are relayed from peer to peer, each once, until all peers have all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import networkx as nx
import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Edge, Mixer, Outbox, Step
from p2pser.topology.spec import Topology


def spanning_tree(graph: nx.Graph) -> nx.Graph:
    """Return the breadth-first tree from a centre of ``graph``: the peer of least eccentricity, then of least id.

    Neighbours are taken in ascending order: all peers build the same.
    """
    eccentricity = nx.eccentricity(graph)
    root = min(graph, key=lambda i: (eccentricity[i], i))
    tree = nx.empty_graph(len(graph))
    tree.add_edges_from(nx.bfs_edges(graph, root, sort_neighbors=sorted))
    return tree


@ALGORITHMS.register("relay")
@dataclass(frozen=True, kw_only=True)
class Relay(Algorithm):
    """RelaySGD: an exact average of all peers' rows, each as old as its way through the tree is long.

    In round r, with N_i the neighbours of i in the tree, m_ij and c_ij what came last from j (0 at first)::

        z_i      = local_K(x_i, r)
        i -> j:    m = p_i z_i + sum_{k in N_i, k != j} m_ik,    c = p_i + sum_{k in N_i, k != j} c_ik
        x_i     <- (p_i z_i + sum_{j in N_i} m_ij) / (p_i + sum_{j in N_i} c_ij)

    the messages sent being made of those of round r - 1, the new x_i of those of round r. After one diameter of rounds
    x_i is the mean of all z_j, that of a peer t links away being t - 1 rounds old. So unlike peers do no harm: for
    K = 1 and plain SGD with a small enough rate its only fixed point is the optimum. The longer the ways, the smaller
    that rate must be.

    p_i: 1, or the peer's clips (``gossip.weighting=clips``). The topology's weights are not used.

    Where a neighbour's message is missing, what came from it before is dropped, counts and all: so nobody is
    counted twice, and the mean is over those whose rows arrive, until the ways are full again. What a dead peer cut
    off goes on as a tree of its own, and meets the others in the final consensus.

    Reference: T. Vogels, L. He, A. Koloskova, T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi, "RelaySum for
    Decentralized Deep Learning on Heterogeneous Data", NeurIPS 2021.
    """

    spanning_tree: bool = False
    """where the graph has cycles, use its breadth-first tree, nothing but an empty message over the other links;
    without it a graph with cycles is refused"""

    own_weights: ClassVar[bool] = True

    @cached_property
    def tree(self) -> nx.Graph:
        """The tree along which sums are relayed: the topology itself, or its breadth-first tree."""
        return spanning_tree(self.context.topology.graph)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raises ConfigError for schedules, directed graphs, and cycles without ``spanning_tree``."""
        if topology.schedule is not None:
            raise ConfigError(f"relay needs one tree for all rounds, and the topology {topology.name!r} is directed or "
                              "changes: take a static undirected graph, such as tree.yaml")
        if not self.spanning_tree and not nx.is_tree(topology.graph):
            raise ConfigError(f"relay needs a tree, and the topology {topology.name!r} has cycles: set "
                              "gossip.parameters.spanning_tree=true to use a tree of its links, or take tree.yaml")
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and relay at Step(round, 0); ``state.edges[i, j]["came"]`` is [m_ij, c_ij], (D + 1,)."""
        at, trained, tree = Step(round, 0), local.train(state, round), self.tree
        own: dict[int, Tensor] = {}
        messages: dict[Edge, Tensor | bytes] = {}
        for b, i in enumerate(mixer.peers):
            p = float(local.clips[b]) if self.weighs_clips else 1.0
            own[i] = torch.cat([p * trained[b], trained.new_tensor([p])])
            for j in mixer.receivers(i, at):
                # Also a link that relays nothing keeps its ends in step.
                messages[i, j] = self._sum(state, own[i], i, j) if tree.has_edge(i, j) else b""
        mixer.post(at, Outbox(edges=messages))
        inbox = mixer.collect(at)
        state.edges = {}
        for i, j, value in zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.values):
            if tree.has_edge(i, j):
                if not isinstance(value, Tensor) or len(value) != trained.shape[1] + 1 or not value[-1] > 0:
                    raise RemoteProtocolError(f"peer {j} sent no sum of {trained.shape[1]} numbers and a count", j)
                state.edges[i, j] = {"came": value}
        sums = torch.stack([self._sum(state, own[i], i) for i in mixer.peers])
        state.rows["x"] = sums[:, :-1] / sums[:, -1:]
        return state

    def _sum(self, state: State, own: Tensor, i: int, but: int | None = None) -> Tensor:
        """Return ``own`` and what came from all neighbours in the tree but one, in ascending order."""
        total = own.clone()
        for k in sorted(self.tree[i]):
            if k != but and (i, k) in state.edges:
                total += state.edges[i, k]["came"]
        return total
