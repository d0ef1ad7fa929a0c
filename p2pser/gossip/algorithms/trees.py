"""Gossip of trees: all peers grow trees on one shared ensemble, round by round, and flood them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
from p2pser.gossip.forest import Forest, Sets, reconcile
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology
from p2pser.graph.summary import diameter
from p2pser.models.families.xgb import BoostedTrees
from p2pser.wire.codec import Received


@ALGORITHMS.register("trees")
@dataclass(frozen=True, kw_only=True)
class Trees(Algorithm):
    """Boosting between peers: a grow-only set of tree sets, by (round, peer), that floods along the graph.

    In round r, with F the tree sets that a peer holds, of all peers and rounds::

        T_ri  = a tree a class, grown by XGBoost on the clips of i at the margins F(x), times eta min(1, gain / N)
        F    <- F + {T_ri}, then in each of d exchanges:  F <- F + the tree sets of the neighbours

    d is the graph's diameter, so that at a round's end all peers hold the same tree sets and grow the next trees on the
    same ensemble. A message contains no tree set that its receiver is known to hold. It names the places (round, peer)
    that its sender holds, so that a lost tree set is sent again two exchanges later. With fewer exchanges a round, or
    longer paths around dead peers, trees are grown on the tree sets received so far, and arrive everywhere later.

    The margins begin at 0, a uniform guess, which needs no exchange. Sums over trees are in the order of (round, peer),
    so that equal sets have equal predictions, to the last bit. A dead peer grows no more trees, but still counts in N.
    At the end the living peers flood which places they hold, then the tree sets that a peer lacks; no average is taken.

    A hostile neighbour can send trees that spoil the ensemble, in the name of any peer, but only trees.

    Reference for the trees: T. Chen, C. Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.
    """

    exchanges: int = 0
    """exchanges a round; 0: the graph's diameter, so that all peers begin every round with the same trees"""

    consensus: ClassVar[bool] = False
    one_model: ClassVar[bool] = True
    boosts: ClassVar[bool] = True

    @cached_property
    def slots(self) -> int:
        """``exchanges``, or the graph's diameter."""
        return self.exchanges or max(1, diameter(self.context.topology.graph))

    @property
    def places(self) -> int:
        """The number of places in a run: one for each round and peer."""
        return self.context.config.training.rounds * self.context.topology.size

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse exchanges below 0, schedules without a number of exchanges, directed graphs, and clip weights."""
        if self.exchanges < 0:
            raise ConfigError(f"gossip.parameters.exchanges = {self.exchanges} must be 0 or more")
        if topology.directed:
            raise ConfigError("trees needs messages from each neighbour in both directions, and the topology "
                              f"{topology.name!r} is directed: take an undirected graph")
        if topology.schedule is not None and not self.exchanges:
            raise ConfigError(f"trees takes as many exchanges a round as the diameter, and the topology "
                              f"{topology.name!r} changes: set gossip.parameters.exchanges, or take a static graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError("trees weights every peer's trees equally: set gossip.weighting=uniform")
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``held`` (B, rounds * N) uint8, 1 where the place round * N + peer is filled."""
        self._resize(state)
        state.rows.setdefault("held", torch.zeros(len(mixer.peers), self.places, dtype=torch.uint8))

    def _resize(self, state: State) -> None:
        """Append empty places where a run goes on with more rounds; take some away where it goes on with fewer."""
        before = state.rows["held"].shape[1] if "held" in state.rows else self.places
        if (more := self.places - before) == 0:
            return

        def resized(places: Tensor, each: int = 1) -> Tensor:
            return torch.nn.functional.pad(places, (0, more * each))

        state.rows |= {"held": resized(state.rows["held"]),
                       "x": resized(state.rows["x"], state.rows["x"].shape[1] // before)}
        state.edges = {edge: {name: resized(places) for name, places in kept.items()}
                       for edge, kept in state.edges.items()}

    def on_join(self, state: State, mixer: Mixer) -> None:
        """Take the tree sets of a neighbour's row as held."""
        self._resize(state)
        sets = state.rows["x"].view(len(mixer.peers), self.places, -1)
        state.rows["held"] = (sets != 0).any(2).to(torch.uint8)

    def on_edge_reset(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Forget which tree sets the neighbour held."""
        state.edges = {other: kept for other, kept in state.edges.items() if other != edge}

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Grow the tree sets of ``round``, and spread them at Step(round, 0) to Step(round, d - 1)."""
        state.rows |= {"x": local.train(state, round), "held": state.rows["held"].clone()}
        for b, i in enumerate(mixer.peers):
            state.rows["held"][b, round * mixer.size + i] = int(local.clips[b] > 0)
        forests = self._forests(state, mixer)

        def read(edge: Edge, message: Received) -> Sets:
            forest = forests[edge[0]]
            return forest.read(message.octets(forest.most), edge[1], until=(round + 1) * mixer.size)

        for slot in range(self.slots):
            at = Step(round, slot)
            messages: dict[Edge, Tensor | bytes] = {}
            for i, forest in forests.items():
                for j in mixer.receivers(i, at):
                    edge = state.edges.get((i, j)) or dict.fromkeys(("known", "sent"), torch.zeros(self.places).bool())
                    # The neighbour's next message cannot yet name the tree sets sent in the previous exchange.
                    new = forest.held.astype(bool) & ~(edge["known"] | edge["sent"]).numpy()
                    state.edges[i, j] = {**edge, "sent": torch.from_numpy(new)}
                    messages[i, j] = forest.message(new)
            mixer.post(at, Outbox(edges=messages))
            inbox = mixer.collect_messages(at, read)
            for (i, j), came in inbox.by_edge():
                forests[i].take(came)
                held = torch.from_numpy(came.known)
                state.edges[i, j] = {"sent": torch.zeros_like(held), **state.edges.get((i, j), {}), "known": held}
        return state

    def mean(self, rows: Tensor, share: Tensor) -> Tensor:
        """Return the union of the tree sets in rows (B, D)."""
        sets = rows.view(len(rows), self.places, -1)
        first = (sets != 0).any(2).int().argmax(0)
        return sets[first, torch.arange(self.places)].reshape(-1)

    def finish(self, state: State, mixer: Mixer, round: int, graph: nx.Graph, dead: tuple[int, ...] = ()) -> Consensus:
        """Give all reachable peers all of their tree sets."""
        state.rows = {name: rows.clone() for name, rows in state.rows.items()}
        exchanges, equal = reconcile(mixer, round, self._forests(state, mixer), graph, dead)
        return Consensus(state.rows["x"], 0.0 if equal else math.nan, exchanges, dead, equal)

    def _forests(self, state: State, mixer: Mixer) -> dict[int, Forest]:
        """Return views of the hosted peers' rows."""
        depth = BoostedTrees.of(self.context.config.model.parameters).depth
        return {i: Forest.of(state.rows["held"][b], state.rows["x"][b], depth) for b, i in enumerate(mixer.peers)}
