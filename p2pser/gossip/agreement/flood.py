"""Floods: every peer learns the value of each peer that it can reach, and no peer waits for one that has ended.

In each slot a peer posts its whole knowledge to each neighbour: values by origin, and the cut edges (those over which
a peer received nothing). It is *complete* when it has the value of every peer that it can reach over edges not known
as cut. A complete peer posts once more, marked final, and ends without collecting.

No peer waits for one that has ended: a peer that collects slot s needs a message of slot s from each neighbour. Had a
neighbour posted its final message at t < s, this peer would have collected it at t and so known at least as many
values and cut edges; the peers that it can reach are then among those that the neighbour could reach, so it would have
been complete at t and have ended at t + 1 <= s, without collecting s.

**What one liar can do.** Only neighbours are authenticated, so reports about other peers are hearsay:

- A living neighbour's value counts as that neighbour sends it, whatever other peers report.
- A value cannot come earlier than its path is long, and no peer can have ended before the values of all peers could
  reach it. A message that claims so is refused.
- A peer knows its own edges, and a living neighbour reports its own cut edges; other peers' reports about these do not
  count. Reports about further edges do, but values are given up for them only when the longest shortest path has had
  its time, and a slot has brought nothing new: a value on its way comes nearer in every slot. A peer whose value has
  come counts as reached, whatever is reported about its edges (``Knowledge.cut_edges``).

So a liar cannot make honest peers leave each other out. It can withhold the values of peers to which every shortest
path leads through it, or send false ones in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack
import networkx as nx

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Late, Mixer, Outbox, Step
from p2pser.gossip.reading import Edge, Read, unpacked
from p2pser.wire.codec import Received
from p2pser.wire.labels import LONGEST_LIST, read_labels, union

MOST = 1 << 16
"""Bytes of the longest value, unless a flood says otherwise."""

Check = Callable[[int, bytes], object]
"""(origin, value) -> anything; raises RemoteProtocolError for a value of another form."""


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


class Distances:
    """The lengths of the shortest paths of a graph, counted when they are first needed."""

    def __init__(self, graph: nx.Graph) -> None:
        self._graph = graph
        self._known: dict[int, dict[int, int]] = {}
        self.edges = int(graph.number_of_edges())
        """The number of edges, which networkx counts anew each time."""

    def of(self, peer: int) -> Mapping[int, int]:
        """Return the distance of each peer from ``peer``."""
        if peer not in self._known:
            self._known[peer] = dict(nx.single_source_shortest_path_length(self._graph, peer))
        return self._known[peer]

    def longest(self, peer: int) -> int:
        """Return the distance of the furthest peer."""
        return max(self.of(peer).values())


class FloodMessage(NamedTuple):
    """A neighbour's message: whether it is the last, the known values, the edges that count as cut, the labels."""

    final: bool
    values: Mapping[int, bytes]
    cut: frozenset[tuple[int, int]]
    labels: tuple[str, ...] = ()


