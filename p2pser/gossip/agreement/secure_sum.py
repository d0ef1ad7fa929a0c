"""The exact sum of one input of each reachable peer, along the topology's edges, of which no peer sees a part.

1. **Census**: a flood of nonces. The peers whose nonces reach a peer are its *roster*. Roster, nonces and cut edges
   are its *view*; masks (``masks``) and the tree follow from the view, and every message of the sum names its view. So
   peers of different views never add to one sum.
2. **Sum**: along a spanning tree of the roster's living graph, breadth first from its centre. A peer adds its masked
   input to the partial sums of its children and sends it to its parent; the root's sum lacks no input, so the masks
   cancel, and the total goes down. Both go in chunks, as a pipeline: with height h and c chunks, 2 h + c - 1 exchanges.
3. **Closing**: each peer says whether it holds the total. A peer that does sends it to its neighbours that do not, and
   ends; a peer that lacks it passes it on when it comes. Where no total has come after N exchanges, no living peer that
   can be reached holds one, and the sum is dropped.

Each part begins at a slot that follows from the topology alone, so that peers meet again at its beginning.

**One sum a round.** A peer's input of a round goes into one sum only, whatever happens: a dropped sum is not repeated
in its round, because a peer that died may hold the total, and the difference of two totals of one round would be an
input. A peer that is started again remembers which input it gave in a round, and to which roster (``Secrets.give``).
Where a peer of the view gave another input, or gave it to another roster, no peer of the view sums in this round.

**What is not promised.** See docs/design.md: a root can send wrong totals, and a peer whose every path to the others
leads through liars can be made to sum with those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx
import numpy as np

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.base.wording import peer_list
from p2pser.gossip.agreement.flood import Knowledge, flood_knowledge, most_slots, ordered, without
from p2pser.gossip.agreement.masks import Integers, digest, mask
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge, Read
from p2pser.gossip.secrets import ANOTHER, NONCE, Given, Secrets
from p2pser.wire.codec import Received

CHUNK = 1 << 16
"""Integers in a chunk."""
LACKS, HOLDS, TOTAL = b"\0", b"\1", b"\2"
"""Messages of the closing; the last one is followed by the total."""

Plausible = Callable[[Integers], bool]
"""Whether a total can be one."""
May = Callable[[int, int], bool]
"""Whether a peer may give its input to a sum over so many peers."""


@dataclass(frozen=True)
class View:
    """The living network as one peer sees it in one sum.

    roster : ids, ascending. living : the edges between them that are not cut. name : NONCE bytes that stand for it.
    doubted : the peers of which different nonces came, ascending.
    """

    roster: tuple[int, ...]
    living: frozenset[Edge]
    name: bytes
    doubted: tuple[int, ...] = ()

    @cached_property
    def tree(self) -> Tree:
        """The spanning tree."""
        return spanning_tree(self.roster, self.living)


@dataclass(frozen=True)
class Tree:
    """A spanning tree. parent : by peer, the root lacks one. depth : by peer; the root has 0. height : the largest."""

    parent: Mapping[int, int]
    depth: Mapping[int, int]

    @cached_property
    def height(self) -> int:
        """The depth of the deepest peer."""
        return max(self.depth.values())

    def children(self, peer: int) -> list[int]:
        """Return the children of a peer, ascending."""
        return sorted(i for i, parent in self.parent.items() if parent == peer)


def spanning_tree(roster: Sequence[int], living: frozenset[Edge]) -> Tree:
    """Return the tree of shortest paths from the centre of a connected graph: the same wherever it is computed.

    The centre is the peer whose furthest peer is nearest, the smallest id among equals; the parent of a peer is the
    smallest id among its neighbours that are nearer to the centre.
    """
    graph = nx.Graph()
    graph.add_nodes_from(roster)
    graph.add_edges_from(living)
    eccentricity = nx.eccentricity(graph)
    root = min(roster, key=lambda i: (eccentricity[i], i))
    depth = dict(nx.single_source_shortest_path_length(graph, root))
    parent = {i: min(j for j in graph[i] if depth[j] < depth[i]) for i in roster if i != root}
    return Tree(parent, depth)


def secure_sum(mixer: Mixer, round: int, inputs: Mapping[int, Integers], graph: nx.Graph, *, least: int,
               plausible: Plausible = lambda total: True, may: May = lambda peer, size: True,
               chunk: int = CHUNK) -> dict[int, Integers | None]:
    """Return the sum of the inputs of all reachable peers, by hosted peer; None where this round has none.

    Parameters
    ----------
    mixer : carries the messages, at Step(round, 0), Step(round, 1), …, and holds the peers' secrets.
    round : the round; an input of it goes into one sum only.
    inputs : each hosted peer's input (D,). Its first integer must be 1, so that a sum's first one counts the peers.
    graph : the topology's graph.
    least : the fewest peers whose sum is made.
    plausible : whether a total can be one.
    may : whether a hosted peer may give its input to a sum over so many peers. Where it may not, no peer of its view
        gets a total.
    chunk : integers of a message.
    """
    form = next(iter(inputs.values()))
    secrets = secrets_of(mixer)
    views, skipping = _census(mixer, secrets, round, inputs, graph, least, may)
    first = most_slots(graph)
    summands = {i: _Summand(i, view, np.zeros_like(form)) for i, view in views.items()}
    _sum(mixer, secrets, Step(round, first), summands, inputs, chunk)
    totals = {i: summand.result(secrets, round, plausible) for i, summand in summands.items()}
    first += 2 * len(graph) + -(-len(form) // chunk)
    nodes = {i: _Closing(totals.get(i)) for i in mixer.peers if i not in skipping}
    _close(mixer, Step(round, first), nodes, _Due(form, graph, least, plausible))
    for i, summand in summands.items():
        if nodes[i].total is None and summand.received < len(form):
            secrets.tell(i, round, f"this round has no total: {summand.obstacle()}")
    return {i: nodes[i].total if i in nodes else None for i in mixer.peers}


# The census ---------------------------------------------------------------------------------------------------


def secrets_of(mixer: Mixer) -> Secrets:
    """Return a mixer's secrets; LocalProtocolError where it has none (``Algorithm.sums`` says that it needs them)."""
    if mixer.secrets is None:
        raise LocalProtocolError("a secure sum needs secrets in pairs, and this mixer has none")
    return mixer.secrets


