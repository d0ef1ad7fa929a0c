"""RelaySGD: sums of rows are relayed along a tree, so that each row reaches each peer once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import networkx as nx
import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology
from p2pser.wire.codec import LARGEST, Received, magnitude, plausible


def spanning_tree(graph: nx.Graph) -> nx.Graph:
    """Return the breadth-first tree from a centre of ``graph``: the peer of least eccentricity, then of least id.

    Neighbours are taken in ascending order: all peers build the same.
    """
    linked = graph.subgraph(max(nx.connected_components(graph), key=len))  # a retired peer has no link
    eccentricity = nx.eccentricity(linked)
    root = min(linked, key=lambda i: (eccentricity[i], i))
    tree = nx.empty_graph(len(graph))
    tree.add_edges_from(nx.bfs_edges(graph, root, sort_neighbors=sorted))
    return tree


@ALGORITHMS.register("relay")
@dataclass(frozen=True, kw_only=True)
class Relay(Algorithm):
    """RelaySGD: an exact average of all peers' rows, each as old as its path in the tree is long.

    In round r, with N_i the neighbours of i in the tree, m_ij and c_ij the last message from j (0 at first)::

        z_i      = local_K(x_i, r)
        i -> j:    m = p_i z_i + sum_{k in N_i, k != j} m_ik,    c = p_i + sum_{k in N_i, k != j} c_ik
        x_i     <- (p_i z_i + sum_{j in N_i} m_ij) / (p_i + sum_{j in N_i} c_ij)

    Messages sent in round r contain messages received in round r - 1, the new x_i those received in round r. After one
    diameter of rounds x_i is the mean of all z_j, where the row of a peer t edges away is t - 1 rounds old. So the
    fixed point does not depend on how heterogeneous the peers are: for K = 1 and plain SGD with a small enough rate it
    is the optimum. The longer the paths, the smaller that rate must be.

    p_i: 1, or the peer's clips (``gossip.weighting=clips``). The topology's weights are not used.

    Where a neighbour's message is missing, its previous one is dropped with its count: so no peer is counted twice, and
    the mean is over the peers whose rows arrive, until all paths are filled again. The parts of a tree that a dead peer
    separates go on as trees of their own.

    Reference: T. Vogels, L. He, A. Koloskova, T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi, "RelaySum for
    Decentralized Deep Learning on Heterogeneous Data", NeurIPS 2021.
    """

    spanning_tree: bool = False
    """use the breadth-first tree of a graph with cycles, with empty messages over the other edges; otherwise such a
    graph is refused"""

    own_weights: ClassVar[bool] = True

    @cached_property
    def tree(self) -> nx.Graph:
        """The tree along which sums are relayed: the graph itself, or its breadth-first tree."""
        return spanning_tree(self.context.topology.graph)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raise ConfigError for schedules, directed graphs, and cycles without ``spanning_tree``."""
        if topology.schedule is not None:
            raise ConfigError(f"relay needs one tree for all rounds, and the topology {topology.name!r} is directed or "
                              "changes: take a static undirected graph, such as tree.yaml")
        if not self.spanning_tree and not nx.is_forest(topology.graph):
            raise ConfigError(f"relay needs a tree, and the topology {topology.name!r} has cycles: set "
                              "gossip.parameters.spanning_tree=true to use a tree of its edges, or take tree.yaml")
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and relay at Step(round, 0); ``state.edges[i, j]["came"]`` is [m_ij, c_ij], (D + 1,)."""
        at, trained, tree = Step(round, 0), local.train(state, round), self.tree
        own: dict[int, Tensor] = {}
        messages: dict[Edge, Tensor | bytes] = {}
        for b, i in enumerate(mixer.peers):
            p = max(1.0, local.clips[b]) if self.weighs_clips else 1.0
            own[i] = torch.cat([p * trained[b], trained.new_tensor([p])])
            for j in mixer.receivers(i, at):
                # An edge outside the tree gets an empty message, so that its ends stay in step.
                messages[i, j] = self._sum(state, own[i], i, j) if tree.has_edge(i, j) else b""
        mixer.post(at, Outbox(edges=messages))
        limits = {i: plausible(magnitude(trained[b])) for b, i in enumerate(mixer.peers)}
        most = mixer.size * (LARGEST if self.weighs_clips else 1.0)

        def read(edge: Edge, message: Received) -> Tensor | None:
            """Return a sum and its count; None over an edge outside the tree."""
            if not tree.has_edge(*edge):
                message.octets(0)
                return None
            value = message.row(trained.dtype, trained.shape[1] + 1)
            count = float(value[-1])
            if not 1 <= count <= most or not magnitude(value[:-1]) <= limits[edge[0]] * count:
                raise message.refused(f"a sum of {count:g} rows that is not plausible here")
            return value

        inbox = mixer.collect_messages(at, read)
        state.edges = {edge: {"came": value} for edge, value in inbox.by_edge() if value is not None}
        sums = torch.stack([self._sum(state, own[i], i) for i in mixer.peers])
        state.rows["x"] = sums[:, :-1] / sums[:, -1:]
        return state

    def _sum(self, state: State, own: Tensor, i: int, but: int | None = None) -> Tensor:
        """Return the sum of ``own`` and the messages of all neighbours in the tree but one, in ascending order."""
        total = own.clone()
        for k in sorted(self.tree[i]):
            if k != but and (i, k) in state.edges:
                total += state.edges[i, k]["came"]
        return total
