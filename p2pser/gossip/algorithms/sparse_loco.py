"""SparseLoCo over a tree: pseudo-gradients of local steps as a few numbers of two bits, with error feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import requirements, shared_rows
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.algorithms.relay import spanning_tree
from p2pser.gossip.mixer import Mixer, Step
from p2pser.gossip.reading import Edge
from p2pser.wire.sparse import TopK


@ALGORITHMS.register("sparse-loco")
@dataclass(frozen=True, kw_only=True)
class SparseLoCo(Algorithm):
    """Local steps, whose changes spread over a tree as the largest numbers in 2 bits each, with error feedback.

    The two ends of each tree edge share a row k_ij, the initial one at first. In round r, with Q the compressor::

        x_i      <-  x_i + rate (local_K(x_i, r) - x_i) / N
        i -> j:      q_ij = Q(x_i - k_ij)
        x_i      <-  x_i + sum_j q_ji,         k_ij <- k_ij + q_ij + q_ji

    x_i - k_ij is what i has not yet sent of its own changes and of those that it received: what Q leaves out stays
    there, the error feedback. So every change reaches every peer once, and the rows tend to the initial row plus rate
    times the sum of the peers' mean changes: those of SparseLoCo, with a tree in its server's place (as in RelaySGD),
    feedback on each edge, and no decay. With Q = 1 a change is as old as its path is long. Rows differ by what is on
    its way: unlike peers end O(lr) from the optimum.

    Assumes: a static undirected graph, of which a breadth-first tree is used; equal weights of peers. A lost message is
    taken back (``shared_rows``). Where a peer begins afresh, both ends meet halfway. Parts of the tree that a dead peer
    separates go on apart until the final consensus, over all edges.

    References: A. Sarfi, B. Therien, J. Lidin, E. Belilovsky, "Communication Efficient LLM Pre-training with
    SparseLoCo", arXiv 2508.15706, 2025 (Algorithm 1: top-k, 2 bits, error feedback); T. Vogels et al., "RelaySum for
    Decentralized Deep Learning on Heterogeneous Data", NeurIPS 2021 (the tree).
    """

    requires = (requirements.static_symmetric, requirements.uniform_weighting)

    share: float = 0.0125
    """share of the numbers that are sent over each edge, in (0, 1]"""
    bits: int = 2
    """bits of each number: 2, 8, or 32 (unchanged)"""
    rate: float = 1.0
    """factor of the mean change, above 0"""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ConfigError(f"gossip.parameters.rate = {self.rate:g} must be above 0")
        _ = self.form  # raises for values out of range

    @cached_property
    def form(self) -> TopK:
        """The compressor."""
        return TopK(self.share, bits=self.bits)

    @cached_property
    def tree(self) -> nx.Graph:
        """The tree over whose edges changes spread."""
        return spanning_tree(self.context.topology.graph)

    def begin(self, state: State, mixer: Mixer) -> None:
        """Share the initial row over every tree edge."""
        for b, i in enumerate(mixer.peers):
            for j in self.tree[i]:
                state.edges.setdefault((i, j), shared_rows.share(state.rows["x"][b]))

    def on_join(self, state: State, mixer: Mixer) -> None:
        """Share nothing yet."""
        state.edges |= {(i, j): shared_rows.apart() for i in mixer.peers for j in self.tree[i]}

    def on_edge_reset(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Share nothing any more."""
        if edge in state.edges:
            state.edges = {**state.edges, edge: shared_rows.apart()}

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and exchange at Step(round, 0)."""
        start = state.rows["x"]
        x = start + (self.rate / mixer.size) * (local.train(state, round) - start)
        state.rows["x"] = shared_rows.exchange(state, mixer, x, Step(round, 0), round, self.form)
        return state
