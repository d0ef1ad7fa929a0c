"""The stopping rule of the consensus: all reachable peers stop at the same exchange, once all rows are close.

At every E-th exchange k each peer measures d_i, the largest difference over its edges between its row and its
neighbours' rows of that exchange, and keeps its row of exchange k. The following exchanges carry, merged at each peer,
the largest d of exchange k and the bitmap of the peers that it covers. Once the bitmap covers all peers that can be
reached, the largest difference between *any* two of them is at most diameter * max d. Where that is within the
tolerance, the peer posts once more, marked ``done`` k, without collecting, and adopts its row of exchange k; a peer
that receives ``done`` k does the same. So all adopt rows of one exchange, and as in a flood
(``p2pser.gossip.agreement.flood``) no peer waits for one that has ended.

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
from p2pser.gossip.agreement.flood import checked_cut, ordered, without
from p2pser.graph import summary

UNDECIDED = -1


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


def decode_trailer(buffer: memoryview, graph: nx.Graph, exchange: int, source: int) -> Trailer:
    """Return the trailer of ``source``'s message of ``exchange``.

    Raises RemoteProtocolError for one of another form, of another exchange or too long.
    """

    def refuse(what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"peer {source} sent, in exchange {exchange} of the consensus, {what}", source)

    peers = len(graph)
    width = (peers + 7) // 8
    if len(buffer) > 64 + (peers + 4) * (width + 20) + 12 * graph.number_of_edges():
        raise refuse("a trailer that is too long")
    try:
        document: Any = msgpack.unpackb(buffer, use_list=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise refuse(f"a trailer that cannot be read ({error})") from None
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
        self._known: dict[tuple[frozenset[tuple[int, int]], int], tuple[int, int]] = {}

    def of(self, peer: int, cut: frozenset[tuple[int, int]]) -> tuple[int, int]:
        """Return (bitmap of the peers that ``peer`` can reach, itself included; the diameter of their graph)."""
        if (cut, peer) not in self._known:
            living = without(self.graph, cut)
            component = nx.node_connected_component(living, peer)
            bitmap = sum(1 << i for i in component)
            diameter = living_diameter(self.graph.subgraph(component), cut, self.groups)
            self._known.update({(cut, i): (bitmap, diameter) for i in component})
        return self._known[cut, peer]


@dataclass
class _Flood:
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
    _alive: dict[int, _Flood] = field(default_factory=dict)
    _parting: list[tuple[int, float, int]] = field(default_factory=list)
    """Complete floods, which the next trailer carries for the last time."""

    def trailer(self, exchange: int) -> Trailer:
        """Return the trailer of the row of ``exchange``."""
        alive = [(k, flood.worst, flood.bitmap) for k, flood in sorted(self._alive.items())]
        parting, self._parting = self._parting, []
        return Trailer(exchange, self.done, tuple(parting + alive), self.cut)

    def start(self, exchange: int, worst: float, row: Tensor) -> None:
        """Begin the flood of ``exchange``: ``worst`` is d_i, ``row`` this peer's row of it, which is kept."""
        self._alive[exchange] = _Flood(worst if worst == worst else math.inf, 1 << self.peer, row)

    def merge(self, trailer: Trailer) -> None:
        """Merge a neighbour's trailer."""
        self.cut |= trailer.cut
        if trailer.done != UNDECIDED:
            self.done = trailer.done
        for k, worst, bitmap in trailer.floods:
            mine = self._alive.get(k)
            if mine is not None:
                mine.worst = max(mine.worst, worst)
                mine.bitmap |= bitmap

    def lost(self, neighbour: int) -> None:
        """Cut the edge to ``neighbour``, whose message is missing, for the rest of the consensus."""
        self.cut |= {ordered(self.peer, neighbour)}

    def decide(self, exchange: int, latest: Tensor) -> None:
        """Evaluate complete floods after ``exchange``; ``latest`` is adopted where the kept row is gone."""
        reachable, diameter = self.reach.of(self.peer, self.cut)
        for k, flood in sorted(self._alive.items()):
            if reachable & ~flood.bitmap == 0:
                self.bound = max(1, diameter) * flood.worst
                self._parting.append((k, flood.worst, flood.bitmap))
                if self.done == UNDECIDED and self.bound <= self.tolerance:
                    self.done = k
                if self.done != k:
                    del self._alive[k]
                else:
                    break
            elif exchange - k > len(self.reach.graph):
                del self._alive[k]  # no path is so long: a peer died before it passed the flood on
        if self.done != UNDECIDED:
            flood_of = self._alive.get(self.done)
            self.adopted = (flood_of.snapshot if flood_of is not None else latest).clone()


def living_diameter(graph: nx.Graph, cut: Collection[tuple[int, int]], groups: tuple[frozenset[int], ...] = ()) -> int:
    """Return the largest diameter among the components of ``graph`` without the cut edges, and of each group alone."""
    living = without(graph, cut)
    return max((summary.diameter(living.subgraph(part)) for some in (frozenset(graph), *groups)
                for part in nx.connected_components(living.subgraph(some))), default=0)
