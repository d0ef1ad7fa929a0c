"""The built-in kinds of schedules: graphs that change with each exchange, so that few messages reach consensus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np

from p2pser.base import seeding
from p2pser.graph import base_k
from p2pser.graph.graph_kinds import hops, power_of_two
from p2pser.graph.kind import register_schedule
from p2pser.graph.mixing import by_hand
from p2pser.graph.schedule import Computed, Stochastic
from p2pser.graph.sparse import Index, Sparse, links


def _halves(size: int, linked: Sequence[tuple[Index, Index]]) -> Sparse:
    """Return W with the weight 1/2 of peers ``source`` at peers ``to``, for each (to, source)."""
    none = np.zeros(0, dtype=np.int64)
    to, source = (np.concatenate([none, *(pair[end] for pair in linked)]) for end in (0, 1))
    return Sparse.of(size, to, source, np.full(len(to), 0.5))


@register_schedule("one-peer-exponential")
@dataclass(frozen=True)
class OnePeerExponential(Computed):
    """At exchange t, peer i receives from i - 2^(t mod ceil(log2 N)) alone: W = 1/2, 1/2.

    Ying et al. 2021, "Exponential graph is provably efficient for decentralized deep training". Doubly
    stochastic; consensus in log2 N exchanges where N is a power of two.
    """

    @property
    def period(self) -> int:
        """ceil(log2 N) exchanges, at least 1."""
        return max(1, len(hops(self.size)))

    @property
    def directed(self) -> bool:
        """From three peers on: a peer sends to one peer and receives from another."""
        return self.size > 2

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        each = np.arange(self.size)
        return _halves(self.size, [(each, (each - hop) % self.size) for hop in hops(self.size)[t:t + 1]])


@register_schedule("one-peer-hypercube", fits=power_of_two, needs="a power of two of peers")
@dataclass(frozen=True)
class OnePeerHypercube(Computed):
    """At exchange t, peers whose ids differ in bit t mod log2 N average: consensus in log2 N exchanges.

    The one-peer form of the hypercube (Shi et al. 2016, "Finite-time convergent gossiping"); N a power of two.
    """

    @property
    def period(self) -> int:
        """log2 N exchanges, at least 1."""
        return max(1, len(hops(self.size)))

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        each = np.arange(self.size)
        return _halves(self.size, [(each, each ^ bit) for bit in hops(self.size)[t:t + 1]])


def _base_fits(peers: int, k: int = 1) -> bool:
    return peers > k


@register_schedule("base", fits=_base_fits, needs="more peers than k")
@dataclass(frozen=True)
class Base(Computed):
    """The Base-(k+1) graph: consensus for any N in at most 2 log_{k+1}(N) + 2 exchanges, k neighbours at most."""

    k: int = 1

    @property
    def period(self) -> int:
        """The number of exchanges to consensus."""
        return len(base_k.exchanges(self.size, self.k))

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        links = base_k.exchanges(self.size, self.k)[t]
        u, v = links[:, 0].astype(np.int64), links[:, 1].astype(np.int64)
        return Sparse.of(self.size, np.concatenate([u, v]), np.concatenate([v, u]), np.tile(links[:, 2], 2))


@dataclass(frozen=True)
class Random(Computed):
    """The base class of schedules that are drawn for each exchange, from (seed, t)."""

    seed: int

    @property
    def period(self) -> None:
        """It never repeats."""
        return None


def shuffled(size: int, seed: int, t: int, peer: int = seeding.EVERYBODY) -> np.ndarray:
    """Return 0 .. size-1 in random order, from the raw bits of the generator: the same with every NumPy."""
    raw = np.random.Philox(seeding.key(seed, "schedule", peer, t)).random_raw(size)
    return np.argsort(np.asarray(raw, dtype=np.uint64), kind="stable")


def default_receivers(peers: int) -> int:
    """Return ceil(log2 N), at most N - 1, one more where a regular graph needs an even number of ends."""
    s = min(len(hops(peers)), peers - 1)
    return s + 1 if s * peers % 2 and s + 1 < peers else s


def _epidemic_fits(peers: int, s: int | None = None, form: str = "oracle") -> bool:
    receivers = default_receivers(peers) if s is None else s
    return 1 <= receivers < peers and (form == "local" or receivers * peers % 2 == 0)


@register_schedule("epidemic", fits=_epidemic_fits,
                   needs="more peers than s, and, in the oracle form, peers x s even")
def epidemic(peers: int, s: int | None = None, form: Literal["oracle", "local"] = "oracle", *, seed: int) -> Random:
    """Epidemic learning (De Vos et al. 2023): ``s`` random receivers for each peer and exchange, log2 N by default."""
    receivers = default_receivers(peers) if s is None else s
    return (EpidemicOracle if form == "oracle" else EpidemicLocal)(peers, seed, receivers)


@dataclass(frozen=True)
class EpidemicOracle(Random):
    """EL-Oracle (De Vos et al. 2023, "Epidemic Learning"): a random s-regular graph each exchange, W = 1/(s+1)."""

    s: int

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        draw = seeding.key(self.seed, "schedule", round=t) & 0xFFFFFFFF
        graph = nx.random_regular_graph(self.s, self.size, seed=draw)
        to, source = links(graph)
        return Sparse.of(self.size, to, source, np.full(len(to), 1 / (self.s + 1)))


@dataclass(frozen=True)
class EpidemicLocal(Random):
    """EL-Local (De Vos et al. 2023): each peer draws its own s receivers; a receiver averages the messages it gets.

    Row-stochastic only: the number of messages that a peer receives is random, so the plain mean moves a little.
    """

    s: int

    @property
    def stochastic(self) -> Stochastic:
        """Row-stochastic, unless every peer sends to all others."""
        return "row" if self.s < self.size - 1 else "doubly"

    @property
    def directed(self) -> bool:
        """Whether a peer may receive from one that it does not send to."""
        return self.s < self.size - 1

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        senders: list[list[int]] = [[] for _ in range(self.size)]
        for j in range(self.size):
            for place in shuffled(self.size - 1, self.seed, t, j)[:self.s]:
                senders[int(place) + (int(place) >= j)].append(j)
        return by_hand(self.size, ((i, j, 1 / (len(sources) + 1)) for i, sources in enumerate(senders)
                                   for j in sources))


@register_schedule("random-matching")
@dataclass(frozen=True)
class RandomMatching(Random):
    """Random pairs average at each exchange, W = 1/2; of an odd number one peer waits (Boyd et al. 2006)."""

    def compute(self, t: int) -> Sparse:
        """Return W_t."""
        order, even = shuffled(self.size, self.seed, t), self.size // 2 * 2
        first, second = order[0:even:2], order[1:even:2]
        return _halves(self.size, [(first, second), (second, first)])
