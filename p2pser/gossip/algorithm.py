"""The base class of gossip algorithms, their memory, and their interface to the local work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import networkx as nx
from torch import Tensor

from p2pser.config import Config
from p2pser.gossip.agreement.consensus import Consensus, no_consensus
from p2pser.gossip.agreement.masks import FixedPoint
from p2pser.gossip.mixer import Late, Mixer, add_late
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology


@dataclass
class State:
    """The whole memory of an algorithm: what checkpoints contain and joining peers receive.

    ``rows["x"]`` are the parameters (B, D); the other rows (B, ·) belong to the algorithm and the optimiser.
    ``edges`` has tensors for each edge (hosted peer, neighbour), which are replaced, never changed in place.
    ``breakable``: edges may break in this run, so that algorithms keep what they need to go on without them.
    """

    rows: dict[str, Tensor]
    edges: dict[Edge, dict[str, Tensor]] = field(default_factory=dict)
    breakable: bool = False


class Local(Protocol):
    """The local work of the hosted peers. Its random draws depend on (seed, peer, round) alone."""

    @property
    def clips(self) -> Sequence[int]:
        """The number of clips of each hosted peer, in row order."""

    @property
    def units(self) -> Sequence[int]:
        """The number of units of each hosted peer: what ``privacy.unit`` names."""

    def update(self, b: int, row: Tensor, round: int, unit: int) -> Tensor:
        """Return what the round's K local steps of one unit of the ``b``-th hosted peer add to ``row`` (D,).

        The steps are on the unit's clips alone, with a fresh optimiser.
        """

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """The shapes of the tensors that are concatenated in a row."""

    @property
    def steps(self) -> int:
        """K, the optimiser steps of a round."""

    def lr(self, round: int) -> float:
        """Return the learning rate of a round."""

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
        ``only``: indices of the rows that train (default: all); the other rows do not change.
        """

    def gradient(self, rows: Tensor, round: int, step: int = 0) -> Tensor:
        """Return the stochastic gradients (B, D) at ``rows`` (B, D), on the clips of local step ``step`` (0 .. K-1)."""


@dataclass(frozen=True)
class Context:
    """The run for which an algorithm is made. name: the algorithm's, as in ``gossip.algorithm``."""

    name: str
    config: Config
    topology: Topology


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A gossip algorithm: one communication round at a time. It is immutable; its memory is a ``State``.

    A subclass is a frozen dataclass. Its fields are its hyper-parameters (``gossip.parameters``), each with a default
    and a description below it. ``p2pser.gossip.registry.create`` makes the algorithm of a run; values that depend on
    the run's settings and topology are derived from ``context``.
    """

    context: Context = field(repr=False, compare=False, metadata={"internal": True})

    asynchronous: ClassVar[bool] = False
    """Whether peers exchange messages without common rounds (``p2pser.gossip.asynchronous``)."""
    overlaps: ClassVar[bool] = False
    """Whether the exchange of a round runs during its local steps: a round takes as long as the longer of the two."""
    own_weights: ClassVar[bool] = False
    """Whether the algorithm itself weights peers by clips where ``gossip.weighting=clips``; then W does not."""
    served: ClassVar[bool] = False
    """Whether a hub averages (server federated learning): the topology must have a hub, for others it must not."""
    parts: ClassVar[bool] = False
    """Whether the algorithm only mixes rows, so that peers may exchange parts of rows (``p2pser.gossip.partial``)."""
    consensus: ClassVar[bool] = True
    """Whether a final consensus averages the models; False: ``finish`` ends the run."""
    one_model: ClassVar[bool] = False
    """Whether ``finish`` gives all peers the same model."""
    sums: ClassVar[bool] = False
    """Whether it sums under masks: peers need secrets in pairs (``Mixer.secrets``)."""
    boosts: ClassVar[bool] = False
    """Whether the models are ensembles of trees (``model.name=xgb``) instead of parameters that have a mean."""

    requires: ClassVar[tuple[Callable[[str, Config, Topology], None], ...]] = ()
    """What it requires of a run, in this order (``p2pser.gossip.requirements``); ``validate`` raises where that is not
    so.
    """

    @property
    def name(self) -> str:
        """The algorithm's name, as in ``gossip.algorithm``."""
        return self.context.name

    @property
    def numbers(self) -> FixedPoint | None:
        """How sums under masks write numbers; None where the algorithm makes none."""
        return None

    @property
    def slots(self) -> int:
        """Exchanges per round, at Step(round, 0 .. slots-1)."""
        return 1

    @property
    def weighs_clips(self) -> bool:
        """Whether peers are weighted by their numbers of clips (``gossip.weighting=clips``)."""
        return self.context.config.gossip.weighting == "clips"

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Return warnings about a run, without any effect on the algorithm.

        Raises ConfigError, naming the condition, where the algorithm provably diverges or has no meaning.
        """
        for requirement in self.requires:
            requirement(self.name, config, topology)
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add the algorithm's rows and edges that ``state`` lacks (none after a resume)."""

    def on_join(self, state: State, mixer: Mixer) -> None:
        """Make what the hosted peers lack, which join a run under way with a neighbour's parameters ``x`` alone."""
        self.begin(state, mixer)

    def on_edge_broken(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Take out of the state what depends on the other end of ``edge``; called at both ends, between rounds.

        The neighbour is lost, or was left behind in rounds that the other end took without it; it may come back with
        its memory. peers: the hosted peers, in row order.
        """

    def on_edge_reset(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Forget the memory of ``edge`` that its other end, which begins afresh, does not have; called between rounds.

        ``on_edge_broken`` has been called before.
        """

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Run round ``round``, local work and exchanges, and return the state after it."""
        raise TypeError(f"{type(self).__name__} has no round")

    def fragment(self, edge: Edge, t: int) -> slice | None:
        """Return the entries of a row that cross ``edge`` in exchange ``t`` = round * slots + slot; None: rows are sent
        whole.
        """
        return None

    def ended(self, mixer: Mixer, round: int) -> bool:
        """Whether training ends before ``round``, though it is not the last one."""
        return False

    def budget_report(self, mixer: Mixer) -> Mapping[str, Any] | None:
        """Return what the hosted peers' sums have revealed (``agreement.budget``): of several the worst; None where
        there is no budget.
        """
        return None

    def model(self, state: State) -> Tensor:
        """Return the parameters (B, D) that are evaluated and that the final consensus averages."""
        return state.rows["x"]

    def mean(self, rows: Tensor, share: Tensor) -> Tensor:
        """Return the model (D,) on which rows (B, D) would agree now: their mean weighted by ``share`` (B,)."""
        return share @ rows

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add the flows of rows that arrived after the last round; ``peers``: the hosted peers, in row order.

        Messages by edge are never late: an algorithm that posts no rows has none to settle.
        """
        state.rows["x"] = add_late(state.rows["x"], late, peers)

    def ends(self, peer: int, lost: Collection[int]) -> str | None:
        """Return why ``peer`` cannot go on without the neighbours ``lost``; None where gossip goes on."""
        return None

    def finish(self, state: State, mixer: Mixer, round: int, graph: nx.Graph, dead: tuple[int, ...] = ()) -> Consensus:
        """End training where ``consensus`` is False, with exchanges from ``round`` on; by default each peer keeps its
        own model without an exchange. dead: the unreachable peers.
        """
        return no_consensus(self.model(state), dead)
