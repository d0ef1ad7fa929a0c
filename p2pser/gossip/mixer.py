"""The interface through which a gossip algorithm exchanges rows: the network and the simulator implement it.

Stack the parameters of all peers as the rows of X, shape (N, D). A process hosts B of these rows: a real peer
one, the simulator all N. An algorithm consists of local work on each row and of exchanges along the graph; only the
``Mixer`` differs between the network and the simulator.

Mixing is a sum of flows, x_i += sum_j W_ij (x_j - x_i), in ascending order of j and in the dtype of the rows,
so that every mixer computes the same bits. Over a missing edge there is no flow (its weight stays with the receiver),
and a late row can be settled later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from p2pser.gossip.reading import Edge, Read
from p2pser.gossip.secrets import Secrets
from p2pser.wire.codec import DENSE, Codec
from p2pser.wire.messages import Buffer

T = TypeVar("T")

BLOCK = 1 << 17
"""Numbers of a difference of two rows that are in memory at once."""


class Step(NamedTuple):
    """The time of an exchange: the round and the slot in it. Algorithms declare their slots and never read a clock.

    Rounds below 0 are set-up (see ``Phase``), 0 .. R-1 are training, rounds from R on end the run.
    """

    round: int
    slot: int


@dataclass(frozen=True)
class Edges:
    """The directed edges into hosted peers at one step, ascending by (dst, src).

    ``weight[e]`` is W_ij for dst i and src j, float64.
    """

    src: Tensor
    dst: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Outbox:
    """What hosted peers send at one step: either ``rows`` (B, D), each to all neighbours, or a message an edge."""

    rows: Tensor | None = None
    edges: Mapping[Edge, Tensor | Buffer] | None = None
    codec: Codec = DENSE


@dataclass(frozen=True)
class Late:
    """A row that arrived after the end of its exchange.

    The flow ``weight * (value - own)`` is still to be added to the row of ``edge[0]``; ``own`` is its row at ``step``.
    """

    edge: Edge
    step: Step
    weight: float
    own: Tensor
    value: Tensor


@dataclass(frozen=True)
class Inbox(Generic[T]):
    """What hosted peers received at one step: E messages, ascending by (dst, src).

    ``missing`` are the edges (dst, src) without a message: the source is dead, has left or has timed out, or its
    message was ``refused``. ``late`` are rows of earlier steps.
    """

    src: Tensor
    dst: Tensor
    weight: Tensor
    values: Sequence[T]
    missing: tuple[Edge, ...] = ()
    late: tuple[Late, ...] = ()
    refused: tuple[Edge, ...] = ()

    def by_edge(self) -> Iterator[tuple[Edge, T]]:
        """Yield the edge (dst, src) and the value of each message."""
        return zip(zip(self.dst.tolist(), self.src.tolist()), self.values)


@dataclass(frozen=True)
class Breaks:
    """What has happened to edges (hosted peer, neighbour) between two rounds.

    broken : the neighbour is lost, or this end has jumped over rounds. reset : the neighbour begins afresh.
    """

    broken: tuple[Edge, ...] = ()
    reset: tuple[Edge, ...] = ()


def edges_into(weights: Mapping[Edge, float]) -> Edges:
    """Return the edges of ``weights``, {(dst, src): W_ij}, whose keys ascend."""
    return Edges(torch.tensor([src for _, src in weights], dtype=torch.int64),
                 torch.tensor([dst for dst, _ in weights], dtype=torch.int64),
                 torch.tensor(list(weights.values()), dtype=torch.float64))


def inbox_of(edges: Edges, values: Mapping[Edge, T], late: tuple[Late, ...] = (), refused: tuple[Edge, ...] = (),
             ) -> Inbox[T]:
    """Return what came over ``edges``: ``values`` by (dst, src); an edge without a value is missing."""
    pairs = list(zip(edges.dst.tolist(), edges.src.tolist()))
    there = [e for e, pair in enumerate(pairs) if pair in values]
    came = [values[pairs[e]] for e in there]
    if len(there) == len(pairs):
        return Inbox(edges.src, edges.dst, edges.weight, came, (), late, refused)
    missing = tuple(pair for pair in pairs if pair not in values)
    return Inbox(edges.src[there], edges.dst[there], edges.weight[there], came, missing, late, refused)


def in_order(late: Iterable[Late]) -> tuple[Late, ...]:
    """Return late rows in the order in which every mixer settles them: by step, then by edge."""
    return tuple(sorted(late, key=lambda flow: (flow.step, flow.edge)))


class Mixer(Protocol):
    """Exchanges rows along the graph."""

    @property
    def peers(self) -> tuple[int, ...]:
        """Ids of the hosted rows, in row order."""

    @property
    def size(self) -> int:
        """N, the number of peers in the topology."""

    @property
    def secrets(self) -> Secrets | None:
        """What secure sums need of the hosted peers; None in a run without sums."""

    def edges(self, at: Step) -> Edges:
        """Return the edges into hosted peers at a step: a function of (seed, step)."""

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """Return the living peers to which a hosted peer sends at a step, ascending.

        With ``Outbox.edges`` each of them must get a message, if only an empty one: they wait for it.
        """

    def post(self, at: Step, out: Outbox) -> None:
        """Send the messages of a step; never blocks."""

    def collect(self, at: Step) -> Inbox[Tensor]:
        """Return the rows of a step at which rows were posted, when each neighbour has delivered, died, left or timed
        out. A row is of the posted rows' form, finite, and of a plausible magnitude (``reading.plausible``).
        """

    def collect_messages(self, at: Step, read: Read[T]) -> Inbox[T]:
        """Return what ``read`` makes of the messages of a step at which messages were posted by edge.

        A message that it refuses (RemoteProtocolError) is missing, and a strike against its sender.
        """

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Post, collect and add the flows: row i becomes sum_j W_ij x_j. The input is not changed."""


