"""Stochastic gradient push: averaging over directed and changing graphs, by shares with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge, plausible_mass
from p2pser.wire.codec import Received, magnitude


@ALGORITHMS.register("push-sum")
@dataclass(frozen=True, kw_only=True)
class PushSum(Algorithm):
    """Stochastic gradient push (SGP): local steps, then push-sum.

    Peer i holds a sum s_i and a weight w_i > 0; its parameters are z_i = s_i / w_i. In round r, with d_i the number
    of peers that i sends to in this exchange::

        s_i <- s_i + p_i (local_K(z_i, r) - z_i)
        s_i <- sum_{j -> i or j = i} s_j / (d_j + 1)
        w_i <- sum_{j -> i or j = i} w_j / (d_j + 1)
        z_i  = s_i / w_i

    The shares are column-stochastic: a peer needs to know its receivers only, not their other senders. So the algorithm
    works on any directed graph or schedule that is strongly connected over time, and on undirected graphs; the
    topology's own weights are not used. Conserved, but for shares on their way: sum s and sum w. So without local
    steps all z_i tend to sum_i p_i z_i / sum_i p_i, where p_i is w_i at the start: 1, or the peer's clips
    (``gossip.weighting=clips``; only their ratio matters).

    A message is the *cumulative* sum of all shares sent over its edge, of which the receiver adds the change: a lost or
    late message delays its share to the next exchange of that edge, and no mass is lost. A message has D + 1 float64
    numbers, twice the bytes of float32 rows, and each edge in use stores two such rows. Dead peers get no shares. An
    edge needs no repair after a gap; where a neighbour begins afresh, the sums of its edge begin at 0 at both ends. Its
    new mass has its own weight p_i: all z_i stay weighted means.

    References: M. Assran, N. Loizou, N. Ballas, M. Rabbat, "Stochastic Gradient Push for Distributed Deep Learning",
    ICML 2019; D. Kempe, A. Dobra, J. Gehrke, "Gossip-Based Computation of Aggregate Information", FOCS 2003
    (push-sum); N. H. Vaidya, C. N. Hadjicostis, A. D. Dominguez-Garcia, "Robust Average Consensus over Packet
    Dropping Links: Analysis via Coefficients of Ergodicity", CDC 2012 (running sums).
    """

    own_weights: ClassVar[bool] = True

    def on_edge_reset(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """Begin the sums of the edge at 0: its other end has neither sent nor received anything."""
        state.edges = {other: kept for other, kept in state.edges.items() if other != edge}

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps at z and push at Step(round, 0).

        ``state.rows``: "x" is z; "mass" (B, D + 1) float64 is [s, w], "prior" (B, 1) is p.
        """
        z, at = state.rows["x"], Step(round, 0)
        if "mass" not in state.rows:
            masses = [[max(1.0, n) if self.weighs_clips else 1.0] for n in local.clips]
            prior = torch.tensor(masses, dtype=torch.float64)
            state.rows["prior"], state.rows["mass"] = prior, torch.cat([prior * z, prior], dim=1)
        heaviest = mixer.size * float(state.rows["prior"].max())
        moved = local.train(state, round).to(torch.float64) - z
        mass = state.rows["mass"].clone()
        mass[:, :-1] += state.rows["prior"] * moved
        # A new dictionary: snapshots of the round's start share the old one.
        edges = {edge: dict(kept) for edge, kept in state.edges.items()}
        messages: dict[tuple[int, int], Tensor | bytes] = {}
        for b, i in enumerate(mixer.peers):
            receivers = mixer.receivers(i, at)
            mass[b] /= len(receivers) + 1
            for j in receivers:
                kept = edges.setdefault((i, j), {})
                kept["sent"] = kept["sent"] + mass[b] if "sent" in kept else mass[b].clone()
                messages[i, j] = kept["sent"]
        mixer.post(at, Outbox(edges=messages))
        largest = [magnitude(row) for row in z]

        def read(edge: Edge, message: Received) -> tuple[Tensor, Tensor]:
            """Return a cumulative sum, and what is new in it: mass of positive weight and a plausible model."""
            total = message.row(torch.float64, mass.shape[1])
            had, own = edges.get(edge, {}).get("had"), largest[mixer.peers.index(edge[0])]
            return total, plausible_mass(total, had, own, edge[1], heaviest)

        inbox = mixer.collect_messages(at, read)
        for edge, (total, new) in inbox.by_edge():
            mass[mixer.peers.index(edge[0])] += new
            edges.setdefault(edge, {})["had"] = total
        state.edges = edges
        state.rows["mass"] = mass
        state.rows["x"] = (mass[:, :-1] / mass[:, -1:]).to(z.dtype)
        return state

