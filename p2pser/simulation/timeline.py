"""The simulated time of a run in lock-step, which reports each local step and message as it happens.

Memory and time grow with the links. TCP is simulated by its slow start, and lines by their capacity, which all messages
of a peer share in each direction. Messages that a peer posts together leave in parallel.
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
    """Bytes and messages of each peer, counted when they are sent (as ``network.stream.Traffic``): arrays (N,)."""

    def __init__(self, peers: int) -> None:
        self.sent, self.received = np.zeros(peers, dtype=np.int64), np.zeros(peers, dtype=np.int64)
        self.payload_sent, self.messages_sent = np.zeros(peers, dtype=np.int64), np.zeros(peers, dtype=np.int64)

    def count(self, dst: Index, src: Index, payload: Index) -> None:
        """Count messages, and the credits that answer them."""
        peers, out, back = len(self.sent), framing.sent(payload), framing.credited(payload)
        for peer, sizes, to in ((src, out, self.sent), (dst, out, self.received), (dst, back, self.sent),
                                (src, back, self.received), (src, payload, self.payload_sent)):
            to += np.bincount(peer, sizes, peers).astype(np.int64)
        self.messages_sent += np.bincount(src, minlength=peers)


class Mark(NamedTuple):
    """Each peer's time [s] and traffic at a moment of a run, each (N,)."""

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
    """The time of each peer, which local steps and exchanges advance.

    Parameters
    ----------
    clock : their time.
    peers : N.
    framed : whether messages have the headers of the wire, beside their payload.
    """

    def __init__(self, clock: Clock, peers: int, *, framed: bool = True) -> None:
        self.clock = clock
        self.now: Array = np.zeros(peers)
        """The second at which each peer has finished all that it has begun, (N,)."""
        self.traffic = Traffic(peers)
        self._framed = framed
        self._table = clock.links.table(peers)
        self._free: Array = np.zeros(peers)  # when each line is free to send again
        self._due: dict[Step, Array] = {}
        self._steps: Index = np.zeros(peers, dtype=np.int64)
        self._round = 0

    def begin(self, round: int) -> None:
        """Begin a round."""
        self.work()
        self._round = round
        self.now += self.clock.round_s

    def stepped(self, peer: int, step: int = 0) -> None:
        """Count a local step of a peer."""
        self._steps[peer] += 1

    def work(self) -> None:
        """Advance the time by the counted local steps."""
        for peer in np.flatnonzero(self._steps).tolist():
            self.now[peer] += self.clock.compute(peer, self._round, int(self._steps[peer]))
        self._steps[:] = 0

    def post(self, at: Step, dst: Index, src: Index, payload: Index | int) -> None:
        """Send messages from peers ``src`` to peers ``dst``, (E,), those of a peer in parallel.

        Parameters
        ----------
        at : the step.
        dst, src : (E,), the ends of each message.
        payload : bytes of all messages, or of each, (E,).
        """
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
        """Send a message over each edge (dst, src) of ``sizes``, which has its bytes."""
        edges = np.array(list(sizes), dtype=np.int64).reshape(-1, 2)
        self.post(at, edges[:, 0], edges[:, 1], np.array(list(sizes.values()), dtype=np.int64))

    def collect(self, at: Step) -> None:
        """Let each peer wait for the messages that it receives at a step."""
        self.work()
        due = self._due.pop(at, None)
        if due is not None:
            self.now = np.maximum(self.now, due) + self.clock.exchange_s

    def play(self, round: int, exchanges: int, dst: Index, src: Index, payload: int) -> None:
        """Send a message of ``payload`` bytes over each edge (``dst``, ``src``) in each of a round's exchanges."""
        for slot in range(exchanges):
            self.post(Step(round, slot), dst, src, payload)
            self.collect(Step(round, slot))

    def wait(self, peers: Collection[int], seconds: float) -> None:
        """Let some peers wait, as for the time-out of a dead neighbour."""
        self.now[list(peers)] += seconds


def _together(group: Index, size: Array) -> Array:
    """Return the bytes that a line has carried when each message has left; those of a ``group`` share it equally."""
    order = np.lexsort((size, group))
    sizes = size[order]
    first, count = _runs(group[order])
    place = np.arange(len(group)) - np.repeat(first, count)
    total = np.cumsum(sizes)
    before = total - sizes - np.repeat((total - sizes)[first], count)
    carried = np.empty_like(size)
    carried[order] = before + sizes * (np.repeat(count, count) - place)
    return carried


def _received(dst: Index, begins: Array, ends: Array, takes: Array) -> Array:
    """Return the earliest second at which the receiver's line can have carried each message.

    Parameters
    ----------
    dst : the receiver of each message.
    begins, ends : the seconds at which its first and last byte would arrive over a free line.
    takes : the seconds for which it occupies the line. After a message begins, the line carries all that begin later.
    """
    order = np.lexsort((-begins, dst))
    seconds = takes[order]
    first, count = _runs(dst[order])
    total = np.cumsum(seconds)
    after = total - np.repeat((total - seconds)[first], count)
    came = np.empty_like(begins)
    came[order] = begins[order] + after
    return np.maximum(came, ends)


def _runs(ordered: Index) -> tuple[Index, Index]:
    """Return the start and the length of each run of equal values."""
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)
    return first, np.diff(np.r_[first, len(ordered)])


def _slow_start(size: Array, rate: Array, round_trip: Array) -> Array:
    """Return the seconds for which each message waits for TCP's acknowledgements in slow start."""
    waits, sent, window = np.zeros_like(size), np.zeros_like(size), float(FIRST_WINDOW)
    while True:
        more = (sent + window < size) & (window < rate * round_trip)
        if not more.any():
            return waits
        waits[more] += round_trip[more] - window / rate[more]
        sent[more] += window
        window *= 2
