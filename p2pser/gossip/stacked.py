"""Several rows mixed as one: parts that must be lost or late together cross an edge in one message.

Trackers of gradients carry a sum: y_i = own_i + sum_j F_ij, with F_ij the sum of all flows of y over an edge. The flows
of an edge's two ends cancel, so that sum_i y_i = sum_i own_i, which the theorems need. Where an edge breaks for good,
both ends take F_ij back (``without_flows``): the sums over the peers that are left agree again, and a peer that comes
back afresh, with F_ij = 0 at both ends, is counted once. (On one-way links no such sum exists.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Late, Mixer, Outbox, Step, add_flows, add_late
from p2pser.gossip.reading import Edge

FLOW = "flow"
"""The sum of all flows over an edge, in its memory."""


def mix_keeping_flows(state: State, mixer: Mixer, at: Step, *rows: Tensor, part: float = 1.0) -> tuple[Tensor, ...]:
    """Mix matrices of rows, each (B, ·), in one exchange, and return the mixed matrices in order.

    Where edges may break, the flows of the last of the rows, times ``part``, are added to the sums kept for each edge.
    """
    wide = torch.cat(rows, dim=1)
    if not state.breakable:
        return _apart(mixer.mix(wide, at), rows)
    start = wide.shape[1] - rows[-1].shape[1]
    mixer.post(at, Outbox(rows=wide))
    inbox = mixer.collect(at)
    place, flows = {peer: b for b, peer in enumerate(mixer.peers)}, dict(state.edges)
    came = [((i, j), weight, value, wide[place[i]]) for i, j, weight, value in zip(
        inbox.dst.tolist(), inbox.src.tolist(), inbox.weight.tolist(), inbox.values)]
    for edge, weight, value, own in [*came, *((flow.edge, flow.weight, flow.value, flow.own) for flow in inbox.late)]:
        moved = (value - own)[start:].to(wide.dtype) * (weight * part)
        kept = flows.get(edge, {})
        flows[edge] = {**kept, FLOW: kept[FLOW] + moved if FLOW in kept else moved}
    state.edges = flows
    return _apart(add_flows(wide, inbox, mixer.peers), rows)


def without_flows(state: State, peers: Sequence[int], edge: Edge, name: str, sign: float = -1.0) -> None:
    """Add ``sign`` times the sum of an edge's flows to the row ``name`` of its hosted end, and forget the sum."""
    kept = dict(state.edges.get(edge, {}))
    if FLOW in kept:
        rows = state.rows[name].clone()  # a snapshot of the round's start shares the old ones
        rows[list(peers).index(edge[0])] += sign * kept.pop(FLOW)
        state.rows[name] = rows
        state.edges = {**state.edges, edge: kept}


def _apart(wide: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    cuts = list(accumulate(part.shape[1] for part in rows))[:-1]
    return tuple(part.contiguous() for part in wide.tensor_split(cuts, dim=1))


def settle_both(state: State, late: Sequence[Late], peers: Sequence[int], name: str) -> None:
    """Add the late flows of wide rows [x; ``name``] to both."""
    width = state.rows["x"].shape[1]
    for row, start in (("x", 0), (name, width)):
        flows = [replace(flow, own=flow.own[start : start + width], value=flow.value[start : start + width])
                 for flow in late]
        state.rows[row] = add_late(state.rows[row], flows, peers)