@dataclass
class Knowledge:
    """The knowledge of one peer during a flood."""

    peer: int
    graph: nx.Graph
    values: dict[int, bytes]
    distances: Distances
    """In the whole graph."""
    cut: set[tuple[int, int]] = field(default_factory=set)
    """Edges that are known or reported to be cut."""
    own: set[tuple[int, int]] = field(default_factory=set)
    """Those of this peer's edges over which it received nothing."""
    final: set[int] = field(default_factory=set)
    """The neighbours that have ended."""
    doubted: set[int] = field(default_factory=set)
    """The peers of which different values came: one of those who sent them lies, or the peer was started again."""
    labels: tuple[str, ...] | None = None
    """The union of the labels of all peers whose value it has; None: the flood carries none."""
    _before: int = 0
    """How many values it had in the last slot."""
    _reachable: set[int] | None = None
    _edges: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._edges = edges_of(self.graph, [self.peer])

    def reachable(self) -> set[int]:
        if self._reachable is None:
            self._reachable = set(nx.node_connected_component(without(self.graph, self.cut), self.peer))
        return self._reachable

    def living(self, neighbour: int) -> bool:
        """Whether a peer is a neighbour over a living edge."""
        edge = ordered(self.peer, neighbour)
        return edge in self._edges and edge not in self.own

    def reachable_values(self) -> dict[int, bytes]:
        """Return the values of the peers that can be reached, by peer, ascending."""
        return dict(sorted(self.values.items()))

    def cut_edges(self) -> frozenset[tuple[int, int]]:
        """Return the cut edges at the end of the flood: with them, every peer whose value came can be reached."""
        silent = edges_of(self.graph, self.graph.nodes - self.values.keys())
        apart = self.values.keys() - nx.node_connected_component(without(self.graph, self.cut | silent), self.peer)
        return frozenset((self.own if apart else self.cut) | silent)

    def ends(self, slot: int) -> bool:
        """Whether this peer ends at a slot: what it lacks by then will not come."""
        if self.graph.nodes <= self.values.keys():
            return True
        # What is on its way comes nearer in every slot: it has all come when a slot brings nothing new.
        if slot < self.distances.longest(self.peer) or len(self.values) > self._before:
            return False
        living = {j for j in self.graph[self.peer] if self.living(j)}
        return self.reachable() <= self.values.keys() or living <= self.final

    def lost(self, neighbour: int) -> None:
        """Note that a neighbour's message is missing; a neighbour that has ended sends none."""
        if neighbour not in self.final:
            self.own.add(ordered(self.peer, neighbour))
            self.cuts({ordered(self.peer, neighbour)})

    def cuts(self, edges: set[tuple[int, int]]) -> None:
        if not edges <= self.cut:
            self.cut |= edges
            self._reachable = None

    def encode(self, final: bool) -> bytes:
        self._before = len(self.values)
        labels = [] if self.labels is None else [self.labels]
        packed: bytes = msgpack.packb([final, sorted(self.values.items()), sorted(self.cut), *labels])
        return packed

    def merge(self, message: FloodMessage, source: int) -> None:
        """Take what is credible of a neighbour's message (see the module)."""
        for origin, value in message.values.items():
            if self.values.get(origin, value) != value:
                self.doubted.add(origin)
            if origin == source or not self.living(origin):
                self.values.setdefault(origin, value)
        self.cuts({edge for edge in message.cut - self.cut if source in edge or not any(
            end == self.peer or self.living(end) for end in edge)})
        if message.final:
            self.final.add(source)
        if self.labels is not None:
            self.labels = union(self.labels, message.labels)


def read_message(message: Received, slot: int, distances: Distances, graph: nx.Graph, most: int = MOST,
         check: Check = lambda origin, value: None, labelled: bool = False) -> FloodMessage:
    """Return a message of a slot, whose values have at most ``most`` bytes and pass ``check``.

    labelled : whether labels are due.

    Raises RemoteProtocolError for a message of another form, and for one that cannot be true at this slot.
    """
    source = message.sender
    longest = 64 + len(graph) * (most + 32) + 32 * distances.edges + LONGEST_LIST * labelled
    document = unpacked(message.octets(longest), "a flood's message", source)
    if not (isinstance(document, tuple) and len(document) == 3 + labelled and isinstance(document[0], bool)):
        raise message.refused("a flood's message of another form")
    final, pairs, cut = document[:3]
    try:
        labels = read_labels(document[3]) if labelled else ()
    except ValueError as error:
        raise message.refused(f"{error} in a flood") from None
    values = dict(_checked_pairs(pairs, graph, source))
    away = distances.of(source)
    for origin, value in values.items():
        if len(value) > most:
            raise message.refused(f"a value of {len(value)} bytes in a flood where at most {most} are due")
        if away.get(origin, len(graph) + slot) > slot:
            raise message.refused(f"the value of peer {origin} in slot {slot} of a flood, before it can have reached "
                                  f"peer {source}")
        check(origin, value)
    if final and slot < distances.longest(source) and not graph.nodes <= values.keys():
        raise message.refused(f"the end of a flood in slot {slot}, before all values can have reached it")
    return FloodMessage(final, values, frozenset(checked_cut(cut, graph, source)), labels)


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
    if cut == ():
        return set()
    if not isinstance(cut, tuple) or len(cut) > graph.number_of_edges():
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


def most_slots(graph: nx.Graph) -> int:
    """Return the slots that a flood takes at most; without deaths N suffice."""
    return 4 * len(graph) + 4


