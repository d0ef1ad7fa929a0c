"""Floods: every peer learns the value of each peer that it can reach, and no peer waits for one that has ended.

In each slot a peer posts its whole knowledge to each neighbour: values by origin, and the cut edges (those over which
a peer received nothing). It is *complete* when it has the value of every peer that it can reach over edges not known
as cut. A complete peer posts once more, marked final, and ends without collecting.

No peer waits for one that has ended: a peer that collects slot s needs a message of slot s from each neighbour. Had a
neighbour posted its final message at t < s, this peer would have collected it at t and so known at least as many
values and cut edges; the peers that it can reach are then among those that the neighbour could reach, so it would have
been complete at t and have ended at t + 1 <= s, without collecting s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import networkx as nx

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Late, Mixer, Outbox, Step


def ordered(i: int, j: int) -> tuple[int, int]:
    """Return the undirected edge {i, j} as (smaller, larger)."""
    return (i, j) if i < j else (j, i)


def edges_of(graph: nx.Graph, peers: Iterable[int]) -> set[tuple[int, int]]:
    """Return all edges of ``graph`` that touch one of ``peers``: those that are cut when these are dead."""
    return {ordered(i, j) for i in peers if i in graph for j in graph[i]}


def without(graph: nx.Graph, cut: Iterable[tuple[int, int]]) -> nx.Graph:
    """Return a copy of ``graph`` without the cut edges."""
    living = nx.Graph(graph)
    living.remove_edges_from(cut)
    return living


@dataclass
class Knowledge:
    """The knowledge of one peer during a flood."""

    peer: int
    graph: nx.Graph
    values: dict[int, bytes]
    cut: set[tuple[int, int]] = field(default_factory=set)
    ended: bool = False
    """Whether a neighbour has ended, so that this peer ends too."""
    _reachable: set[int] | None = None

    def reachable(self) -> set[int]:
        if self._reachable is None:
            self._reachable = set(nx.node_connected_component(without(self.graph, self.cut), self.peer))
        return self._reachable

    def reachable_values(self) -> dict[int, bytes]:
        """Return the values of the peers that can be reached, by peer, ascending."""
        return {i: self.values[i] for i in sorted(self.reachable() & self.values.keys())}

    def ends(self) -> bool:
        return self.ended or self.reachable() <= self.values.keys()

    def cuts(self, edges: set[tuple[int, int]]) -> None:
        if not edges <= self.cut:
            self.cut |= edges
            self._reachable = None

    def encode(self, final: bool) -> bytes:
        packed: bytes = msgpack.packb([final, sorted(self.values.items()), sorted(self.cut)])
        return packed

    def merge(self, message: object, source: int) -> None:
        final, values, cut = _decode(message, self.graph, source)
        for origin, value in values.items():
            self.values.setdefault(origin, value)
        self.cuts(cut)
        self.ended |= final


def _decode(
    message: object, graph: nx.Graph, source: int
) -> tuple[bool, dict[int, bytes], set[tuple[int, int]]]:
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise RemoteProtocolError(f"peer {source} sent a row where a flood's message is due", source)
    try:
        document: Any = msgpack.unpackb(message, use_list=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(
            f"peer {source} sent a flood's message that cannot be read: {error}", source
        ) from None
    if not (isinstance(document, tuple) and len(document) == 3 and isinstance(document[0], bool)):
        raise RemoteProtocolError(f"peer {source} sent a flood's message of another form", source)
    final, pairs, cut = document
    return final, dict(_checked_pairs(pairs, graph, source)), checked_cut(cut, graph, source)


def _checked_pairs(pairs: object, graph: nx.Graph, source: int) -> Iterable[tuple[int, bytes]]:
    if not isinstance(pairs, tuple) or len(pairs) > len(graph):
        raise RemoteProtocolError(f"peer {source} sent a flood's values in another form", source)
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and type(pair[0]) is int
            and pair[0] in graph
            and isinstance(pair[1], bytes)
        ):
            raise RemoteProtocolError(f"peer {source} sent a flood's value in another form", source)
        yield pair


def checked_cut(cut: object, graph: nx.Graph, source: int) -> set[tuple[int, int]]:
    """Return the cut edges of a neighbour's message; RemoteProtocolError where they are no edges of the graph."""
    if not isinstance(cut, tuple):
        raise RemoteProtocolError(f"peer {source} sent the cut edges in another form", source)
    edges = set()
    for edge in cut:
        if not (
            isinstance(edge, tuple)
            and len(edge) == 2
            and all(type(end) is int for end in edge)
            and graph.has_edge(*edge)
        ):
            raise RemoteProtocolError(
                f"peer {source} named a cut edge that the topology does not have", source
            )
        edges.add(ordered(*edge))
    return edges


def flood_knowledge(
    mixer: Mixer,
    round: int,
    values: Mapping[int, bytes],
    graph: nx.Graph,
    on_dead: Callable[[], set[int]] | None = None,
    late: Callable[[tuple[Late, ...]], None] = lambda flows: None,
) -> dict[int, Knowledge]:
    """Flood the value of every peer; return what each hosted peer knows at the end (``Knowledge.reachable_values``).

    Takes at most the living graph's diameter + 2 slots where no peer dies. Of a peer that died during the flood, some
    peers may have the value and others not.

    Parameters
    ----------
    mixer : carries the messages, at Step(round, 0), Step(round, 1), …
    round : the round of the flood.
    values : each hosted peer's value.
    graph : the topology's graph.
    on_dead : returns the peers known to be dead before the first slot.
    late : is called with rows of earlier exchanges that arrive during the flood.

    Raises
    ------
    RemoteProtocolError : for a message of another form.
    """
    dead = on_dead() if on_dead is not None else set()
    nodes = {peer: Knowledge(peer, graph, {peer: bytes(values[peer])}) for peer in mixer.peers}
    for peer, node in nodes.items():
        node.cuts(edges_of(graph, dead - {peer}))
    running = set(mixer.peers)
    limit = 4 * len(graph) + 4  # without deaths N slots suffice; a peer that meets the limit ends like all others
    for slot in range(limit):
        at = Step(round, slot)
        final = {peer for peer in running if nodes[peer].ends() or slot == limit - 1}
        messages = {peer: nodes[peer].encode(peer in final) for peer in sorted(running)}
        mixer.post(at, Outbox(edges={(i, j): messages[i] for i in messages for j in sorted(graph[i])}))
        running -= final
        if not running:
            break
        inbox = mixer.collect(at)
        late(inbox.late)
        for dst, src, value in zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.values):
            if dst in running:
                nodes[dst].merge(value, src)
        for dst, src in inbox.missing:
            if dst in running:
                nodes[dst].cuts({ordered(dst, src)})
    return nodes


def agree_on_cuts(
    mixer: Mixer,
    round: int,
    graph: nx.Graph,
    on_dead: Callable[[], set[int]] | None = None,
    late: Callable[[tuple[Late, ...]], None] = lambda flows: None,
) -> dict[int, frozenset[tuple[int, int]]]:
    """Flood the cut edges (a dead end, a link given up), so that all reachable peers know the same.

    Returns {hosted: cut edges}, with which the final consensus begins on the same living graph everywhere. on_dead,
    late: see ``flood_knowledge``; it is the last time that late rows of training arrive.
    """
    nodes = flood_knowledge(mixer, round, dict.fromkeys(mixer.peers, b""), graph, on_dead, late)
    return {peer: frozenset(node.cut) for peer, node in nodes.items()}
