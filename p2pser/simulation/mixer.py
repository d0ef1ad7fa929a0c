"""The mixer that hosts all N rows in one process, with seeded faults.

The fast form of ``mix`` is one product W X in the rows' dtype; the exact form adds the flows one by one, bit-equal to
the network. Faults (loss, delay, duplication, deaths) are functions of (seed, step, edge).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Breaks, Edges, Inbox, Late, Outbox, Step, in_order, inbox_of, mix_by_flows
from p2pser.gossip.partial import Parts
from p2pser.gossip.reading import Edge, Read, read_all
from p2pser.gossip.secrets import Secrets
from p2pser.gossip.timetable import Timetable
from p2pser.graph.mixing import metropolis_entries
from p2pser.graph.sparse import Sparse
from p2pser.graph.spec import Topology
from p2pser.simulation.exchange_graph import ExchangeGraph
from p2pser.simulation.secrets import SeedSecrets
from p2pser.simulation.timeline import Timeline
from p2pser.wire.codec import DENSE, Codec, Received
from p2pser.wire.messages import SETTLE_WINDOW, Buffer, Phase

T = TypeVar("T")

KEPT, KEPT_LINKS = 64, 1 << 22
"""The most exchanges of a schedule whose graphs are kept in memory, and the most links in all of these."""


@dataclass(frozen=True)
class Faults:
    """Faults of directed messages, each independent of the others. Probabilities are in [0, 1].

    loss : the probability that a message never arrives.
    delay : the probability that it arrives 1 .. ``longest`` exchanges late.
    duplication : the probability that it arrives twice, the copy one exchange later.
    longest : the longest delay in exchanges.
    until : the number of exchanges after which messages have no faults; None: no limit.
    settle : whether late rows are mixed late; False shows the drift of the mean without that.
    seed : of the draws.
    """

    loss: float = 0.0
    delay: float = 0.0
    duplication: float = 0.0
    longest: int = 4
    until: int | None = None
    settle: bool = True
    seed: int = 0


class _Posted(NamedTuple):
    out: Outbox
    senders: frozenset[int]
    rows: Tensor | None = None


class SimulatedMixer:
    """A ``gossip.mixer.Mixer`` that hosts all peers of a topology.

    Parameters
    ----------
    topology : the run's.
    counts : clip counts by peer, where W is weighted by clips.
    exact : mix by flows, bit-equal to the network.
    faults : faults of single messages.
    dead : {peer: step}: from this step on the peer neither sends nor receives.
    back : {peer: round}: from this round on it does so again.
    slots, rounds : see ``Timetable``.
    own_weights : the algorithm weighs by clips itself, so that the matrices of training do not.
    parts : the entries of a row that cross each edge; None: all. With parts, ``mix`` is by flows.
    tap : called as tap(step, edge, message) with each message that arrives, not decoded; the mixer is then exact.
    secrets : of the peers, for secure sums; default: drawn from the seed 0.

    Raises TopologyError where the topology's weights cannot be weighted by clips.
    """

    def __init__(self, topology: Topology, *, counts: Mapping[int, int] | None = None, exact: bool = False,
                 faults: Faults | None = None, dead: Mapping[int, Step] | None = None,
                 back: Mapping[int, int] | None = None, slots: int = 1, rounds: int | None = None,
                 own_weights: bool = False, parts: Parts | None = None,
                 tap: Callable[[Step, Edge, Received], None] | None = None, secrets: Secrets | None = None) -> None:
        self.topology = topology
        self._tap = tap
        self.secrets: Secrets = secrets or SeedSecrets(0)
        self.parts = parts
        self.exact = exact or tap is not None
        self.faults = faults
        self.dead: dict[int, Step] = dict(dead or {})
        self.back: dict[int, int] = dict(back or {})
        self._broken: frozenset[int] = frozenset()
        self._timetable = Timetable(topology, slots, rounds)
        self._counts = None if own_weights else counts
        self._static = ExchangeGraph(metropolis_entries(topology.graph, counts))
        self.counts = counts
        self._graphs: OrderedDict[int, ExchangeGraph] = OrderedDict()
        self.bytes_sent = np.zeros(topology.size, dtype=np.int64)
        """Payload bytes that each peer sent, headers not counted, (N,)."""
        self.messages_sent = np.zeros(topology.size, dtype=np.int64)
        self.late = 0
        """Rows settled late."""
        self.strikes: list[tuple[Edge, Step, str]] = []
        """Invalid messages: the edge (dst, src), the step, and the reason."""
        self.lost = 0
        """Directed messages whose flow was never applied."""
        self.timeline: Timeline | None = None
        """The simulated time of every exchange; None: not simulated."""
        self._posted: dict[Step, _Posted] = {}
        self._way: list[tuple[int, Late]] = []
        """Messages that missed their exchange, with the exchange in which they are mixed."""
        self._exchange = 0
        self._graph(Step(0, 0))

    @property
    def peers(self) -> tuple[int, ...]:
        """All: 0 .. N-1."""
        return tuple(range(self.topology.size))

    @property
    def size(self) -> int:
        """N."""
        return self.topology.size

    @property
    def weights(self) -> Sparse:
        """The Metropolis weights of the undirected graph, by which the final consensus mixes."""
        return self._static.W

    @property
    def degrees(self) -> np.ndarray:
        """The number of neighbours of each peer, (N,)."""
        return self.weights.sent.copy()

    def edges(self, at: Step) -> Edges:
        """All directed edges of the step."""
        return self._graph(at).edges

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """Return the receivers of a peer at a step; none where it is dead."""
        dead = self.dead_at(at)
        return () if peer in dead else tuple(j for j in self._graph(at).to[peer] if j not in dead)

    def dead_at(self, at: Step) -> frozenset[int]:
        """Return the peers that are dead at a step."""
        return frozenset(peer for peer, since in self.dead.items()
                         if at >= since and not (peer in self.back and at.round >= self.back[peer]))

    def post(self, at: Step, out: Outbox) -> None:
        """Keep what the living peers send at ``at`` until it is collected.

        Raises LocalProtocolError where the step was posted before, or rows and edges are both given or
        neither.
        """
        if at in self._posted or (out.rows is None) == (out.edges is None):
            raise LocalProtocolError(f"{at} is posted twice, or not either with rows or with edges")
        dead = self.dead_at(at)
        if out.rows is not None:
            if self.parts is None:
                self._count(at, len(out.codec.encode(out.rows[0])), self._graph(at), dead)
            else:
                self._count_edges(at, _sizes_of_parts(self.parts, out.rows, self._graph(at)), dead)
            self._posted[at] = _Posted(out, frozenset(self.peers) - dead, out.rows.clone())
            return
        assert out.edges is not None
        self._count_edges(at, {
            (j, i): memoryview(out.codec.encode(value) if isinstance(value, Tensor) else value).nbytes
            for (i, j), value in out.edges.items()}, dead)
        self._posted[at] = _Posted(out, frozenset(i for i, _ in out.edges) - dead)

    def collect(self, at: Step) -> Inbox[Tensor]:
        """Return the rows that arrived at ``at``, and the late rows that arrived meanwhile.

        Missing are the edges to and from dead peers, those from peers that posted nothing, and those whose message did
        not arrive in time. Raises LocalProtocolError for a step at which no rows were posted.
        """
        posted = self._posted.get(at)
        if posted is None or posted.rows is None:
            raise LocalProtocolError(f"rows of {at} are collected before any were posted; messages by edge are read by "
                                     "collect_messages")
        own = posted.rows

        def read(edge: Edge, message: Received) -> Tensor:
            dst, src = edge
            if self.parts is None:
                return message.row(own.dtype, own.shape[1], form=posted.out.codec, beside=own[dst])
            positions = self.parts.positions(dst, src, own.shape[1])
            size = own.shape[1] if positions is None else len(positions)
            return self.parts.fit(dst, src, own[dst], message.row(own.dtype, size, form=posted.out.codec,
                                                                  beside=own[dst]))

        return self._collect(at, read)

    def collect_messages(self, at: Step, read: Read[T]) -> Inbox[T]:
        """Return the values of ``read`` for the messages that arrived at ``at``; missing edges are as in ``collect``.
        """
        return self._collect(at, read)

    def strike(self, edge: Edge, at: Step, reason: str) -> None:
        """Note that the message over ``edge`` (dst, src) was invalid."""
        self.strikes.append((edge, at, reason))

    def _collect(self, at: Step, read: Read[T]) -> Inbox[T]:
        if at not in self._posted:
            raise LocalProtocolError(f"{at} is collected before it was posted")
        posted, dead = self._posted.pop(at), self.dead_at(at)
        graph = self._graph(at)
        verdict = self._verdicts(at, graph)
        came = {(dst, src): message for dst, src in graph.pairs
                if dst not in dead and (message := self._message(at, posted, dst, src)) is not None}
        if self._tap is not None:
            for edge, message in came.items():
                self._tap(at, edge, message)
        values, refused = read_all(came, read, lambda edge, reason: self.strike(edge, at, reason))
        for e, pair in enumerate(graph.pairs):
            if verdict is not None and verdict[e] and pair in values:
                self._postpone(at, posted, pair, values.pop(pair), float(graph.W.weight[e]), int(verdict[e]))
        late = self._arrivals(dead)
        self._exchange += 1
        if self.timeline is not None:
            self.timeline.collect(at)
        return inbox_of(graph.edges, values, late, refused)

    def enter(self, phase: Phase, round: int) -> None:
        """Do nothing: all peers are in one process, and have the same progress."""

    def share(self, parts: Parts) -> None:
        """Exchange these parts of rows from now on."""
        self.parts = parts

    def unreachable(self) -> set[int]:
        """Return nothing: a missing message is the sign of a dead peer."""
        return set()

    def next_round(self, round: int) -> int:
        """Return ``round + 1``: no peer falls behind."""
        return round + 1

    def breaks(self, round: int) -> Breaks:
        """Return the edges to peers that died since the last call. Edges to peers that are back keep their state."""
        dead = self.dead_at(Step(round, 0))
        new, self._broken = dead - self._broken, dead
        pairs = zip(self._static.edges.dst.tolist(), self._static.edges.src.tolist())
        return Breaks(tuple(pair for pair in pairs if new & set(pair)))

    def close(self) -> tuple[Late, ...]:
        """Stop settling late rows: those that have not arrived are lost."""
        self.lost += len(self._way)
        self._way.clear()
        return ()

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Return W rows, (N, D) in the rows' dtype: by flows in exact mode, with faults, parts or codecs.

        Raises LocalProtocolError where the rows of W do not sum to 1: mixed rows would grow or shrink.
        """
        self._timetable.require_average(at)
        if self.exact or codec is not DENSE or self.faults is not None or self.parts is not None:
            return mix_by_flows(self, rows, at, codec)
        dead = self.dead_at(at)
        graph = self._graph(at)
        self._count(at, rows.shape[1] * rows.element_size(), graph, dead)
        if self.timeline is not None:
            self.timeline.collect(at)
        self._exchange += 1
        matrix = graph.matrix(dead, rows.dtype)
        if isinstance(matrix, Tensor):
            return matrix @ rows
        product: np.ndarray = matrix @ rows.numpy()
        return torch.from_numpy(product)

    def _graph(self, at: Step) -> ExchangeGraph:
        t = self._timetable.exchange(at)
        if t is None:
            return self._static
        schedule = self.topology.schedule
        if schedule is not None and schedule.period is not None:
            t %= schedule.period
        if t not in self._graphs:
            self._graphs[t] = ExchangeGraph(self.topology.entries(t, self._counts))
            while len(self._graphs) > 1 and (len(self._graphs) > KEPT or sum(
                    len(graph.W.to) for graph in self._graphs.values()) > KEPT_LINKS):
                self._graphs.popitem(last=False)
        return self._graphs[t]

    def _count(self, at: Step, payload: int, graph: ExchangeGraph, dead: frozenset[int]) -> None:
        sent = graph.sent(dead)
        self.bytes_sent += payload * sent
        self.messages_sent += sent
        if self.timeline is not None:
            W = graph.W.isolated(dead)
            self.timeline.post(at, W.to, W.source, payload)

    def _count_edges(self, at: Step, sizes: Mapping[Edge, int], dead: frozenset[int]) -> None:
        """Count messages by edge (dst, src)."""
        for (_, src), size in sizes.items():
            self.bytes_sent[src] += size * (src not in dead)
            self.messages_sent[src] += src not in dead
        if self.timeline is not None:
            self.timeline.post_each(at, {edge: size for edge, size in sizes.items() if not dead & set(edge)})

    def _verdicts(self, at: Step, graph: ExchangeGraph) -> np.ndarray | None:
        """Return for each directed edge 0: in time, n > 0: late by n exchanges, -1: lost. None: there are no faults."""
        faults = self.faults
        if faults is None or (faults.until is not None and self._exchange >= faults.until):
            return None
        draw = seeding.generator(faults.seed, f"faults.{at.slot}", round=at.round)
        kind, by, twice = draw.random((3, len(graph.pairs)))
        verdict = np.zeros(len(graph.pairs), dtype=np.int64)
        verdict[kind < faults.loss + faults.delay] = 1
        verdict *= 1 + (by * faults.longest).astype(np.int64)
        verdict[kind < faults.loss] = -1
        # The receiver drops a copy by its (sender, step), as in the network: only the message is counted.
        for e in np.flatnonzero(twice < faults.duplication):
            self.messages_sent[graph.pairs[e][1]] += 1
        return verdict

    def _message(self, at: Step, posted: _Posted, dst: int, src: int) -> Received | None:
        """Return the message of ``src`` to ``dst`` at a step; None where there is none."""
        if src not in posted.senders:
            return None
        value: Tensor | Buffer | None = posted.rows[src] if posted.rows is not None else None
        if posted.out.edges is not None:
            value = posted.out.edges.get((src, dst))
        if not isinstance(value, Tensor):
            return None if value is None else Received(src, value)
        if self.parts is not None and posted.rows is not None:
            value = self.parts.cut(src, dst, value)
        form = posted.out.codec
        return Received(src, value if form is DENSE else form.decode(form.encode(value), len(value)))

    def _postpone(self, at: Step, posted: _Posted, pair: Edge, value: object, weight: float, by: int) -> None:
        settle = self.faults is not None and self.faults.settle
        if not 0 <= by < SETTLE_WINDOW or posted.rows is None or not isinstance(value, Tensor) or not settle:
            self.lost += 1
            return
        late = Late(pair, at, weight, posted.rows[pair[0]].clone(), value.clone())
        self._way.append((self._exchange + by, late))

    def _arrivals(self, dead: frozenset[int]) -> tuple[Late, ...]:
        """Return the late rows that are due, in the order of (step, edge); those to dead peers are lost."""
        due = [late for when, late in self._way if when <= self._exchange]
        self._way = [(when, late) for when, late in self._way if when > self._exchange]
        arrived = [late for late in due if late.edge[0] not in dead]
        self.lost += len(due) - len(arrived)
        self.late += len(arrived)
        return in_order(arrived)


def _sizes_of_parts(parts: Parts, rows: Tensor, graph: ExchangeGraph) -> dict[Edge, int]:
    """Return the bytes of a row's parts over each edge (dst, src)."""
    positions = {(dst, src): parts.positions(src, dst, rows.shape[1]) for dst, src in graph.pairs}
    return {edge: rows.element_size() * (rows.shape[1] if some is None else len(some))
            for edge, some in positions.items()}
