"""What an algorithm is, what it remembers, and what it asks of the local work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import networkx as nx
from torch import Tensor

from p2pser.config import Config
from p2pser.gossip.agreement.consensus import Consensus, no_consensus
from p2pser.gossip.mixer import Edge, Late, Mixer, add_late
from p2pser.topology.spec import Topology


@dataclass
class State:
    """All that an algorithm remembers: checkpointed, resumed and handed over by the same code.

    ``rows["x"]`` are the parameters (B, D); the other rows (B, ·) are the algorithm's and the optimiser's own.
    ``edges`` is what it keeps for each edge (hosted peer, neighbour): tensors that are replaced, not changed in place.
    """

    rows: dict[str, Tensor]
    edges: dict[Edge, dict[str, Tensor]] = field(default_factory=dict)


class Local(Protocol):
    """The local work of the hosted peers. What it draws depends on (seed, peer, round) alone."""

    @property
    def clips(self) -> Sequence[int]:
        """How many clips each hosted peer has, in row order."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """The shapes of the tensors that a row holds, one after the other."""

    @property
    def steps(self) -> int:
        """K: optimiser steps per round."""

    def lr(self, round: int) -> float:
        """The learning rate of a round."""

    def train(
        self,
        state: State,
        round: int,
        *,
        rows: Tensor | None = None,
        correction: Tensor | None = None,
        only: Collection[int] | None = None,
    ) -> Tensor:
        """Take the round's K local steps from ``rows`` (B, D), default ``state.rows["x"]``; return the new (B, D).

        The optimiser's rows in ``state`` are updated in place. ``correction`` (B, D) is added to every gradient.
        ``only``: the places of the rows that train (default: all); nothing changes for the others.
        """

    def gradient(self, rows: Tensor, round: int, step: int = 0) -> Tensor:
        """Return the stochastic gradients (B, D) at ``rows`` (B, D), on the clips of local step ``step`` (0 .. K-1)."""


@dataclass(frozen=True)
class Context:
    """The run that an algorithm is made for. name: of the algorithm, as in ``gossip.algorithm``."""

    name: str
    config: Config
    topology: Topology


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A gossip algorithm, one communication round at a time; immutable, what it remembers is in a ``State``.

    A subclass is a frozen dataclass. Its fields are its hyper-parameters (``gossip.parameters``), each with a default
    and a text below it. ``p2pser.gossip.registry.create`` makes one for a run; what depends on the run's settings and
    topology is derived from ``context``.
    """

    context: Context = field(repr=False, compare=False, metadata={"internal": True})

    asynchronous: ClassVar[bool] = False
    """Whether peers exchange messages without common rounds (``p2pser.gossip.asynchronous``)."""
    overlaps: ClassVar[bool] = False
    """Whether the exchange of a round runs beside its local steps, so that the longer of the two takes the time."""
    own_weights: ClassVar[bool] = False
    """Whether it weighs by clips itself where ``gossip.weighting=clips``: then W does not."""
    served: ClassVar[bool] = False
    """Whether a hub averages for all (server federated learning): then the topology must have one, else must not."""
    parts: ClassVar[bool] = False
    """Whether it does nothing with rows but mix them, so that peers may exchange a part of theirs
    (``p2pser.gossip.partial``)."""
    joins: ClassVar[bool] = False
    """Whether a peer may come into a run that goes on, with another's parameters and nothing else: no row of the
    algorithm carries mass, and no edge remembers what went over it."""
    consensus: ClassVar[bool] = True
    """Whether the models are averaged plainly when training ends; False: ``finish`` says how it ends."""
    boosts: ClassVar[bool] = False
    """Whether its models are ensembles of trees (``model.name=xgb``), and no parameters that have a mean."""

    @property
    def name(self) -> str:
        """The name by which it was chosen (``gossip.algorithm``)."""
        return self.context.name

    @property
    def slots(self) -> int:
        """Exchanges per round, at Step(round, 0 .. slots-1)."""
        return 1

    @property
    def weighs_clips(self) -> bool:
        """Whether peers count in proportion to their clips (``gossip.weighting=clips``)."""
        return self.context.config.gossip.weighting == "clips"

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Return warnings about a run; it changes nothing.

        Raises ConfigError where the algorithm provably diverges or has no meaning, naming the condition.
        """
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add to ``state`` what is missing of the algorithm's own rows and edges (nothing after a resume)."""

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Run round ``round``: local work and exchanges."""
        raise TypeError(f"{type(self).__name__} has no round")

    def model(self, state: State) -> Tensor:
        """Return the parameters (B, D) that are evaluated and that the final consensus averages."""
        return state.rows["x"]

    def mean(self, rows: Tensor, share: Tensor) -> Tensor:
        """Return the model (D,) that rows (B, D) would come to if all agreed now: their mean by ``share`` (B,)."""
        return share @ rows

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add the flows of rows that came after the last round; ``peers`` are the hosted ones, in row order."""
        state.rows["x"] = add_late(state.rows["x"], late, peers)

    def ends(self, peer: int, lost: Collection[int]) -> str | None:
        """Return why ``peer`` cannot go on without the neighbours ``lost``; None: gossip goes on with who is left."""
        return None

    def finish(self, state: State, mixer: Mixer, round: int, graph: nx.Graph, dead: tuple[int, ...] = ()) -> Consensus:
        """End training where ``consensus`` is False, with exchanges in ``round`` and later ones: here without any, each
        peer keeps its own model. dead: who cannot be reached.
        """
        return no_consensus(self.model(state), dead)
