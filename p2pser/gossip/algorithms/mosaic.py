"""Mosaic learning: each fragment of the model goes to another neighbour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.both_ends import mark
from p2pser.gossip.mixer import Mixer, Step
from p2pser.gossip.pairs import average_parts
from p2pser.gossip.reading import Edge
from p2pser.graph.matchings import matchings
from p2pser.graph.spec import Topology


@ALGORITHMS.register("mosaic")
@dataclass(frozen=True, kw_only=True)
class Mosaic(Algorithm):
    """Mosaic learning: local steps, then exchanges in which each fragment of a row goes to another neighbour.

    The graph's edges are in C matchings (``graph.matchings``) and the entries of a row in C fragments, entry e in
    fragment e mod C. In exchange t of the run each fragment f is averaged in pairs: i with its partner j in matching
    (t + f) mod C; without a partner it stays::

        z_i    =  x_i;  K times:  z_i <- z_i - lr (grad f_i(z_i) + momentum m_i)
        z_i^f <-  (z_i^f + z_j^f) / 2                    in each of the round's exchanges, for all f
        m_i   <-  decay m_i + (1 - decay) (x_i - z_i) / (K lr),    x_i <- z_i

    An exchange sends one row at most, a part of it over every link. The matchings in turn bring peers together sooner
    than Metropolis weights at equal bytes: on a ring of 16 two exchanges (two rows) shrink a disagreement by
    cos(pi / 8)^2 = .85 or more, ``dfedavg`` by .95; on a hypercube rows agree after one exchange a dimension. The paper
    draws the neighbours of each fragment (here in turn) and has no momentum: m is that of ``quasi-global-momentum``.

    Assumes: a static undirected graph; equal weights of peers. Conserved: the mean of the rows. A flow that one end
    alone applied is taken back (``both_ends``).

    Reference: S. Biswas et al., "Mosaic Learning: A Framework for Decentralized Learning with Model Fragmentation",
    arXiv 2602.04352, 2026 (each fragment has a gossip matrix of its own).
    """

    requires = (requirements.static_symmetric, requirements.uniform_weighting)

    exchanges: int = 1
    """exchanges a round, 1 or more, of one row at most"""
    momentum: float = 0.0
    """factor of the buffer that is added to each gradient, in [0, 1); 0: none, and local momentum is allowed"""
    decay: float = 0.5
    """factor of the buffer after a round, in [0, 1)"""

    def __post_init__(self) -> None:
        if self.exchanges < 1:
            raise ConfigError(f"gossip.parameters.exchanges = {self.exchanges} must be 1 or more")
        requirements.below_one(momentum=self.momentum, decay=self.decay)

    @property
    def slots(self) -> int:
        """``exchanges``."""
        return self.exchanges

    @cached_property
    def matching(self) -> dict[Edge, int]:
        """The matching of each edge, both ways."""
        return matchings(self.context.topology.graph)

    @cached_property
    def fragments(self) -> int:
        """C, the number of matchings, and of fragments."""
        return 1 + max(self.matching.values(), default=0)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse schedules and clip weights, and with ``momentum`` local momentum and AdamW."""
        super().validate(config, topology)
        if self.momentum:
            requirements.plain_sgd("mosaic with momentum", config, topology)
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add marks without knowledge to every edge; start from an empty buffer."""
        mark(state, mixer)
        if self.momentum:
            state.rows.setdefault("buffer", torch.zeros_like(state.rows["x"]))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps, average the fragments at Step(round, 0 .. exchanges-1), and update the buffer."""
        x, buffer = state.rows["x"], state.rows.get("buffer")
        z = local.train(state, round, correction=None if buffer is None else self.momentum * buffer).clone()
        for slot in range(self.slots):
            average_parts(state, mixer, z, Step(round, slot), round * self.slots + slot, self.fragment)
        if buffer is not None:
            moved = (x - z) / (local.steps * local.lr(round))
            state.rows["buffer"] = self.decay * buffer + (1 - self.decay) * moved
        state.rows["x"] = z
        return state

    def fragment(self, edge: Edge, t: int) -> slice:
        """Return the entries of a row that cross an edge in exchange ``t``."""
        return slice((self.matching[edge] - t) % self.fragments, None, self.fragments)
