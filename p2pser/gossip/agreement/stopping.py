"""The stopping rule of the consensus: all reachable peers stop at the same exchange, once all rows are close.

At every E-th exchange k each peer measures d_i, the largest difference over its edges between its row and its
neighbours' rows of that exchange, and keeps its row of exchange k. The following exchanges carry, merged at each peer,
the largest d of exchange k and the bitmap of the peers that it covers. Once the bitmap covers all peers that can be
reached, the largest difference between *any* two of them is at most diameter * max d. Where that is within the
tolerance, the peer posts once more, marked ``done`` k, without collecting, and adopts its row of exchange k; a peer
that receives ``done`` k does the same. So all adopt rows of one exchange, and as in a flood
(``p2pser.gossip.agreement.flood``) no peer waits for one that has ended.

**What one liar can do.** A peer decides on exchange k only when the differences of all living peers have had the time
to reach it over the shortest paths; a trailer that covers a peer earlier, or covers its receiver with less than the
receiver's own difference, is refused. So a liar cannot hide a difference but of peers to which every shortest path
leads through it, and those know it: a peer adopts the rows of a ``done`` that its own knowledge contradicts only on the
word of two neighbours (of all, where it has fewer), and then says that the peers have not agreed. Cut edges change
nothing about peers whose difference has come. A liar can prevent the agreement (by a difference without end), and move
the mean by its rows, as in any average.

The trailer that carries this behind each row is msgpack: [exchange, done, [[k, max d, bitmap], ...], [[i, j],
...]], ``done`` -1 while undecided, the pairs being cut edges.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgpack
import networkx as nx
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import Distances, checked_cut, ordered, without
from p2pser.gossip.reading import unpacked
from p2pser.graph import summary

UNDECIDED = -1
MOST_CUTS = 64
"""Sets of cut edges whose components are remembered."""


@dataclass(frozen=True)
class Trailer:
    """The trailer of a row (see the module's docstring). ``floods``: (k, max d, bitmap of the covered peers)."""

    exchange: int
    done: int
    floods: tuple[tuple[int, float, int], ...]
    cut: frozenset[tuple[int, int]]


def encode_trailer(trailer: Trailer, peers: int) -> bytes:
    """Return the trailer's bytes in a network of ``peers``."""
    width = (peers + 7) // 8
    floods = [(k, worst, bitmap.to_bytes(width, "little")) for k, worst, bitmap in trailer.floods]
    packed: bytes = msgpack.packb([trailer.exchange, trailer.done, floods, sorted(trailer.cut)])
    return packed


def most_bytes(graph: nx.Graph) -> int:
    """Return how many bytes a trailer has at most."""
    peers, edges = len(graph), int(graph.number_of_edges())
    return 64 + (peers + 4) * ((peers + 7) // 8 + 20) + 12 * edges


def decode_trailer(buffer: memoryview, graph: nx.Graph, exchange: int, source: int) -> Trailer:
    """Return the trailer of ``source``'s message of ``exchange``.

    Raises RemoteProtocolError for one of another form, or of another exchange. Its length is for the caller to bound
    (``most_bytes``).
    """

    def refuse(what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"peer {source} sent, in exchange {exchange} of the consensus, {what}", source)

    peers = len(graph)
    width = (peers + 7) // 8
    document: Any = unpacked(buffer, f"a trailer of exchange {exchange} of the consensus", source)
    if not (
        isinstance(document, tuple)
        and len(document) == 4
        and isinstance(document[2], tuple)
        and type(document[0]) is int
        and type(document[1]) is int
    ):
        raise refuse("a trailer of another form")
    sent, done, entries, cut = document
    if sent != exchange or not UNDECIDED <= done < max(exchange, 1):
        raise refuse(f"a trailer of exchange {sent}, done {done}")
    floods = []
    for entry in entries:
        if not (
            isinstance(entry, tuple)
            and len(entry) == 3
            and type(entry[0]) is int
            and 0 <= entry[0] < exchange
            and isinstance(entry[1], float)
            and entry[1] >= 0
            and isinstance(entry[2], bytes)
            and len(entry[2]) == width
            and int.from_bytes(entry[2], "little") >> peers == 0
        ):
            raise refuse("a flood's entry of another form")
        floods.append((entry[0], entry[1], int.from_bytes(entry[2], "little")))
    return Trailer(sent, done, tuple(floods), frozenset(checked_cut(cut, graph, source)))


class Reach:
    """The peers that can be reached over edges that are not cut, and their diameter; cached by cut set."""

    def __init__(self, graph: nx.Graph, groups: tuple[frozenset[int], ...] = ()) -> None:
        """groups: sets of peers that alone exchange some entries of the rows (``gossip.partial``)."""
        self.graph = graph
        self.groups = groups
        self.distances = Distances(graph)
        self._known: dict[tuple[frozenset[tuple[int, int]], int], tuple[int, int]] = {}
        self._within: dict[tuple[int, int], int] = {}

    def of(self, peer: int, cut: frozenset[tuple[int, int]]) -> tuple[int, int]:
        """Return (bitmap of the peers that ``peer`` can reach, itself included; the diameter of their graph)."""
        if (cut, peer) not in self._known:
            if len(self._known) > MOST_CUTS * len(self.graph):
                self._known.clear()
            living = without(self.graph, cut)
            component = nx.node_connected_component(living, peer)
            bitmap = sum(1 << i for i in component)
            diameter = living_diameter(self.graph.subgraph(component), cut, self.groups)
            self._known.update({(cut, i): (bitmap, diameter) for i in component})
        return self._known[cut, peer]

    def within(self, peer: int, distance: int) -> int:
        """Return the bitmap of the peers at most so far from ``peer``, over all edges of the topology."""
        if (peer, distance) not in self._within:
            near = [i for i, away in self.distances.of(peer).items() if away <= distance]
            self._within[peer, distance] = sum(1 << i for i in near)
        return self._within[peer, distance]

    def time(self, peer: int, cut: frozenset[tuple[int, int]]) -> int:
        """Return how many exchanges it takes until all differences have reached ``peer``."""
        return int(max(nx.single_source_shortest_path_length(without(self.graph, cut), peer).values()))


@dataclass
class _Flood:
    own: float
    worst: float
    bitmap: int
    snapshot: Tensor


@dataclass
class Agreement:
    """One hosted peer's part in the decision to stop."""

    peer: int
    reach: Reach
    tolerance: float
    cut: frozenset[tuple[int, int]] = frozenset()
    done: int = UNDECIDED
    bound: float = math.inf
    """The largest difference between any two peers of the last exchange decided on."""
    adopted: Tensor | None = None
    agreed: bool = False
    """Whether the adopted rows are known to be within the tolerance."""
    covered: int = 0
    """The bitmap of the peers that the last exchange decided on covers."""
    _time: int = 0
    _diameter: int = 1
    _told: dict[int, set[int]] = field(default_factory=dict)
    """The neighbours that have ended, by the exchange whose rows they adopt."""
    _alive: dict[int, _Flood] = field(default_factory=dict)
    _parting: list[tuple[int, float, int]] = field(default_factory=list)
    """Complete floods, which the next trailer carries for the last time."""

    def __post_init__(self) -> None:
        self._time = self.reach.time(self.peer, self.cut)
        self._diameter = max(1, self.reach.of(self.peer, self.cut)[1])

    def trailer(self, exchange: int) -> Trailer:
        """Return the trailer of the row of ``exchange``."""
        alive = [(k, flood.worst, flood.bitmap) for k, flood in sorted(self._alive.items())]
        parting, self._parting = self._parting, []
        return Trailer(exchange, self.done, tuple(parting + alive), self.cut)

    def start(self, exchange: int, worst: float, row: Tensor) -> None:
        """Begin the flood of ``exchange``: ``worst`` is d_i, ``row`` this peer's row of it, which is kept."""
        worst = worst if worst == worst else math.inf
        self._alive[exchange] = _Flood(worst, worst, 1 << self.peer, row)

    def check(self, trailer: Trailer, source: int) -> None:
        """Raise RemoteProtocolError where a neighbour's trailer cannot be true."""
        for k, worst, bitmap in trailer.floods:
            if bitmap & ~self.reach.within(source, trailer.exchange - k - 1):
                raise RemoteProtocolError(f"peer {source} sent, in exchange {trailer.exchange} of the consensus, "
                                          f"differences of exchange {k} before they can have reached it", source)
            mine = self._alive.get(k)
            if (mine is not None and bitmap >> self.peer & 1 and worst < mine.own
                    and ordered(self.peer, source) not in trailer.cut):
                raise RemoteProtocolError(f"peer {source} sent, in exchange {trailer.exchange} of the consensus, a "
                                          f"smaller difference than our own of exchange {k}", source)

    def merge(self, trailer: Trailer, source: int) -> None:
        """Merge a neighbour's trailer."""
        self.cut |= {edge for edge in trailer.cut if source in edge or not any(
            end == self.peer or self._living(end) for end in edge)}
        if trailer.done != UNDECIDED:
            self._told.setdefault(trailer.done, set()).add(source)
        for k, worst, bitmap in trailer.floods:
            mine = self._alive.get(k)
            if mine is not None:
                mine.worst = max(mine.worst, worst)
                mine.bitmap |= bitmap

    def lost(self, neighbour: int) -> None:
        """Cut the edge to ``neighbour``, whose message is missing, for the rest of the consensus."""
        self.cut |= {ordered(self.peer, neighbour)}

    def _living(self, peer: int) -> bool:
        return peer in set(self.reach.graph[self.peer]) and ordered(self.peer, peer) not in self.cut

    def decide(self, exchange: int, latest: Tensor) -> None:
        """Evaluate complete floods after ``exchange``; ``latest`` is adopted where the kept row is gone."""
        reachable, diameter = self.reach.of(self.peer, self.cut)
        diameter = max(self._diameter, diameter)
        for k, flood in sorted(self._alive.items()):
            if exchange - k >= self._time and reachable & ~flood.bitmap == 0:
                self.bound, self.covered = diameter * flood.worst, flood.bitmap
                self._parting.append((k, flood.worst, flood.bitmap))
                if self.bound <= self.tolerance:
                    self._adopt(k, flood.snapshot, agreed=True)
                    return
                del self._alive[k]
            elif exchange - k > len(self.reach.graph):
                del self._alive[k]  # no path is so long: a peer died before it passed the flood on
        enough = min(2, sum(self._living(j) for j in self.reach.graph[self.peer]))
        for k, tellers in sorted(self._told.items()):
            if exchange - k >= self._time and len(tellers) >= enough:
                flood_of = self._alive.get(k)
                self._adopt(k, latest if flood_of is None else flood_of.snapshot, agreed=False)
                return

    def _adopt(self, k: int, row: Tensor, *, agreed: bool) -> None:
        self.done, self.adopted, self.agreed = k, row, agreed


def living_diameter(graph: nx.Graph, cut: Collection[tuple[int, int]], groups: tuple[frozenset[int], ...] = ()) -> int:
    """Return the largest diameter among the components of ``graph`` without the cut edges, and of each group alone."""
    living = without(graph, cut)
    return max((summary.diameter(living.subgraph(part)) for some in (frozenset(graph), *groups)
                for part in nx.connected_components(living.subgraph(some))), default=0)
