"""The round of server federated learning over the verbs: train, upload, merge at the hub, download."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Inbox, Mixer, Outbox, Step
from p2pser.topology.spec import Topology


@dataclass(frozen=True, kw_only=True)
class Server(Algorithm):
    """What server algorithms have in common; each says what is trained, merged, sent and adopted.

    All begin with the same row. In each round the sampled clients train and upload, the hub merges what came, and
    every client downloads the result: at a round's end all peers hold the server's model, which is the run's. The
    sample is a function of (seed, round). Who is not in it neither trains nor sends, but for its clip count, which
    keeps all in step.

    Assumes a star whose centre is the topology's ``hub``, which trains nothing. A client whose row does not come is
    left out of that round; one that missed a download does not train before it has had the next. Without its hub no
    client can go on: what gossip does not need.
    """

    sample: float = 1.0
    """share of the clients that take part in a round, in (0, 1]; never fewer than one"""

    served: ClassVar[bool] = True

    @property
    def slots(self) -> int:
        """An upload and a download."""
        return 2

    @property
    def hub(self) -> int:
        """The peer that averages. Raises ConfigError where the topology has none."""
        topology = self.context.topology
        if topology.hub is None:
            raise ConfigError(f"gossip.algorithm={self.name} needs a topology with a hub, and "
                              f"{topology.name!r} has none: use --topology server.yaml")
        return topology.hub

    @cached_property
    def clients(self) -> tuple[int, ...]:
        """The peers that train, ascending."""
        return self.context.topology.neighbours(self.hub)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raises ConfigError where there is no hub, or for a sample out of range."""
        _ = self.hub  # raises where there is none
        if not 0 < self.sample <= 1:
            raise ConfigError(f"gossip.parameters.sample = {self.sample} must be above 0 and at most 1")
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``stale`` (B, 1): 1 for a client that missed the last download."""
        state.rows.setdefault("stale", torch.zeros(len(mixer.peers), 1))

    def sampled(self, round: int) -> frozenset[int]:
        """Return the clients that take part in a round."""
        count = max(1, math.floor(self.sample * len(self.clients) + 0.5))
        draw = seeding.generator(self.context.config.seed, "clients", round=round)
        return frozenset(self.clients[place] for place in draw.permutation(len(self.clients))[:count])

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Train and upload at Step(round, 0), merge, download at Step(round, 1)."""
        hub, peers, chosen = self.hub, mixer.peers, self.sampled(round)
        state.rows["x"] = state.rows["x"].clone()
        active = [b for b, i in enumerate(peers) if i in chosen and not state.rows["stale"][b]]
        trained = self.train(state, local, round, active)
        uploads, downloads = {}, {}
        for b, i in enumerate(peers):
            if i != hub:
                count = trained.new_tensor([local.clips[b] if self.weighs_clips else 1])
                uploads[i, hub] = torch.cat([trained[b], count]) if b in active else count
        mixer.post(Step(round, 0), Outbox(edges=uploads))
        if hub in peers:
            self._serve(state, peers.index(hub), mixer.collect(Step(round, 0)), trained.shape[1])
            row = self.download(state, peers.index(hub))
            downloads = {(hub, i): row for i in self.clients}
        mixer.post(Step(round, 1), Outbox(edges=downloads))
        if peers != (hub,):
            inbox = mixer.collect(Step(round, 1))
            state.rows["stale"] = torch.tensor([[float(i != hub)] for i in peers])
            for i, value in zip(inbox.dst.tolist(), inbox.values):
                self.adopt(state, peers.index(i), _row(value, hub, trained.shape[1]))
                state.rows["stale"][peers.index(i)] = 0.0
        return state

    def ends(self, peer: int, lost: Collection[int]) -> str | None:
        """Return why a client cannot go on without its hub, nor the hub without any client."""
        if self.hub in lost:
            return f"the hub, peer {self.hub}, is gone, and nobody else averages"
        return "no client is left" if peer == self.hub and set(self.clients) <= set(lost) else None

    def _serve(self, state: State, b: int, inbox: Inbox, size: int) -> None:
        came = {j: _row(value, j, size + 1, 1) for j, value in zip(inbox.src.tolist(), inbox.values)}
        rows = {j: row[:-1] for j, row in came.items() if len(row) > 1}
        counts = {j: float(row[-1]) for j, row in came.items()}
        for j, count in counts.items():
            if not 0 < count < math.inf:
                raise RemoteProtocolError(f"peer {j} sent {count} as its number of clips in a federated round", j)
        if rows:
            self.merge(state, b, rows, counts)

    def train(self, state: State, local: Local, round: int, active: Sequence[int]) -> Tensor:
        """Return what the clients at the places ``active`` upload, in a (B, L)."""
        return local.train(state, round, only=active)

    def merge(self, state: State, b: int, rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> None:
        """Update the hub's rows, at place ``b``, from clients' uploads (L,); ``counts``: of all that are there."""
        state.rows["x"][b] = mean(rows, counts)

    def download(self, state: State, b: int) -> Tensor:
        """Return what the hub, at place ``b``, sends to all, (L,)."""
        return state.rows["x"][b].clone()

    def adopt(self, state: State, b: int, row: Tensor) -> None:
        """Take what the hub sent, at a client's place ``b``."""
        state.rows["x"][b] = row


def mean(rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> Tensor:
    """Return the mean of clients' rows (L,), weighted by their counts, summed in float64 and by ascending id."""
    first = rows[min(rows)]
    total = torch.zeros_like(first, dtype=torch.float64)
    for i in sorted(rows):
        total.add_(rows[i].to(torch.float64), alpha=counts[i])
    return total.div_(sum(counts[i] for i in sorted(rows))).to(first.dtype)


def _row(value: Tensor | bytes, sender: int, *sizes: int) -> Tensor:
    if not isinstance(value, Tensor) or len(value) not in sizes:
        raise RemoteProtocolError(f"peer {sender} sent no row of {sizes[0]} numbers in a federated round", sender)
    return value