def flood_knowledge(
    mixer: Mixer,
    round: int,
    values: Mapping[int, bytes],
    graph: nx.Graph,
    dead: Collection[int] = (),
    late: Callable[[tuple[Late, ...]], None] = lambda flows: None,
    *,
    most: int = MOST,
    check: Check = lambda origin, value: None,
    first: int = 0,
    labels: Mapping[int, Iterable[str]] | None = None,
) -> dict[int, Knowledge]:
    """Flood the value of every peer; return what each hosted peer knows at the end (``Knowledge.reachable_values``).

    Takes at most the living graph's diameter + 2 slots where no peer dies. Of a peer that died during the flood, some
    peers may have the value and others not.

    Parameters
    ----------
    mixer : carries the messages, at Step(round, first), Step(round, first + 1), …
    round : the round of the flood.
    values : each hosted peer's value.
    graph : the topology's graph.
    dead : the peers known to be dead before the first slot.
    late : is called with rows of earlier exchanges that arrive during the flood.
    most : bytes of the longest value.
    check : raises RemoteProtocolError for a value of another form; its message then counts as missing.
    first : the first slot; a second flood of a round begins at ``most_slots(graph)``.
    labels : each hosted peer's labels, of which the peers find the union (``Knowledge.labels``); each tells its
        neighbours the union of what it knows, so that only these see whose labels they are, and only at first.
    """
    distances = Distances(graph)
    nodes = {peer: Knowledge(peer, graph, {peer: bytes(values[peer])}, distances,
                             labels=None if labels is None else union(labels[peer])) for peer in mixer.peers}
    for peer, node in nodes.items():
        for j in set(dead) & set(graph[peer]):
            node.lost(j)
    running = set(mixer.peers)
    limit = most_slots(graph)  # a peer that meets it ends like all others
    for slot in range(limit):
        at = Step(round, first + slot)
        final = {peer for peer in running if nodes[peer].ends(slot) or slot == limit - 1}
        messages = {peer: nodes[peer].encode(peer in final) for peer in sorted(running)}
        mixer.post(at, Outbox(edges={(i, j): messages[i] for i in messages for j in sorted(graph[i])}))
        running -= final
        if not running:
            break
        inbox = mixer.collect_messages(at, _reader(slot, distances, graph, most, check, labels is not None))
        late(inbox.late)
        for (dst, src), message in inbox.by_edge():
            if dst in running:
                nodes[dst].merge(message, src)
        for dst, src in inbox.missing:
            if dst in running:
                nodes[dst].lost(src)
    return nodes


def flood_values(mixer: Mixer, round: int, values: Mapping[int, bytes], graph: nx.Graph, dead: Collection[int], *,
                 most: int, check: Check, first: int = 0) -> tuple[dict[int, dict[int, bytes]], int]:
    """Flood the value of every peer; return by hosted peer the values that reached it, and the number of exchanges.

    Parameters: see ``flood_knowledge``.
    """
    exchanges: list[object] = []
    nodes = flood_knowledge(mixer, round, values, graph, dead, exchanges.append, most=most, check=check, first=first)
    return {peer: node.reachable_values() for peer, node in nodes.items()}, len(exchanges)


def _reader(slot: int, distances: Distances, graph: nx.Graph, most: int, check: Check, labelled: bool,
            ) -> Read[FloodMessage]:
    """Return the reader of a slot's messages; a message to several peers of this process is read once."""
    known: dict[int, FloodMessage] = {}

    def once(edge: Edge, message: Received) -> FloodMessage:
        if id(message.body) not in known:
            known[id(message.body)] = read_message(message, slot, distances, graph, most, check, labelled)
        return known[id(message.body)]

    return once


def agree_on_cuts(
    mixer: Mixer,
    round: int,
    graph: nx.Graph,
    dead: Collection[int] = (),
    late: Callable[[tuple[Late, ...]], None] = lambda flows: None,
) -> dict[int, frozenset[tuple[int, int]]]:
    """Flood the cut edges (a dead end, a link given up), so that all reachable peers know the same.

    Returns {hosted: cut edges}, with which the final consensus begins on the same living graph everywhere. dead,
    late: see ``flood_knowledge``; it is the last time that late rows of training arrive.
    """
    nodes = flood_knowledge(mixer, round, dict.fromkeys(mixer.peers, b""), graph, dead, late, most=0)
    return {peer: node.cut_edges() for peer, node in nodes.items()}
