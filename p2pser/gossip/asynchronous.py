"""Gossip without common rounds: one peer, messages in, messages out.

Beside ``Mixer`` this is the second protocol of gossip algorithms. A peer does not wait for the rounds of other peers:
it trains, exchanges after each round of local steps, and answers messages between local steps. The module holds no
socket, thread or clock: the network's queue or the simulator's event heap drives an ``AsynchronousPeer`` and carries
its messages, which may be lost, duplicated, delayed and reordered.

**Staleness** is counted in a peer's own rounds, from the reading of a row to the moment at which a result of that row
is applied to the peer's model; the clocks of different peers are never compared. An exchange staler than ``bound``
rounds is not applied.

All memory of a peer is in its ``State`` of one row, which checkpoints contain; the algorithm itself has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Step
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology
from p2pser.wire.codec import DENSE, Received
from p2pser.wire.messages import Buffer

KINDS = 8
"""A message's slot is attempt * KINDS + kind."""
STALENESS, REFUSED, DRIFT = "staleness", "refused", "drift"
"""Rows of the accounting: histogram (1, bound + 1) int64, exchanges refused (1, 1) int64, drift (1, 1) float64."""


class MessageKind(IntEnum):
    """The kinds of messages."""

    PUSH = 0
    REQUEST = 1
    REPLY = 2
    WITHDRAW = 3
    REFUSAL = 4


@dataclass(frozen=True)
class Message:
    """A message from ``src`` to ``dst``: a ROW on the wire, whose header's step is ``step``.

    number: the initiator's completed rounds when the exchange began, from 1 on; a reply has the request's number.
    attempt: the count of retransmissions, so that each has its own step (links drop duplicates of a step). payload:
    the row, ``size`` numbers in the form ``codec``; empty for kinds without a row.
    """

    src: int
    dst: int
    kind: MessageKind
    number: int
    attempt: int = 0
    payload: Buffer = b""
    codec: str = ""
    size: int = 0

    @property
    def step(self) -> Step:
        """The message's position on a link: (round after which the exchange began, attempt * KINDS + kind)."""
        return Step(self.number - 1, self.attempt * KINDS + self.kind)

    def with_row(self, row: Tensor) -> Message:
        """Return the message with ``row`` (D,) as its payload; the row must not change afterwards."""
        return replace(self, payload=DENSE.encode(row), codec=DENSE.wire_name(row), size=row.numel())

    def row(self, like: Tensor, largest: float | None = None) -> Tensor:
        """Return the payload as a row (1, D) like ``like`` (1, D).

        largest : magnitude of the largest number that it may hold; default: what is plausible beside ``like``. Raises
        RemoteProtocolError where it is no such row.
        """
        message = Received(self.src, self.payload, self.codec, self.size)
        if largest is None:
            return message.row(like.dtype, like.shape[1], beside=like[0])[None]
        return message.row(like.dtype, like.shape[1], largest=largest)[None]


def received(src: int, dst: int, step: Step, payload: Buffer, form: str, size: int) -> Message:
    """Return the message in a ROW from ``src``; RemoteProtocolError where its slot contains no known kind."""
    attempt, kind = divmod(step.slot, KINDS)
    if kind not in {*MessageKind}:
        raise RemoteProtocolError(f"peer {src} sent a message of kind {kind}, unknown to this version", src)
    return Message(src, dst, MessageKind(kind), step.round + 1, attempt, payload, form, size)


