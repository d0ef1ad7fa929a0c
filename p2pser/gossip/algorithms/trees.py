"""Gossip of trees: in lock-step all peers grow tree sets on one shared ensemble, and each tree set reaches all."""

from __future__ import annotations

import math
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
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.forest import Forest, reconcile
from p2pser.gossip.mixer import Edge, Mixer, Outbox, Step
from p2pser.models.families.xgb import BoostedTrees
from p2pser.topology.spec import Topology
from p2pser.topology.summary import diameter


@ALGORITHMS.register("trees")
@dataclass(frozen=True, kw_only=True)
class Trees(Algorithm):
    """Boosting between peers: a grow-only set of tree sets, by (round, peer), that floods along the graph.

    In round r, with F the tree sets that a peer holds, of all peers and rounds::

        T_ri  = a tree a class, grown by XGBoost on the clips of i at the margins F(x), times eta min(1, gain / N)
        F    <- F + {T_ri}, then in each of d exchanges:  F <- F + what the neighbours hold

    d is the graph's diameter, so that at a round's end all hold the same: everybody grows the next trees on one and the
    same ensemble. No message carries a tree set that its receiver is known to hold. Each names the places that its
    sender holds, so that what was lost is sent again two exchanges later. With fewer exchanges a round, or longer ways
    round the dead, trees are grown on what has come, and are the same everywhere a little later.

    The margins begin at 0, a uniform guess, which needs no exchange. Sums over trees are in the order of (round, peer),
    so that equal sets are equal predictions, to the last bit. A dead peer's trees stop; N counts it still. In the end
    the living flood which places they hold, then what anybody lacks: nothing is averaged.

    A hostile neighbour can send trees that spoil the ensemble, in anybody's name, but nothing that is not a tree.

    Reference for the trees: T. Chen, C. Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.
    """

    exchanges: int = 0
    """exchanges a round; 0: the graph's diameter, so that all begin every round with the same trees"""

    consensus: ClassVar[bool] = False
    boosts: ClassVar[bool] = True

    @cached_property
    def slots(self) -> int:
        """``exchanges``, or the graph's diameter."""
        return self.exchanges or max(1, diameter(self.context.topology.graph))

    @property
    def places(self) -> int:
        """How many tree sets a run can have: one a round and peer."""
        return self.context.config.training.rounds * self.context.topology.size

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raises ConfigError for exchanges below 0, schedules without any, one-way links and
        weighting by clips.
        """
        if self.exchanges < 0:
            raise ConfigError(f"gossip.parameters.exchanges = {self.exchanges} must be 0 or more")
        if topology.directed:
            raise ConfigError("trees must hear from each neighbour what it holds, and links of the topology "
                              f"{topology.name!r} go one way: take an undirected graph")
        if topology.schedule is not None and not self.exchanges:
            raise ConfigError(f"trees takes a diameter of exchanges a round, and the topology {topology.name!r} "
                              "changes: set gossip.parameters.exchanges, or take a static graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError("trees counts every peer's trees the same: set gossip.weighting=uniform")
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``held`` (B, rounds * N) uint8: which places, round * N + peer, are filled."""
        state.rows.setdefault("held", torch.zeros(len(mixer.peers), self.places, dtype=torch.uint8))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Grow the tree sets of ``round``, and spread them at Step(round, 0) to Step(round, d - 1)."""
        state.rows |= {"x": local.train(state, round), "held": state.rows["held"].clone()}
        for b, i in enumerate(mixer.peers):
            state.rows["held"][b, round * mixer.size + i] = int(local.clips[b] > 0)
        forests = self._forests(state, mixer)
        for slot in range(self.slots):
            at = Step(round, slot)
            messages: dict[Edge, Tensor | bytes] = {}
            for i, forest in forests.items():
                for j in mixer.receivers(i, at):
                    edge = state.edges.get((i, j)) or dict.fromkeys(("known", "sent"), torch.zeros(self.places).bool())
                    # Of what was sent a moment ago no word can be back yet.
                    new = forest.held.astype(bool) & ~(edge["known"] | edge["sent"]).numpy()
                    state.edges[i, j] = {**edge, "sent": torch.from_numpy(new)}
                    messages[i, j] = forest.message(new)
            mixer.post(at, Outbox(edges=messages))
            inbox = mixer.collect(at)
            for i, j, value in zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.values):
                held = torch.from_numpy(forests[i].take(value, j, (round + 1) * mixer.size))
                state.edges[i, j] = {"sent": torch.zeros_like(held), **state.edges.get((i, j), {}), "known": held}
        return state

    def mean(self, rows: Tensor, share: Tensor) -> Tensor:
        """Return the union of the tree sets in rows (B, D)."""
        sets = rows.view(len(rows), self.places, -1)
        first = (sets != 0).any(2).int().argmax(0)
        return sets[first, torch.arange(self.places)].reshape(-1)

    def finish(self, state: State, mixer: Mixer, round: int, graph: nx.Graph, dead: tuple[int, ...] = ()) -> Consensus:
        """Give all who are left what anybody of them holds."""
        state.rows = {name: rows.clone() for name, rows in state.rows.items()}
        exchanges, equal = reconcile(mixer, round, self._forests(state, mixer), graph, dead)
        return Consensus(state.rows["x"], 0.0 if equal else math.nan, exchanges, dead, equal)

    def _forests(self, state: State, mixer: Mixer) -> dict[int, Forest]:
        """Views of the hosted peers' rows."""
        depth = BoostedTrees.of(self.context.config.model.parameters).depth
        return {i: Forest.of(state.rows["held"][b], state.rows["x"][b], depth) for b, i in enumerate(mixer.peers)}