def _census(mixer: Mixer, secrets: Secrets, round: int, inputs: Mapping[int, Integers], graph: nx.Graph,
            least: int, may: May) -> tuple[dict[int, View], set[int]]:
    """Return the view of each hosted peer that takes part, and the peers in whose view all skip this round."""
    views, skipping = {}, set()
    values = {i: secrets.nonce(i, round) + _given(secrets, i, round, inputs[i]) for i in mixer.peers}
    for i, known in flood_knowledge(mixer, round, values, graph, most=2 * NONCE, check=_check_value).items():
        view = _view(round, known)
        before = {value[NONCE:] for value in known.reachable_values().values()} - {bytes(NONCE)}
        if len(view.roster) < least:
            secrets.tell(i, round, f"{len(view.roster)} peers reach each other, and no sum of fewer than {least} is "
                                   "made (privacy.least)")
        elif not may(i, len(view.roster)):
            secrets.tell(i, round, f"a sum over {len(view.roster)} peers would reveal more than is left of the budget "
                                   "(privacy.epsilon)")
        elif before - {_of_roster(view.roster)}:
            skipping.add(i)
            secrets.tell(i, round, "this round was summed over other peers or inputs before, and is not summed again")
        else:
            views[i] = view
    return views, skipping


def _given(secrets: Secrets, peer: int, round: int, own: Integers) -> bytes:
    """Return the roster that had this input of the round: zeros for none, ANOTHER where it had another input."""
    given = secrets.given(peer).get(round)
    return bytes(NONCE) if given is None else given.roster if given.input == digest(own.tobytes()) else ANOTHER


def _check_value(origin: int, value: bytes) -> None:
    if len(value) != 2 * NONCE:
        raise RemoteProtocolError(f"the nonce of peer {origin} came with {len(value)} bytes", origin)


def _view(round: int, known: Knowledge) -> View:
    values = known.reachable_values()
    graph = without(known.graph, known.cut_edges()).subgraph(values)
    graph = graph.subgraph(nx.node_connected_component(graph, known.peer))  # a value may outlive its peer
    values = {i: value for i, value in values.items() if i in graph}
    living = frozenset(ordered(i, j) for i, j in graph.edges)
    return View(tuple(values), living, digest(
        round.to_bytes(4, "little", signed=True), *(_number(i) + value for i, value in values.items()),
        *(_number(i) + _number(j) for i, j in sorted(living))), tuple(sorted(known.doubted)))