def mix_by_flows(mixer: Mixer, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
    """The reference form of ``mix``, which every mixer must equal (bit for bit in exact mode).

    rows: (B, D), any floating dtype. Returns a new (B, D).
    """
    mixer.post(at, Outbox(rows=rows, codec=codec))
    inbox = mixer.collect(at)
    return add_flows(rows, inbox, mixer.peers)


def add_flows(rows: Tensor, inbox: Inbox[Tensor], peers: Sequence[int]) -> Tensor:
    """Return x_i + sum_j W_ij (x_j - x_i) for each row, plus the late flows."""
    mixed = rows.clone()
    at = {peer: b for b, peer in enumerate(peers)}
    for dst, weight, value in zip(inbox.dst.tolist(), inbox.weight.tolist(), inbox.values):
        add_flow_(mixed[at[dst]], rows[at[dst]], value, weight)
    return add_late(mixed, inbox.late, peers)


def add_late(rows: Tensor, late: Sequence[Late], peers: Sequence[int]) -> Tensor:
    """Return rows plus late flows, W_ij (x_j - x_i), of both rows as they were at the flow's step."""
    if not late:
        return rows
    settled = rows.clone()
    at = {peer: b for b, peer in enumerate(peers)}
    for flow in late:
        add_flow_(settled[at[flow.edge[0]]], flow.own, flow.value, flow.weight)
    return settled


def add_flow_(row: Tensor, own: Tensor, value: Tensor, weight: float) -> None:
    """Add weight (value - own), of two rows (D,), to a row (D,) in place and in its dtype, without a further row."""
    if row.numel() <= BLOCK:
        row.add_(value.to(row.dtype) - own.to(row.dtype), alpha=weight)
        return
    for part, its_own, its_value in zip(*(torch.split(each, BLOCK) for each in (row, own, value))):
        add_flow_(part, its_own, its_value, weight)


def distance(row: Tensor, own: Tensor) -> float:
    """Return ||row - own|| of two rows (D,), without a third one."""
    total, size = 0.0, row.numel()
    scratch = row.new_empty(min(size, BLOCK))
    for at in range(0, size, BLOCK):
        part = scratch[: min(BLOCK, size - at)]
        torch.sub(row[at : at + BLOCK], own[at : at + BLOCK], out=part)
        total += float(torch.dot(part, part))
    return math.sqrt(total)
