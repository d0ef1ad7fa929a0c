"""Gossip without lock-step: one peer, messages in, messages out.

The other protocol beside ``Mixer``. Nobody waits for a round of the others: a peer trains, says ``ready`` when it has
finished a round of local steps, and answers what comes between local steps. No socket, thread or clock is in here: the
network's queue or the simulator's event heap drives a ``Node`` and carries its messages, which may be lost, doubled,
delayed and reordered.

**Staleness** is counted in a peer's own rounds, between the reading of a row and the moment at which what was derived
from it is applied there; clocks of different peers are never compared. Nothing staler than ``bound`` is applied.

What a peer remembers is a ``State`` of one row (checkpoints hold it), nothing is kept in the algorithm.
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
from p2pser.gossip.mixer import Edge, Step
from p2pser.topology.spec import Topology
from p2pser.wire.codec import DENSE, codec
from p2pser.wire.messages import Buffer

KINDS = 8
"""Slots of a step are counted by attempts of KINDS kinds each."""
STALENESS, REFUSED, DRIFT = "staleness", "refused", "drift"
"""Rows of the accounting: histogram (1, bound + 1) int64, exchanges refused (1, 1) int64, drift (1, 1) float64."""


class Kind(IntEnum):
    """What a message is."""

    PUSH = 0
    REQUEST = 1
    REPLY = 2
    WITHDRAW = 3
    REFUSAL = 4


@dataclass(frozen=True)
class Message:
    """A message from ``src`` to ``dst``: a ROW on the wire, whose header's step is ``step``.

    number: rounds done when its exchange began, by the clock of who began it (a reply has the request's), from 1 on.
    attempt: counts sendings of the same, so that each has its own step: links drop copies of a step. payload: the row
    in the form ``codec``, ``size`` numbers; empty where the kind says all.
    """

    src: int
    dst: int
    kind: Kind
    number: int
    attempt: int = 0
    payload: Buffer = b""
    codec: str = ""
    size: int = 0

    @property
    def step(self) -> Step:
        """Where it stands among the messages of a link: (round after which it began, attempt * KINDS + kind)."""
        return Step(self.number - 1, self.attempt * KINDS + self.kind)

    def with_row(self, row: Tensor) -> Message:
        """Return the message with ``row`` (D,) as its payload; the row must not change afterwards."""
        return replace(self, payload=DENSE.encode(row), codec=DENSE.wire_name(row), size=row.numel())

    def row(self, like: Tensor) -> Tensor:
        """Return the payload as a row (1, D) in the dtype of ``like`` (1, D).

        Raises RemoteProtocolError where it is none of that size.
        """
        if self.size != like.shape[1]:
            raise RemoteProtocolError(f"peer {self.src} sent a row of {self.size} numbers instead of {like.shape[1]}; "
                                      "the peers run different models or algorithms", self.src)
        return codec(self.codec).decode(self.payload, self.size)[None].to(like.dtype)


def received(src: int, dst: int, step: Step, payload: Buffer, form: str, size: int) -> Message:
    """Return the message of a ROW that came from ``src``; RemoteProtocolError where its slot names no kind."""
    attempt, kind = divmod(step.slot, KINDS)
    if kind not in {*Kind}:
        raise RemoteProtocolError(f"peer {src} sent a message of kind {kind}, unknown to this version", src)
    return Message(src, dst, Kind(kind), step.round + 1, attempt, payload, form, size)


@dataclass(frozen=True)
class Place:
    """Where a peer is: its id, its living neighbours (ascending), and the run's seed."""

    peer: int
    neighbours: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Staleness:
    """How many exchanges were applied at a staleness of 0, 1, … ``bound`` rounds."""

    histogram: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean staleness in rounds; 0 where nothing was applied."""
        return sum(s * n for s, n in enumerate(self.histogram)) / max(1, sum(self.histogram))

    @property
    def max(self) -> int:
        """The largest that occurred."""
        return max((s for s, n in enumerate(self.histogram) if n), default=0)


@dataclass(frozen=True, kw_only=True)
class Asynchronous(Algorithm):
    """An algorithm without lock-step: what it does for one peer. ``state`` has one row (B = 1).

    Every method that returns messages may return none. ``clock``: how many rounds of local steps the peer has done.
    """

    asynchronous: ClassVar[bool] = True

    bound: int
    """Rounds: nothing staler is applied."""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse directed graphs, schedules, clip weights and a negative bound."""
        if topology.schedule is not None:
            raise ConfigError(f"{self.name} exchanges both ways with whom it likes, and the topology {topology.name!r} "
                              "is directed or says who exchanges when: take a static undirected graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError(f"{self.name} counts every peer the same, and gossip.weighting is "
                              f"{config.gossip.weighting}: set gossip.weighting=uniform")
        if self.bound < 0:
            raise ConfigError(f"gossip.parameters.bound = {self.bound}: a staleness bound is 0 or more rounds")
        return ()

    def enter(self, state: State, place: Place, clock: int) -> None:
        """Add what is missing of the algorithm's rows and edges; after a resume, what others may have forgotten goes.

        The run (re)starts at round ``clock`` everywhere: exchanges of later numbers have never been.
        """
        state.rows.setdefault(STALENESS, torch.zeros(1, self.bound + 1, dtype=torch.int64))
        state.rows.setdefault(REFUSED, torch.zeros(1, 1, dtype=torch.int64))
        state.rows.setdefault(DRIFT, torch.zeros(1, 1, dtype=torch.float64))

    def trained(self, state: State, place: Place, clock: int, change: Tensor) -> None:
        """A round of local steps is done, ``clock`` in all: add its change (1, D) to the model as it is by now."""
        state.rows["x"] = state.rows["x"] + change

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        """What a round of local steps changed has been added, ``clock`` rounds in all: exchange."""
        raise TypeError(f"{type(self).__name__} does not exchange")

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        """A message has come. Raises RemoteProtocolError where it does not fit."""
        raise TypeError(f"{type(self).__name__} receives nothing")

    def open(self, state: State, place: Place) -> dict[int, int]:
        """The exchanges that wait for an answer: {neighbour: number}."""
        return {}

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        """Say again what may have been lost: for open exchanges, and after the last round."""
        return []

    def gone(self, state: State, place: Place, neighbour: int) -> None:
        """A neighbour is lost: what is kept for its edge goes, and what it had of ours is lost with it."""
        state.edges = {edge: kept for edge, kept in state.edges.items() if edge != (place.peer, neighbour)}

    def close(self, state: State, place: Place, clock: int) -> None:
        """Nothing comes any more: apply what may be, count the rest as drift."""

    def count(self, state: State, staleness: int) -> None:
        """Something of this staleness is applied. Raises LocalProtocolError beyond the bound."""
        if not 0 <= staleness <= self.bound:
            raise LocalProtocolError(f"{self.name} applied an exchange of staleness {staleness}, beyond {self.bound}")
        histogram = state.rows[STALENESS].clone()
        histogram[0, staleness] += 1
        state.rows[STALENESS] = histogram


def is_asynchronous(algorithm: Algorithm) -> TypeGuard[Asynchronous]:
    """Whether an algorithm has no lock-step: then a ``Node`` drives it."""
    return algorithm.asynchronous


def staleness(state: State) -> Staleness:
    """Return how stale was what a peer applied."""
    return Staleness(tuple(state.rows[STALENESS][0].tolist()))


def keep(state: State, edge: Edge, **values: Tensor | None) -> None:
    """Set what an edge keeps (None: no more), in a new mapping: snapshots of the state keep the old one."""
    merged = {**state.edges.get(edge, {}), **values}
    state.edges = {**state.edges, edge: {name: value for name, value in merged.items() if value is not None}}


class Node:
    """One peer of an asynchronous run: its state, its clock and its living neighbours.

    The driver's round: ``begin``, local steps from that row (messages may come meanwhile), ``end``; and again, while
    not ``held``. start: the round at which the run begins or resumes.
    """

    def __init__(self, algorithm: Asynchronous, state: State, place: Place, start: int = 0) -> None:
        self.algorithm, self.state, self.place, self.clock = algorithm, state, place, start
        self.start: Tensor | None = None
        """What the round of local steps under way starts from, (1, D); None between rounds."""
        algorithm.enter(state, place, start)

    @property
    def held(self) -> bool:
        """Whether another round would make an open exchange staler than the bound: no local step before its answer."""
        return any(self.clock - number >= self.algorithm.bound for number in self.open.values())

    @property
    def open(self) -> dict[int, int]:
        """The exchanges that wait for an answer: {neighbour: number}."""
        return self.algorithm.open(self.state, self.place)

    def begin(self) -> Tensor:
        """A round of local steps begins: return the row (1, D) that they start from."""
        if self.held:
            raise LocalProtocolError(f"peer {self.place.peer} trains although an exchange waits at the bound")
        self.start = self.algorithm.model(self.state).clone()
        return self.start

    def end(self, trained: Tensor) -> list[Message]:
        """The local steps have ended at ``trained`` (1, D): what they changed counts, whatever came meanwhile."""
        if self.start is None:
            raise LocalProtocolError("a round ended that had not begun")
        change, self.start = trained - self.start, None
        self.clock += 1
        self.algorithm.trained(self.state, self.place, self.clock, change)
        return self.algorithm.ready(self.state, self.place, self.clock)

    def train(self, local: Local) -> list[Message]:
        """Run a whole round; ``local`` may let messages in between its steps."""
        return self.end(local.train(self.state, self.clock, rows=self.begin()))

    def receive(self, message: Message) -> list[Message]:
        """A message has come. Raises RemoteProtocolError where it does not fit; one of a lost neighbour is ignored."""
        if message.dst != self.place.peer:
            raise LocalProtocolError(f"a message for peer {message.dst} came to peer {self.place.peer}")
        if message.src not in self.place.neighbours:
            return []
        return self.algorithm.receive(self.state, self.place, self.clock, message)

    def remind(self) -> list[Message]:
        """Say again what may have been lost."""
        return self.algorithm.remind(self.state, self.place, self.clock)

    def gone(self, neighbour: int) -> None:
        """A neighbour is lost."""
        if neighbour in self.place.neighbours:
            self.place = replace(self.place, neighbours=tuple(j for j in self.place.neighbours if j != neighbour))
            self.algorithm.gone(self.state, self.place, neighbour)

    def close(self) -> None:
        """Nothing comes any more."""
        self.algorithm.close(self.state, self.place, self.clock)

    def report(self) -> dict[str, Any]:
        """Return the accounting as plain data."""
        stale = staleness(self.state)
        return {"staleness": {"mean": stale.mean, "max": stale.max, "histogram": list(stale.histogram),
                              "bound": self.algorithm.bound},
                "refused": int(self.state.rows[REFUSED]), "open": len(self.open),
                "drift": float(self.state.rows[DRIFT])}