def _of_roster(roster: Sequence[int]) -> bytes:
    return digest(b"roster", *map(_number, roster))


def _number(peer: int) -> bytes:
    return peer.to_bytes(4, "little")


# The sum ------------------------------------------------------------------------------------------------------


@dataclass
class _Summand:
    """A hosted peer that takes part in a sum. total : (D,), filled as it comes."""

    peer: int
    view: View
    total: Integers
    partial: Integers | None = None
    """Its masked input, and then the sum of the inputs below it in the tree; None where a part of it is missing."""
    received: int = 0
    """The integers of the total that have come."""
    apart: set[int] = field(default_factory=set)
    """The neighbours whose messages name another view."""

    def obstacle(self) -> str:
        """Return why the total has not come, as far as this peer can tell."""
        if self.view.doubted:
            return (f"different random numbers came from {peer_list(self.view.doubted)} by different ways, so that no "
                    "two peers may sum together: a peer that sends or passes them on lies, or was started again")
        if self.apart:
            return (f"{peer_list(sorted(self.apart))} and this peer have heard different random numbers, so that they "
                    "may not sum together: a peer was lost or started again meanwhile, or lies")
        return "a peer was lost meanwhile, or lies"

    def arrived(self, where: slice, part: Integers) -> None:
        """Take a part of the total, unless one before it is missing."""
        if self.received == where.start:
            self.total[where] = part
            self.received = where.stop

    def result(self, secrets: Secrets, round: int, plausible: Plausible) -> Integers | None:
        """Return the total; None where it has not come as a whole, or cannot be one."""
        if self.received < len(self.total):
            return None
        if self.total[0] == len(self.view.roster) and plausible(self.total):
            return self.total
        secrets.tell(self.peer, round, "the total cannot be one: peers hold different keys of each other, or a peer "
                                       "between here and the root sent a wrong one")
        return None