@dataclass(frozen=True)
class Place:
    """A peer's id, its living neighbours (ascending), and the run's seed."""

    peer: int
    neighbours: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Staleness:
    """The number of exchanges applied at a staleness of 0, 1, … ``bound`` rounds."""

    histogram: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean staleness in rounds; 0 without any exchange."""
        return sum(s * n for s, n in enumerate(self.histogram)) / max(1, sum(self.histogram))

    @property
    def max(self) -> int:
        """The largest staleness in rounds."""
        return max((s for s, n in enumerate(self.histogram) if n), default=0)


@dataclass(frozen=True, kw_only=True)
class Asynchronous(Algorithm):
    """An algorithm without common rounds, as seen by one peer. ``state`` has one row (B = 1).

    Methods that return messages may return an empty list. ``clock`` is the number of the peer's completed rounds.
    """

    asynchronous: ClassVar[bool] = True

    bound: int
    """largest staleness in rounds at which an exchange is applied"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse directed graphs, schedules, clip weights and a negative bound."""
        if topology.schedule is not None:
            raise ConfigError(f"{self.name} exchanges in both directions at any time, and the topology "
                              f"{topology.name!r} is directed or has a schedule: take a static undirected graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError(f"{self.name} counts every peer the same, and gossip.weighting is "
                              f"{config.gossip.weighting}: set gossip.weighting=uniform")
        if self.bound < 0:
            raise ConfigError(f"gossip.parameters.bound = {self.bound}: a staleness bound is 0 or more rounds")
        return ()

    def enter(self, state: State, place: Place, clock: int) -> None:
        """Add the algorithm's rows and edges that ``state`` lacks; after a resume, discard what neighbours forgot.

        All peers (re)start at round ``clock``: exchanges with larger numbers are undone.
        """
        state.rows.setdefault(STALENESS, torch.zeros(1, self.bound + 1, dtype=torch.int64))
        state.rows.setdefault(REFUSED, torch.zeros(1, 1, dtype=torch.int64))
        state.rows.setdefault(DRIFT, torch.zeros(1, 1, dtype=torch.float64))

    def trained(self, state: State, place: Place, clock: int, change: Tensor) -> None:
        """Add the change (1, D) of a round of local steps, the ``clock``-th, to the present model."""
        state.rows["x"] = state.rows["x"] + change

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        """Return the messages that follow a round of local steps, the ``clock``-th."""
        raise TypeError(f"{type(self).__name__} does not exchange")

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        """Handle a message and return the answers. Raises RemoteProtocolError for a message of another form."""
        raise TypeError(f"{type(self).__name__} receives nothing")

    def open(self, state: State, place: Place) -> dict[int, int]:
        """Return the exchanges without an answer: {neighbour: number}."""
        return {}

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        """Return messages that may have been lost, for open exchanges and after the last round."""
        return []

    def gone(self, state: State, place: Place, neighbour: int) -> None:
        """Go on without a neighbour that is lost, which may come back with its memory: wait for no answer of it."""

    def renewed(self, state: State, place: Place, neighbour: int, clock: int) -> None:
        """Forget the memory of the edge to a neighbour that begins afresh."""
        state.edges = {edge: kept for edge, kept in state.edges.items() if edge != (place.peer, neighbour)}

    def refused(self, state: State, place: Place, neighbour: int) -> None:
        """Wait no more for the answer of a neighbour whose message was not what is due."""

    def refuse(self, state: State, place: Place, message: Message) -> list[Message]:
        """Return what tells the sender of a message that does not fit that no answer will come."""
        return []

    def close(self, state: State, place: Place, clock: int) -> None:
        """End the run: apply what the bound allows, count the rest as drift."""

    def count(self, state: State, staleness: int) -> None:
        """Count an exchange of this staleness. Raises LocalProtocolError beyond the bound."""
        if not 0 <= staleness <= self.bound:
            raise LocalProtocolError(f"{self.name} applied an exchange of staleness {staleness}, beyond {self.bound}")
        histogram = state.rows[STALENESS].clone()
        histogram[0, staleness] += 1
        state.rows[STALENESS] = histogram


def is_asynchronous(algorithm: Algorithm) -> TypeGuard[Asynchronous]:
    """Whether an algorithm has no common rounds, and runs in an ``AsynchronousPeer``."""
    return algorithm.asynchronous


def staleness(state: State) -> Staleness:
    """Return the staleness of the exchanges that a peer applied."""
    return Staleness(tuple(state.rows[STALENESS][0].tolist()))


def keep(state: State, edge: Edge, **values: Tensor | None) -> None:
    """Set values of an edge (None deletes one), in a new mapping: snapshots of the state keep the old one."""
    merged = {**state.edges.get(edge, {}), **values}
    state.edges = {**state.edges, edge: {name: value for name, value in merged.items() if value is not None}}


