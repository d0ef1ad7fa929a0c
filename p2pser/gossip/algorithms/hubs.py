"""Self-organising hubs: one peer averages for all, and another takes its place when it is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Inbox, Mixer, Outbox, Step
from p2pser.gossip.server import mean
from p2pser.graph.spec import Topology
from p2pser.wire.codec import LARGEST, Received, magnitude, plausible


@ALGORITHMS.register("hubs")
@dataclass(frozen=True, kw_only=True)
class Hubs(Algorithm):
    """Local steps, then an exact mean at a hub, which is the first of the candidates that lives.

    Candidates are the peers that are linked to all others: all peers of a complete graph, the centres of a star
    (``graph: {kind: star, peers: 8, centres: 2}``). In round r, with h(i) the least candidate that is i itself or from
    which i had every message of the last round::

        z_i  = local_K(x_i, r)
        i -> h(i):   z_i, p_i
        h -> i:      y = sum p_j z_j / sum p_j       over itself and those whose rows came
        x_i <- y;    x_i <- z_i where no y came

    That is federated averaging without a server: the hub trains too, and a round costs 2 (N - 1) rows, not N (N - 1) as
    on a complete graph. When a hub is lost, all that miss it take the next candidate in the next round without a vote:
    one round without a mean, whose changes count in the next. A peer that hears another hub than the others do
    averages with no other until the final consensus, over all edges. Without a candidate no peer averages.

    p_i: 1, or the peer's clips (``gossip.weighting=clips``). The topology's weights are not used.

    Reference: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017 (Algorithm 1, all clients in each round); the choice of the hub is ours.
    """

    own_weights: ClassVar[bool] = True

    @property
    def slots(self) -> int:
        """Up to the hub, and down."""
        return 2

    @cached_property
    def candidates(self) -> tuple[int, ...]:
        """The peers that are linked to all others, ascending."""
        graph = self.context.topology.graph
        living = [i for i in graph if graph.degree(i) or len(graph) == 1]  # a retired peer has no link
        return tuple(i for i in living if graph.degree(i) == len(living) - 1)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse schedules, and graphs without a candidate. Warns where there is one alone."""
        if topology.schedule is not None or not self.candidates:
            raise ConfigError(f"hubs needs a static undirected graph with a peer that is linked to all others, and "
                              f"{topology.name!r} is none: take complete.yaml, or a star with 'centres: 2'")
        return () if len(self.candidates) > 1 or topology.size < 3 else (
            f"only peer {self.candidates[0]} is linked to all others: when it is lost, no peer averages; link another "
            "peer to all",)

    def hub(self, state: State, i: int) -> int | None:
        """Return the peer to which ``i`` sends its row in the next round; None where no candidate is left."""
        return next((c for c in self.candidates if c == i or (i, c) not in state.edges), None)

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Train, send up at Step(round, 0) and down at Step(round, 1); ``state.edges`` has the candidates missed."""
        z = local.train(state, round).clone()
        place, hubs = {i: b for b, i in enumerate(mixer.peers)}, {i: self.hub(state, i) for i in mixer.peers}
        counts = {i: max(1.0, local.clips[b]) if self.weighs_clips else 1.0 for i, b in place.items()}
        limits, size = {i: plausible(magnitude(z[b])) for i, b in place.items()}, z.shape[1]

        def swap(slot: int, rows: dict[tuple[int, int], Tensor], width: int) -> Inbox[Tensor | None]:
            """Exchange these rows, and empty messages over the other edges."""
            at = Step(round, slot)
            mixer.post(at, Outbox(edges={(i, j): rows.get((i, j), b"") for i in mixer.peers
                                         for j in mixer.receivers(i, at)}))
            return mixer.collect_messages(at, lambda edge, message: _read(message, z.dtype, width, limits[edge[0]]))

        up = swap(0, {(i, h): torch.cat([z[place[i]], z.new_tensor([counts[i]])]) for i, h in hubs.items()
                      if h is not None and h != i}, size + 1)
        down: dict[tuple[int, int], Tensor] = {}
        means, given = z.clone(), dict(up.by_edge())
        for i in (i for i, h in hubs.items() if h == i):
            came = {j: row for (to, j), row in given.items() if to == i and row is not None and self._weighs(row)}
            rows = {i: z[place[i]], **{j: row[:-1] for j, row in came.items()}}
            means[place[i]] = mean(rows, {i: counts[i], **{j: float(row[-1]) for j, row in came.items()}})
            down |= {(i, j): means[place[i]].clone() for j in came}
        below = swap(1, down, size)
        for (i, j), row in below.by_edge():
            if row is not None and hubs[i] == j:
                means[place[i]] = row
        missed = {*up.missing, *below.missing}
        state.edges = {edge: {"missed": torch.tensor(1)} for edge in sorted(missed) if edge[1] in self.candidates}
        state.rows["x"] = means
        return state

    def _weighs(self, row: Tensor) -> bool:
        return 0 < float(row[-1]) <= (LARGEST if self.weighs_clips else 1)


def _read(message: Received, dtype: torch.dtype, size: int, largest: float) -> Tensor | None:
    """Return a row of ``size`` numbers; None of an empty message."""
    if message.form or isinstance(message.body, Tensor):
        return message.row(dtype, size, largest=largest)
    message.octets(0)
    return None