def _sum(mixer: Mixer, secrets: Secrets, first: Step, summands: Mapping[int, _Summand],
         inputs: Mapping[int, Integers], chunk: int) -> None:
    """Sum up the tree and send the total down, at ``first`` and the slots after it."""
    lengths = {}
    for i, summand in summands.items():
        size, roster = len(summand.total), summand.view.roster
        lengths[i] = 2 * summand.view.tree.height + -(-size // chunk) - 1
        if secrets.give(i, first.round, Given(digest(inputs[i].tobytes()), _of_roster(roster), len(roster))):
            summand.partial = inputs[i] + mask(secrets, i, roster, summand.view.name, size, summand.total.dtype)
    for slot in range(max(lengths.values(), default=0)):
        pipes = {i: _Pipe(summands[i], slot, chunk) for i, length in lengths.items() if slot < length}
        at = Step(first.round, first.slot + slot)
        mixer.post(at, Outbox(edges={(i, j): pipe.message(j) for i, pipe in pipes.items()
                                     for j in mixer.receivers(i, at)}))
        came: dict[int, dict[int, Integers]] = {i: {} for i in pipes}
        inbox = mixer.collect_messages(at, _reader(pipes))
        for (i, j), part in inbox.by_edge():
            if part is not None:
                came[i][j] = part
        for i, pipe in pipes.items():
            pipe.take(came[i])


class _Pipe:
    """What one peer sends and takes in one slot of the sum.

    Level d of a tree of height h sends chunk k up in slot k + h - d, and down in slot k + h + d.
    """

    def __init__(self, summand: _Summand, slot: int, chunk: int) -> None:
        self.summand, self.total, self.chunk, self.name = summand, summand.total, chunk, summand.view.name
        tree = summand.view.tree
        depth, height = tree.depth[summand.peer], tree.height
        self.parent, self.children = tree.parent.get(summand.peer), tree.children(summand.peer)
        self.up = self._part(slot - (height - depth))
        self.from_below = self._part(slot - (height - depth - 1))
        self.down = self._part(slot - (height + depth))
        self.from_above = self._part(slot - (height + depth - 1))

    def _part(self, k: int) -> slice | None:
        start = k * self.chunk
        return slice(start, min(start + self.chunk, len(self.total))) if 0 <= start < len(self.total) else None

    def message(self, neighbour: int) -> bytes:
        """Return what the neighbour is sent: a part of the sum, of the total, or nothing."""
        partial = self.summand.partial
        if neighbour == self.parent and self.up is not None and partial is not None:
            return self.name + partial[self.up].tobytes()
        if neighbour in self.children and self.down is not None and self.summand.received >= self.down.stop:
            return self.name + self.total[self.down].tobytes()
        return b""

    def read(self, neighbour: int, message: Received) -> Integers | None:
        """Return the part that is due from a neighbour; None where it sent none, or has another view."""
        octets = memoryview(message.octets(NONCE + self.chunk * self.total.itemsize))
        if not octets:
            return None
        if octets[:NONCE] != self.name:
            self.summand.apart.add(neighbour)
            return None
        due = self.from_above if neighbour == self.parent else self.from_below if neighbour in self.children else None
        if due is None or len(octets) != NONCE + (due.stop - due.start) * self.total.itemsize:
            raise message.refused(f"{len(octets)} bytes of a secure sum where others are due")
        return np.frombuffer(octets[NONCE:], dtype=self.total.dtype)

    def take(self, parts: Mapping[int, Integers]) -> None:
        """Take the parts that have come, by neighbour."""
        summand, below, above = self.summand, self.from_below, self.from_above
        if below is not None and summand.partial is not None:
            for child in self.children:
                summand.partial[below] += parts.get(child, 0)
            if not parts.keys() >= set(self.children):
                summand.partial = None
            elif self.parent is None:
                summand.arrived(below, summand.partial[below])
        if above is not None and self.parent is not None and self.parent in parts:
            summand.arrived(above, parts[self.parent])


def _reader(pipes: Mapping[int, _Pipe]) -> Read[Integers | None]:
    return lambda edge, message: pipes[edge[0]].read(edge[1], message) if edge[0] in pipes else None


# The closing --------------------------------------------------------------------------------------------------


@dataclass
class _Closing:
    """What a hosted peer holds. lacking : the neighbours that lacked the total at last report."""

    total: Integers | None
    lacking: list[int] = field(default_factory=list)

    def message(self, neighbour: int) -> bytes:
        """Return what the neighbour is sent."""
        if self.total is None:
            return LACKS
        return TOTAL + self.total.tobytes() if neighbour in self.lacking else HOLDS


@dataclass(frozen=True)
class _Due:
    """The requirements on a total from a neighbour. form : an array like it. least : the fewest peers of a sum."""

    form: Integers
    graph: nx.Graph
    least: int
    plausible: Plausible

    def read(self, edge: Edge, message: Received) -> bytes | Integers:
        """Return LACKS, HOLDS, or the total."""
        octets = bytes(message.octets(1 + self.form.nbytes))
        if octets in (LACKS, HOLDS):
            return octets
        if octets[:1] != TOTAL or len(octets) != 1 + self.form.nbytes:
            raise message.refused("another message than those that close a secure sum")
        total: Integers = np.frombuffer(octets, dtype=self.form.dtype, offset=1)
        if not self.least <= int(total[0]) <= len(self.graph) or not self.plausible(total):
            raise message.refused("a total that cannot be one")
        return total


def _close(mixer: Mixer, first: Step, nodes: Mapping[int, _Closing], due: _Due) -> None:
    """Give the total to the peers that lack it, as far as a peer that can be reached holds it.

    A peer that takes the total in a slot sends it to the neighbours that lacked it in that slot, and ends without
    collecting: as in a flood, no peer waits for one that has ended.
    """
    running = dict(nodes)
    for slot in range(len(due.graph) + 1):
        at = Step(first.round, first.slot + slot)
        mixer.post(at, Outbox(edges={(i, j): node.message(j) for i, node in running.items()
                                     for j in sorted(due.graph[i])}))
        running = {i: node for i, node in running.items() if node.total is None or not slot}
        if not running:
            return
        inbox = mixer.collect_messages(at, due.read)
        received: dict[int, dict[int, bytes | Integers]] = {i: {} for i in running}
        for (i, j), message in inbox.by_edge():
            if i in received:
                received[i][j] = message
        for i, messages in received.items():
            node = running[i]
            node.lacking = [j for j, message in messages.items() if isinstance(message, bytes) and message == LACKS]
            totals = [message for message in messages.values() if not isinstance(message, bytes)]
            if node.total is None and totals:
                node.total = totals[0]
            if not messages or (node.total is not None and not node.lacking):
                del running[i]
        if not running:
            return