class AsynchronousPeer:
    """One peer of an asynchronous run: its state, its clock and its living neighbours.

    A driver repeats, while not ``held``: ``begin``, local steps from the returned row (messages may arrive meanwhile),
    ``end``. start: the round at which the run begins or resumes.
    """

    def __init__(self, algorithm: Asynchronous, state: State, place: Place, start: int = 0) -> None:
        self.algorithm, self.state, self.place, self.clock = algorithm, state, place, start
        self.start: Tensor | None = None
        """The row (1, D) from which the current local steps started; None between rounds."""
        algorithm.enter(state, place, start)

    @property
    def held(self) -> bool:
        """Whether another round would make an open exchange staler than the bound: the peer waits for its answer."""
        return any(self.clock - number >= self.algorithm.bound for number in self.open.values())

    @property
    def open(self) -> dict[int, int]:
        """Return the exchanges without an answer: {neighbour: number}."""
        return self.algorithm.open(self.state, self.place)

    def begin(self) -> Tensor:
        """Begin a round of local steps; return the row (1, D) that they start from."""
        if self.held:
            raise LocalProtocolError(f"peer {self.place.peer} trains although an exchange waits at the bound")
        self.start = self.algorithm.model(self.state).clone()
        return self.start

    def end(self, trained: Tensor) -> list[Message]:
        """End the local steps at ``trained`` (1, D): their change is added to the present model. Return messages."""
        if self.start is None:
            raise LocalProtocolError("a round ended before it began")
        change, self.start = trained - self.start, None
        self.clock += 1
        self.algorithm.trained(self.state, self.place, self.clock, change)
        return self.algorithm.ready(self.state, self.place, self.clock)

    def train(self, local: Local) -> list[Message]:
        """Run a whole round; ``local`` may deliver messages between its steps. Return messages."""
        return self.end(local.train(self.state, self.clock, rows=self.begin()))

    def receive(self, message: Message) -> list[Message]:
        """Handle a message, unless its sender is lost, and return the answers.

        Raises RemoteProtocolError for a message of another form.
        """
        if message.dst != self.place.peer:
            raise LocalProtocolError(f"peer {self.place.peer} received a message for peer {message.dst}")
        if message.src not in self.place.neighbours:
            return []
        try:
            return self.algorithm.receive(self.state, self.place, self.clock, message)
        except RemoteProtocolError:
            self.algorithm.refused(self.state, self.place, message.src)
            raise

    def refuse(self, message: Message) -> list[Message]:
        """Return the answers to a message that ``receive`` could not read."""
        return self.algorithm.refuse(self.state, self.place, message)

    def remind(self) -> list[Message]:
        """Return messages that may have been lost."""
        return self.algorithm.remind(self.state, self.place, self.clock)

    def gone(self, neighbour: int) -> None:
        """Go on without a neighbour."""
        if neighbour in self.place.neighbours:
            self.place = replace(self.place, neighbours=tuple(j for j in self.place.neighbours if j != neighbour))
            self.algorithm.gone(self.state, self.place, neighbour)

    def renewed(self, neighbour: int) -> None:
        """Go on without a neighbour that begins afresh, until it is back."""
        self.gone(neighbour)
        self.algorithm.renewed(self.state, self.place, neighbour, self.clock)

    def back(self, neighbour: int) -> None:
        """Exchange with a neighbour again."""
        self.place = replace(self.place, neighbours=tuple(sorted({*self.place.neighbours, neighbour})))

    def close(self) -> None:
        """End the run."""
        self.algorithm.close(self.state, self.place, self.clock)

    def report(self) -> dict[str, Any]:
        """Return staleness, refusals, open exchanges and drift as plain data."""
        stale = staleness(self.state)
        return {"staleness": {"mean": stale.mean, "max": stale.max, "histogram": list(stale.histogram),
                              "bound": self.algorithm.bound},
                "refused": int(self.state.rows[REFUSED]), "open": len(self.open),
                "drift": float(self.state.rows[DRIFT])}
