"""Public copies of rows: the value of a peer's row that its neighbours know, updated by compressed differences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from p2pser.gossip.algorithm import State
from p2pser.gossip.both_ends import LOST, START, Head, Marks, decode, numbers
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge, Read
from p2pser.wire.codec import DENSE, Codec, Received, codec, magnitude, plausible

# Rows: "copy" (B, D), the hosted peers' own copies; "last" (B, 1), the exchange of their last change. Edges (i, j):
# "copy" (D,), the copy of j that i knows; "marks", see both_ends; "deaf", where j does not have i's copy; "open" (D,),
# the pending flow, stored only where the exchange after it was missed (else it follows from the copies).


def begin(state: State, mixer: Mixer) -> None:
    """Take the hosted rows, which must be equal at all peers, as the initial copies that are missing."""
    x = state.rows["x"]
    state.rows.setdefault("copy", x.clone())
    state.rows.setdefault("last", torch.full((len(x), 1), START))
    edges, place = mixer.edges(Step(0, 0)), {peer: b for b, peer in enumerate(mixer.peers)}
    for i, j in zip(edges.dst.tolist(), edges.src.tolist()):
        if (i, j) not in state.edges:
            state.edges[i, j] = {"copy": state.rows["copy"][place[i]].clone(), "marks": Marks().tensor()}


def join(state: State, mixer: Mixer) -> None:
    """Take the hosted rows, which the neighbours do not know, as copies, to be sent whole to all of them."""
    begin(state, mixer)
    unknown = {"marks": Marks(LOST, START, START).tensor(), "deaf": torch.tensor(1)}
    state.edges = {edge: {**kept, **unknown} if edge[0] in mixer.peers else kept for edge, kept in state.edges.items()}


def _messages(heads: Mapping[Edge, Head], t: int, place: Mapping[int, int], copy: Tensor,
              payloads: Sequence[bytes]) -> dict[Edge, Tensor | bytes]:
    """Return the message over each edge: a head, and the whole copy of the row or its compressed change."""
    messages: dict[Edge, Tensor | bytes] = {}
    made: dict[tuple[int, bytes], bytes] = {}  # equal messages are made once
    for (i, j), head in heads.items():
        key = i, head.encode(t)
        if key not in made:
            b = place[i]
            made[key] = key[1] + (bytes(DENSE.encode(copy[b])) if head.whole else payloads[b])
        messages[i, j] = made[key]
    return messages


def mix_copies(
    state: State, mixer: Mixer, z: Tensor, at: Step, t: int, gamma: float, form: Callable[[int], Codec]
) -> Tensor:
    """Exchange compressed differences of rows to their copies, and mix the copies.

    Returns z_i + gamma sum_j W_ij (c_j - c_i), over the neighbours j whose message arrived and that know c_i.

    Parameters
    ----------
    state : its copies and edges are replaced.
    mixer : carries the messages.
    z : (B, D), the rows; they are not changed.
    at, t : the step of the exchange, and its index.
    gamma : the step of the consensus.
    form : returns the codec of a hosted peer.
    """
    place = {peer: b for b, peer in enumerate(mixer.peers)}
    before, last = state.rows["copy"], state.rows["last"].flatten().tolist()
    payloads = [bytes(form(i).encode(z[b] - before[b])) for b, i in enumerate(mixer.peers)]
    changes = [form(i).decode(payload, z.shape[1]).to(z.dtype) for i, payload in zip(mixer.peers, payloads)]
    copy = before + torch.stack(changes)
    decoded = dict(zip(payloads, changes))  # messages of hosted peers are decoded already
    state.rows["copy"], state.rows["last"] = copy, torch.full_like(state.rows["last"], t)

    heads = {(i, j): Head(Marks.of(state.edges[i, j]["marks"]), last[b], "deaf" in state.edges[i, j])
             for b, i in enumerate(mixer.peers) for j in mixer.receivers(i, at)}
    mixer.post(at, Outbox(edges=_messages(heads, t, place, copy, payloads)))
    inbox, mixed = mixer.collect_messages(at, _reader(state, t, place, copy, decoded, form)), z.clone()
    edges = mixer.edges(at)
    weight = {(i, j): gamma * w for i, j, w in zip(edges.dst.tolist(), edges.src.tolist(), edges.weight.tolist())}

    def flow(edge: Edge, other: Tensor, own: Tensor) -> Tensor:
        return (other - own).mul_(weight[edge])

    delivered = set()
    for (i, j), (theirs, other, knows) in inbox.by_edge():
        delivered.add((i, j))
        b, kept, sent = place[i], state.edges[i, j], heads.get((i, j))
        marks = Marks.of(kept["marks"])
        if marks.settle(theirs.marks):
            mixed[b] -= kept["open"] if "open" in kept else flow((i, j), kept["copy"], before[b])
        known = sent is not None and (sent.whole or theirs.marks.have == sent.base)
        marks.have = t if knows else LOST
        if knows and known:
            mixed[b] += flow((i, j), other, copy[b])
            marks.pending = t
        state.edges[i, j] = {"copy": other, "marks": marks.tensor(), **({} if known else {"deaf": torch.tensor(1)})}
    _keep_open(state, [edge for edge in state.edges if edge not in delivered and edge[0] in place], heads,
               lambda edge, other: flow(edge, other, before[place[edge[0]]]))
    return mixed


def _reader(state: State, t: int, place: Mapping[int, int], copy: Tensor, decoded: Mapping[bytes, Tensor],
            form: Callable[[int], Codec]) -> Read[tuple[Head, Tensor, bool]]:
    """Return the reader of messages: head, the sender's copy, and whether this peer knows that copy now.

    copy : the hosted peers' own copies (B, D). decoded : changes that are decoded already, by their bytes.
    """
    whole, limits = codec(DENSE.wire_name(copy[0])), [plausible(magnitude(row)) for row in copy]
    most = copy[0].numel() * copy.element_size() + max(map(len, decoded))

    def read(edge: Edge, message: Received) -> tuple[Head, Tensor, bool]:
        kept, (i, j) = state.edges[edge], edge
        theirs, payload = decode(message, t, most)
        if theirs.whole:
            other = numbers(whole, payload, copy[0], j)
        else:
            change = decoded.get(bytes(payload))
            change = numbers(form(j), payload, copy[0], j) if change is None else change
            if Marks.of(kept["marks"]).have != theirs.base:
                return theirs, kept["copy"], False
            other = kept["copy"] + change
        if not magnitude(other) <= limits[place[i]]:
            raise message.refused("a copy of its row with numbers that are not plausible here")
        return theirs, other, True

    return read


def _keep_open(state: State, edges: Sequence[Edge], sent: Collection[Edge],
               flow: Callable[[Edge, Tensor], Tensor]) -> None:
    """Keep the flows of edges that delivered nothing, until their other end says whether it applied them.

    sent : the edges over which this exchange sent a message. flow : of an edge, from the neighbour's copy.
    """
    for edge in edges:
        kept = state.edges[edge]
        marks = Marks.of(kept["marks"])
        if marks.pending != marks.confirmed and "open" not in kept:
            kept = {**kept, "open": flow(edge, kept["copy"])}
        if edge not in sent:
            kept = {**kept, "deaf": torch.tensor(1)}
        state.edges[edge] = kept
