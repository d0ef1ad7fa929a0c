"""The simulated time of a run in lock-step, which reports each local step and message as it happens.

Memory and time grow with the links. What is simulated of TCP is its slow start; of the lines, that all messages of a
peer share its line in both directions. Messages that a peer posts together leave side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from p2pser.gossip.mixer import Step
from p2pser.gossip.reading import Edge
from p2pser.graph.sparse import Array, Index
from p2pser.simulation import framing
from p2pser.simulation.clock import Clock

FIRST_WINDOW = 10 * framing.SEGMENT
"""Bytes that TCP sends before the first acknowledgement; twice as many with each round trip."""


class Traffic:
    """Bytes and messages of each peer, as they leave (``network.stream.Traffic``): arrays (N,)."""

    def __init__(self, peers: int) -> None:
        self.sent, self.received = np.zeros(peers, dtype=np.int64), np.zeros(peers, dtype=np.int64)
        self.payload_sent, self.messages_sent = np.zeros(peers, dtype=np.int64), np.zeros(peers, dtype=np.int64)

    def count(self, dst: Index, src: Index, payload: Index) -> None:
        """Count messages, and the credits that answer them."""
        peers, out, back = len(self.sent), framing.sent(payload), framing.credited(payload)
        for whom, sizes, to in ((src, out, self.sent), (dst, out, self.received), (dst, back, self.sent),
                                (src, back, self.received), (src, payload, self.payload_sent)):
            to += np.bincount(whom, sizes, peers).astype(np.int64)
        self.messages_sent += np.bincount(src, minlength=peers)


class Mark(NamedTuple):
    """What each peer has done by a moment of a run, each (N,): the second, and bytes and messages as they leave."""

    now: Array
    sent: Index
    received: Index
    payload_sent: Index
    messages_sent: Index

    @classmethod
    def of(cls, now: Array, traffic: Traffic) -> Mark:
        """Return the present moment."""
        return cls(now.copy(), traffic.sent.copy(), traffic.received.copy(), traffic.payload_sent.copy(),
                   traffic.messages_sent.copy())


class Timeline:
    """The time of each peer, moved on by local steps and exchanges.

    Parameters
    ----------
    clock : what they cost.
    peers : N.
    framed : whether messages have the headers of the wire, beside their payload.
    """

    def __init__(self, clock: Clock, peers: int, *, framed: bool = True) -> None:
        self.clock = clock
        self.now: Array = np.zeros(peers)
        """The second at which each peer has done all that it has begun, (N,)."""
        self.traffic = Traffic(peers)
        self._framed = framed
        self._table = clock.links.table(peers)
        self._free: Array = np.zeros(peers)  # when each line is free to send again
        self._due: dict[Step, Array] = {}
        self._steps: Index = np.zeros(peers, dtype=np.int64)
        self._round = 0

    def begin(self, round: int) -> None:
        """A round begins."""
        self.work()
        self._round = round
        self.now += self.clock.round_s

    def stepped(self, peer: int, step: int = 0) -> None:
        """A peer has taken a local step."""
        self._steps[peer] += 1

    def work(self) -> None:
        """Let the local steps take their time."""
        for peer in np.flatnonzero(self._steps).tolist():
            self.now[peer] += self.clock.compute(peer, self._round, int(self._steps[peer]))
        self._steps[:] = 0

    def post(self, at: Step, dst: Index, src: Index, payload: Index | int) -> None:
        """Peers ``src`` send messages of so many bytes to peers ``dst``, (E,): those of one peer side by side."""
        self.work()
        sizes = np.broadcast_to(np.asarray(payload, dtype=np.int64), dst.shape)
        self.traffic.count(dst, src, sizes)
        table, (latency, rate) = self._table, self._table.of(dst, src)
        size = framing.on_the_line(framing.sent(sizes)).astype(np.float64) if self._framed else sizes.astype(float)
        begun = np.maximum(self._free, self.now)[src]
        leaves = _together(src, size) / table.up[src]
        beside = np.bincount(src, minlength=len(self.now))[src]
        alone = np.minimum(np.minimum(table.up[src] / beside, table.down[dst]), rate)
        leaves = np.maximum(leaves, size / np.minimum(table.down[dst], rate)) + _slow_start(size, alone, 2 * latency)
        came = _received(dst, begun + latency, begun + leaves + latency, size / table.down[dst])
        due = np.full(len(self.now), -np.inf)
        np.maximum.at(due, dst, came)
        self._due[at] = due
        self._free = np.maximum(self._free, np.where(
            np.bincount(src, minlength=len(self.now)) > 0,
            np.maximum(self._free, self.now) + np.bincount(src, size, len(self.now)) / table.up, 0.0))

    def post_each(self, at: Step, sizes: Mapping[Edge, int]) -> None:
        """Send a message of so many bytes over each edge (dst, src)."""
        edges = np.array(list(sizes), dtype=np.int64).reshape(-1, 2)
        self.post(at, edges[:, 0], edges[:, 1], np.array(list(sizes.values()), dtype=np.int64))

    def collect(self, at: Step) -> None:
        """Each peer waits for the messages that it is sent at a step."""
        self.work()
        due = self._due.pop(at, None)
        if due is not None:
            self.now = np.maximum(self.now, due) + self.clock.exchange_s

    def play(self, round: int, exchanges: int, dst: Index, src: Index, payload: int) -> None:
        """Let all edges carry messages of so many bytes in each of a round's exchanges."""
        for slot in range(exchanges):
            self.post(Step(round, slot), dst, src, payload)
            self.collect(Step(round, slot))

    def wait(self, peers: Collection[int], seconds: float) -> None:
        """Let some peers wait, as for a neighbour that they take for lost only then."""
        self.now[list(peers)] += seconds


def _together(group: Index, size: Array) -> Array:
    """Return how much a line has carried when each message has left, where those of a ``group`` share it equally."""
    order = np.lexsort((size, group))
    sorted_group, sizes = group[order], size[order]
    first = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]]) if len(group) else np.zeros(0, int)
    count = np.diff(np.r_[first, len(group)])
    place = np.arange(len(group)) - np.repeat(first, count)
    total = np.cumsum(sizes)
    before = total - sizes - np.repeat((total - sizes)[first], count)
    carried = np.empty_like(size)
    carried[order] = before + sizes * (np.repeat(count, count) - place)
    return carried


def _received(dst: Index, begins: Array, ends: Array, takes: Array) -> Array:
    """Return when the receiver's line can have carried each message at the earliest.

    begins, ends : when its first and last byte would come over a free line. takes : the seconds that it keeps the line
    busy. From a message on, the line carries all that begin after it.
    """
    order = np.lexsort((-begins, dst))
    sorted_dst, seconds = dst[order], takes[order]
    first = np.flatnonzero(np.r_[True, sorted_dst[1:] != sorted_dst[:-1]]) if len(dst) else np.zeros(0, int)
    count = np.diff(np.r_[first, len(dst)])
    total = np.cumsum(seconds)
    after = total - np.repeat((total - seconds)[first], count)
    came = np.empty_like(begins)
    came[order] = begins[order] + after
    return np.maximum(came, ends)


def _slow_start(size: Array, rate: Array, round_trip: Array) -> Array:
    """Return the seconds for which a line waits for TCP's acknowledgements at the beginning of messages."""
    waits, sent, window = np.zeros_like(size), np.zeros_like(size), float(FIRST_WINDOW)
    while True:
        more = (sent + window < size) & (window < rate * round_trip)
        if not more.any():
            return waits
        waits[more] += round_trip[more] - window / rate[more]
        sent[more] += window
        window *= 2
