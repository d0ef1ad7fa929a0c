"""The verbs by which a gossip algorithm exchanges rows, whoever carries them.

Stack the parameters of all peers as the rows of X, shape (N, D). A process hosts B of these rows: a real peer
one, the simulator all N. An algorithm is something local to each row and an exchange along the graph; only the
Mixer differs between the network and the simulator.

Mixing is a sum of flows, x_i += sum_j W_ij (x_j - x_i), in ascending order of j and in the dtype of the rows,
so that every carrier computes the same bits, a missing edge is a missing flow (its weight goes home), and a late
row can be settled later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from p2pser.wire.codec import DENSE, Codec


class Step(NamedTuple):
    """When: the round and the exchange in it. Algorithms declare their slots and never read a clock.

    Rounds below 0 are set-up (see ``Phase``); training is 0 .. R-1; the final consensus is round R.
    """

    round: int
    slot: int


Edge: TypeAlias = tuple[int, int]
"""(hosted peer, its neighbour)."""


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
    """What hosted peers send at one step: ``rows`` (B, D), the same to all neighbours, or ``edges``, a message each."""

    rows: Tensor | None = None
    edges: Mapping[Edge, Tensor | bytes] | None = None
    codec: Codec = DENSE


@dataclass(frozen=True)
class Late:
    """A row that came after its exchange was over: the flow ``weight * (value - own)`` is still owed to ``edge[0]``."""

    edge: Edge
    step: Step
    weight: float
    own: Tensor
    value: Tensor


@dataclass(frozen=True)
class Inbox:
    """What hosted peers received at one step: E messages, ascending by (dst, src).

    ``missing`` names the edges (dst, src) that delivered nothing: the source is dead, has left or was given up.
    """

    src: Tensor
    dst: Tensor
    weight: Tensor
    values: Sequence[Tensor | bytes]
    missing: tuple[Edge, ...] = ()
    late: tuple[Late, ...] = ()


def edges_into(weights: Mapping[Edge, float]) -> Edges:
    """Return the edges of ``weights``, {(dst, src): W_ij}, whose keys ascend."""
    return Edges(torch.tensor([src for _, src in weights], dtype=torch.int64),
                 torch.tensor([dst for dst, _ in weights], dtype=torch.int64),
                 torch.tensor(list(weights.values()), dtype=torch.float64))


def inbox_of(edges: Edges, values: Mapping[Edge, Tensor | bytes], late: tuple[Late, ...] = ()) -> Inbox:
    """Return what came over ``edges``: ``values`` by (dst, src); an edge without a value is missing."""
    pairs = list(zip(edges.dst.tolist(), edges.src.tolist()))
    there = [e for e, pair in enumerate(pairs) if pair in values]
    came = [values[pairs[e]] for e in there]
    if len(there) == len(pairs):
        return Inbox(edges.src, edges.dst, edges.weight, came, (), late)
    missing = tuple(pair for pair in pairs if pair not in values)
    return Inbox(edges.src[there], edges.dst[there], edges.weight[there], came, missing, late)


def in_order(late: Iterable[Late]) -> tuple[Late, ...]:
    """Return late rows in the order in which every mixer settles them: by step, then by edge."""
    return tuple(sorted(late, key=lambda flow: (flow.step, flow.edge)))


class Mixer(Protocol):
    """Carries rows along the graph."""

    @property
    def peers(self) -> tuple[int, ...]:
        """Ids of the hosted rows, in row order."""

    @property
    def size(self) -> int:
        """N: how many peers the topology has."""

    def edges(self, at: Step) -> Edges:
        """The edges into hosted peers at a step: pure in (seed, step)."""

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """To whom a hosted peer sends at a step, ascending, the dead left out.

        With ``Outbox.edges`` each of them must get a message, an empty one if need be: they wait for it.
        """

    def post(self, at: Step, out: Outbox) -> None:
        """Send; never blocks."""

    def collect(self, at: Step) -> Inbox:
        """Wait until each neighbour delivered, died, left or was given up."""

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """post, collect and add the flows: row i becomes sum_j W_ij x_j. The input is not changed."""


def mix_by_flows(mixer: Mixer, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
    """The reference form of ``mix``: every mixer must equal it (bit for bit in exact mode).

    rows: (B, D), any floating dtype. Returns a new (B, D).
    """
    mixer.post(at, Outbox(rows=rows, codec=codec))
    inbox = mixer.collect(at)
    return add_flows(rows, inbox, mixer.peers)


def add_flows(rows: Tensor, inbox: Inbox, peers: Sequence[int]) -> Tensor:
    """Return rows + sum_j W_ij (x_j - x_i), then the late flows: x_i += W_ij (late x_j - x_i as it was)."""
    mixed = rows.clone()
    at = {peer: b for b, peer in enumerate(peers)}
    for dst, weight, value in zip(inbox.dst.tolist(), inbox.weight.tolist(), inbox.values):
        assert isinstance(value, torch.Tensor)
        b = at[dst]
        mixed[b].add_(value.to(rows.dtype) - rows[b], alpha=weight)
    return add_late(mixed, inbox.late, peers)


def add_late(rows: Tensor, late: Sequence[Late], peers: Sequence[int]) -> Tensor:
    """Return rows with the flows that are still owed to them: x_i += W_ij (late x_j - x_i as it was)."""
    if not late:
        return rows
    settled = rows.clone()
    at = {peer: b for b, peer in enumerate(peers)}
    for flow in late:
        settled[at[flow.edge[0]]].add_(flow.value.to(rows.dtype) - flow.own.to(rows.dtype), alpha=flow.weight)
    return settled
