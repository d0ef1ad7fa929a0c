"""The final consensus: accelerated gossip in float64 until every reachable peer knows that all agree.

float32 stalls between 1e-6 and 1e-4 of relative difference; plain gossip on a ring of 20 takes hundreds of
exchanges where the Chebyshev form takes about 50.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from p2pser.gossip.agreement.flood import ordered, without
from p2pser.gossip.agreement.stopping import (
    Agreement,
    Reach,
    Trailer,
    decode_trailer,
    encode_trailer,
    living_diameter,
    most_bytes,
)
from p2pser.gossip.mixer import BLOCK, Inbox, Mixer, Outbox, Step, add_flow_
from p2pser.gossip.partial import Parts
from p2pser.gossip.reading import Edge
from p2pser.graph.mixing import metropolis_entries
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import slem as slem_of
from p2pser.wire.codec import Received, codec, magnitude, plausible
from p2pser.wire.messages import Buffer

Measure: TypeAlias = Callable[[Tensor, Tensor], float]
"""(own row, a neighbour's row), both (D,) float64 -> their difference, relative."""

Check: TypeAlias = Callable[[int, Edge, Tensor], str]
"""(exchange, edge, the row that came over it) -> why it is refused, "" where it is not."""

Answer: TypeAlias = tuple[Tensor, Trailer]
"""A neighbour's row in an exchange, and its trailer."""

_F8 = codec("f8")
_BYTES = 8
MOST_EXCHANGES = 2000
"""After so many exchanges a consensus is given up, unless its caller says otherwise."""
_ROOM = 1024
"""Bytes behind a row in memory, where a trailer of at most so many is written."""


@dataclass(frozen=True)
class Consensus:
    """The end of a consensus. rows: (B, D) float64, of the same exchange at all peers."""

    rows: Tensor
    distance: float
    """Bound on the relative difference between any two reachable peers (diameter * largest edge difference)."""
    exchanges: int
    """Exchanges until the last hosted peer ended."""
    dead: tuple[int, ...]
    """Peers that the first hosted peer could not reach at the end."""
    converged: bool
    sought: bool = True
    """Whether the peers sought one model; False: each keeps its own."""


def no_consensus(rows: Tensor, dead: tuple[int, ...] = ()) -> Consensus:
    """Return the end of a run without consensus: each peer keeps its row of ``rows`` (B, D); the distance is NaN."""
    return Consensus(rows.to(torch.float64), math.nan, 0, dead, False, sought=False)


def relative_norm(own: Tensor, other: Tensor) -> float:
    """Return ||x_i - x_j|| / ||x_i|| (0 for two rows of zeros), without a third row."""
    difference = math.hypot(*(float(torch.linalg.vector_norm(own[at : at + BLOCK] - other[at : at + BLOCK]))
                              for at in range(0, own.numel(), BLOCK)))
    return difference / max(float(torch.linalg.vector_norm(own)), 1e-300) if difference else 0.0


def chebyshev(omega: float, slem: float, k: int) -> float:
    """Return the weight omega_{k+1} of y_{k+1} = omega (W y_k - y_{k-1}) + y_{k-1}, from omega_k.

    omega_1 = 1 (a plain exchange), omega_2 = 1 / (1 - slem^2 / 2), omega_{k+1} = 1 / (1 - slem^2 omega_k / 4)
    (Golub and Varga 1961, "Chebyshev semi-iterative methods", eq. 2.9). slem 0 or >= 1: always 1.
    """
    if k == 0 or not 0 < slem < 1:
        return 1.0
    return 1 / (1 - slem**2 / 2) if k == 1 else 1 / (1 - slem**2 * omega / 4)


def living_slem(
    topology: Topology, counts: Mapping[int, int] | None, cut: Collection[tuple[int, int]], peer: int,
    groups: Collection[frozenset[int]] = (),
) -> float:
    """Return the slem of the mixing matrix of the peers that ``peer`` can reach, without the cut edges.

    groups: sets of peers that alone exchange some entries of the rows (``Parts.groups``); then the largest slem, of
    the groups by themselves too. Raises TopologyError for counts that do not fit.
    """
    reached = nx.node_connected_component(without(topology.graph, cut), peer)
    largest = _slem_of_part(topology, counts, cut, peer)
    for group in groups:
        apart = {ordered(i, j) for i, j in topology.graph.edges if not {i, j} <= group} | set(cut)
        for part in nx.connected_components(without(topology.graph, apart).subgraph(reached & group)):
            largest = max(largest, _slem_of_part(topology, counts, apart, min(part)))
    return largest


def _slem_of_part(
    topology: Topology, counts: Mapping[int, int] | None, cut: Collection[tuple[int, int]], peer: int
) -> float:
    W = metropolis_entries(topology.graph, counts).without(cut)
    part = sorted(nx.node_connected_component(without(topology.graph, cut), peer))
    pi = None if counts is None else np.array([float(counts[i]) for i in part])
    return slem_of(W if len(part) == W.size else W.part(part), pi)


def consensus(
    mixer: Mixer, rows: Tensor, round: int, topology: Topology, tolerance: float, *, slem: float,
    max_exchanges: int = MOST_EXCHANGES, weights: Callable[[int, int], float] | None = None,
    measure: Measure = relative_norm,
    cut: Collection[tuple[int, int]] = (), observe: Callable[[int, Tensor], None] | None = None,
    parts: Parts | None = None, largest: float | None = None, check: Check = lambda exchange, edge, row: "",
) -> Consensus:
    """Gossip rows to one row, the mean that the mixing matrix conserves, at Step(round, 0), Step(round, 1), …

    Ends when all reachable peers know that any two of them differ by at most ``tolerance``, or after
    ``max_exchanges``. ``slem`` and ``cut`` must be equal on all peers; a slem that is too small, since an edge was cut
    meanwhile, makes the consensus slower, not wrong.

    Parameters
    ----------
    mixer, round : carries the messages, in exchanges of this round.
    rows : (B, D), the hosted rows; they are not changed.
    topology : the run's topology, whose undirected graph is used.
    tolerance : largest relative difference between any two peers; never less than float64 allows.
    slem : of the mixing matrix without the cut edges (``living_slem``), for the Chebyshev acceleration.
    max_exchanges : the limit, at which the result has ``converged=False``.
    weights : replaces the mixer's W_ij; symmetric weights give the plain mean whatever the mixer's weighting.
    measure : the difference of two rows.
    cut : edges known as cut (``flood.agree_on_cuts``).
    observe : called as observe(k, y) with the rows (B, D) before exchange k.
    parts : the parts of rows that peers exchange (None: whole rows). The holders of an entry then end with its mean
        over them, and ``parts`` measures differences.
    largest, check : the largest number that a row may hold (default: ``reading.plausible``), and what else is asked.
    """
    graph, y = topology.graph, _Framed(rows)
    groups = parts.groups() if parts is not None else ()
    reach = Reach(graph, groups)
    measures = {i: measure if parts is None else parts.measure(i) for i in mixer.peers}
    diameter = max(1, living_diameter(graph, cut, groups))
    within = max(tolerance, 32 * diameter * np.finfo(np.float64).eps.item())
    nodes = [Agreement(peer, reach, within, frozenset(cut)) for peer in mixer.peers]
    running, at_row = dict(enumerate(nodes)), {peer: b for b, peer in enumerate(mixer.peers)}
    previous, omega, exchange = y, 1.0, 0
    for exchange in range(max_exchanges):
        if observe is not None:
            observe(exchange, y.rows)
        trailers_of = {node.peer: encode_trailer(node.trailer(exchange), len(graph)) for node in running.values()}
        mixer.post(Step(round, exchange), Outbox(edges=_messages(y, at_row, trailers_of, graph, parts)))
        running = {b: node for b, node in running.items() if node.adopted is None}
        if not running:
            break
        read = _Reader(y.rows, at_row, graph, exchange, {n.peer: n for n in running.values()}, parts, largest, check)
        inbox = mixer.collect_messages(Step(round, exchange), read)
        mixed, theirs = _mixed(y, inbox, at_row, weights)
        if exchange % math.ceil(diameter / 2) == 0:
            worst = _worst(y.rows, theirs, at_row, measures)
            for b, node in running.items():
                node.start(exchange, worst[b], y.rows[b])
        _note(running, inbox.missing, {edge: trailer for edge, (_, trailer) in theirs.items()}, at_row)
        del read, inbox, theirs  # the neighbours' rows: the next exchange needs the memory
        omega = chebyshev(omega, slem, exchange)
        y, previous = mixed if exchange == 0 else mixed.accelerated_(previous, omega), y
        for b, node in running.items():
            node.decide(exchange, y.rows[b])
    return _result(y.rows, nodes, reach, graph, exchange + 1)


class _Framed:
    """A copy of rows (B, D) in float64, each with room for a trailer: a message is made where the row is.

    The rows must not change once a message was made: it may be on its way still.
    """

    def __init__(self, rows: Tensor) -> None:
        count, self._size = rows.shape
        self._memory = torch.empty(count, self._size + _ROOM // _BYTES, dtype=torch.float64)
        self.rows = self._memory[:, : self._size].copy_(rows)

    def accelerated_(self, previous: _Framed, omega: float) -> _Framed:
        """Turn W y into omega (W y - previous) + previous, in place; return itself."""
        self.rows.sub_(previous.rows).mul_(omega).add_(previous.rows)
        return self

    def message(self, b: int, trailer: bytes) -> Buffer:
        """Return the message of the ``b``-th row: its bytes, and the trailer."""
        octets = self._memory[b].numpy().astype("<f8", copy=False).data.cast("B")
        end = _BYTES * self._size + len(trailer)
        if end > len(octets):
            return b"".join((octets[: _BYTES * self._size], trailer))
        octets[_BYTES * self._size : end] = trailer
        return octets[:end].toreadonly()


def _mixed(y: _Framed, inbox: Inbox[Answer | None], at_row: Mapping[int, int],
           weights: Callable[[int, int], float] | None) -> tuple[_Framed, dict[Edge, Answer]]:
    """Return rows y (B, D) after an exchange, and what the neighbours of the running peers sent, by edge."""
    mixed, theirs = _Framed(y.rows), {}
    for dst, src, weight, value in zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.weight.tolist(), inbox.values):
        if value is not None:
            b, theirs[dst, src] = at_row[dst], value
            add_flow_(mixed.rows[b], y.rows[b], value[0], weight if weights is None else weights(dst, src))
    return mixed, theirs


def _worst(y: Tensor, theirs: Mapping[Edge, Answer], at_row: Mapping[int, int],
           measures: Mapping[int, Measure]) -> list[float]:
    """Return the largest difference of each hosted row (B, D) from a row of a neighbour."""
    worst = [0.0] * len(at_row)
    for (dst, _), (value, _) in theirs.items():
        b = at_row[dst]
        worst[b] = max(worst[b], _checked(measures[dst](y[b], value)))
    return worst


def _note(running: Mapping[int, Agreement], missing: Sequence[Edge], trailers: Mapping[Edge, Trailer],
          at_row: Mapping[int, int]) -> None:
    """Tell the running peers, by row, which neighbours are lost and what the others know."""
    for dst, src in missing:
        if at_row[dst] in running:
            running[at_row[dst]].lost(src)
    for (dst, src), trailer in trailers.items():
        running[at_row[dst]].merge(trailer, src)


def _result(y: Tensor, nodes: Sequence[Agreement], reach: Reach, graph: nx.Graph, exchanges: int) -> Consensus:
    """Return the consensus of the hosted peers after the last exchange, with rows y (B, D)."""
    reachable = reach.of(nodes[0].peer, nodes[0].cut)[0] | nodes[0].covered
    return Consensus(
        rows=torch.stack([y[b] if node.adopted is None else node.adopted for b, node in enumerate(nodes)]),
        distance=max(node.bound for node in nodes),
        exchanges=exchanges,
        dead=tuple(i for i in sorted(graph) if not reachable >> i & 1),
        converged=all(node.agreed for node in nodes),
    )


def _checked(difference: float) -> float:
    """Return inf for NaN: a row that is not finite is infinitely far from all others."""
    return difference if difference == difference else math.inf


def _messages(
    y: _Framed, at_row: Mapping[int, int], trailers: Mapping[int, bytes], graph: nx.Graph, parts: Parts | None
) -> dict[tuple[int, int], Buffer]:
    """Return the message of each running peer to each neighbour; neighbours of equal width get the same object."""
    messages: dict[tuple[int, int], Buffer] = {}
    for i, trailer in trailers.items():
        encoded: dict[float, Buffer] = {}
        for j in sorted(graph[i]):
            kind = 1.0 if parts is None else parts.widths[j]
            if kind not in encoded:
                b = at_row[i]
                encoded[kind] = y.message(b, trailer) if parts is None else \
                    _Framed(parts.cut(i, j, y.rows[b])[None]).message(0, trailer)
            messages[i, j] = encoded[kind]
    return messages


class _Reader:
    """Reads the messages of one exchange: a row and its trailer; None for a peer that takes no part any more.

    running : the peers that do, by id. Other parameters: see ``consensus``.
    """

    def __init__(self, y: Tensor, at_row: Mapping[int, int], graph: nx.Graph, exchange: int,
                 running: Mapping[int, Agreement], parts: Parts | None, largest: float | None, check: Check) -> None:
        self._check = check
        self._y, self._at_row, self._graph, self._exchange = y, at_row, graph, exchange
        self._running, self._parts = running, parts
        self._limits = {i: plausible(magnitude(y[at_row[i]])) if largest is None else largest for i in running}
        self._longest_trailer = most_bytes(graph)
        self._decoded: dict[int, tuple[Answer, float]] = {}

    def __call__(self, edge: Edge, message: Received) -> Answer | None:
        dst, src = edge
        if dst not in self._running:
            return None
        own, parts = self._y[self._at_row[dst]], self._parts
        positions = None if parts is None else parts.positions(dst, src, own.numel())
        size = own.numel() if positions is None else len(positions)
        key = id(message.body)
        if key not in self._decoded:  # a peer sends the same bytes to all neighbours of equal width
            self._decoded[key] = self._decode(message, size)
        (row, trailer), largest = self._decoded[key]
        if not largest <= self._limits[dst]:
            raise message.refused(f"a row that is not plausible in exchange {self._exchange} of the consensus")
        if why := self._check(self._exchange, edge, row):
            raise message.refused(why)
        self._running[dst].check(trailer, src)
        return (row if parts is None else parts.fit(dst, src, own, row)), trailer

    def _decode(self, message: Received, size: int) -> tuple[Answer, float]:
        """Return the row of ``size`` numbers and the trailer of a message, and the row's magnitude."""
        view = memoryview(message.octets(_BYTES * size + self._longest_trailer))
        if len(view) <= _BYTES * size:
            raise message.refused(f"{len(view)} bytes in exchange {self._exchange} of the consensus, too few for a row "
                                  f"of {size} and its trailer")
        row = _F8.decode(view[: _BYTES * size], size)
        trailer = decode_trailer(view[_BYTES * size :], self._graph, self._exchange, message.sender)
        return (row, trailer), magnitude(row)
