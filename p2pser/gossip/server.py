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
from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Inbox, Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology
from p2pser.wire.codec import LARGEST, Received, magnitude, plausible


@dataclass(frozen=True, kw_only=True)
class Server(Algorithm):
    """The base of the server algorithms; a subclass defines what is trained, merged, sent and adopted.

    All peers begin with the same row. In each round the sampled clients train and upload, the hub merges the uploads,
    and every client downloads the result: at a round's end all peers hold the server's model, which is the run's model.
    The sample is a function of (seed, round). A client outside the sample does not train and uploads only its clip
    count, which keeps all peers in step.

    Assumes a star whose centre is the topology's ``hub``, which does not train. A client whose row is missing is left
    out of that round; a client that missed a download does not train before the next one. Unlike gossip, no client can
    go on without the hub.
    """

    sample: float = 1.0
    """share of the clients that take part in a round, in (0, 1]; at least one client"""

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
        """Raise ConfigError for a topology without a hub, or a sample out of range."""
        _ = self.hub  # raises where there is none
        if not 0 < self.sample <= 1:
            raise ConfigError(f"gossip.parameters.sample = {self.sample} must be above 0 and at most 1")
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``stale`` (B, 1): 1 for a client that missed the last download."""
        state.rows.setdefault("stale", torch.zeros(len(mixer.peers), 1))

    def on_join(self, state: State, mixer: Mixer) -> None:
        """Wait for a download: the server's row may have moved on from the neighbour's."""
        self.begin(state, mixer)
        state.rows["stale"] = torch.tensor([[float(i != self.hub)] for i in mixer.peers])

    def on_edge_broken(self, state: State, peers: Sequence[int], edge: Edge) -> None:
        """A client that was cut off from its hub waits for a download."""
        if edge[1] == self.hub:
            state.rows["stale"] = state.rows["stale"].clone()
            state.rows["stale"][list(peers).index(edge[0])] = 1.0

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
                count = trained.new_tensor([max(1, local.clips[b]) if self.weighs_clips else 1])
                uploads[i, hub] = torch.cat([trained[b], count]) if b in active else count
        mixer.post(Step(round, 0), Outbox(edges=uploads))
        if hub in peers:
            b, size = peers.index(hub), trained.shape[1]
            limit = plausible(magnitude(state.rows["x"][b]))
            self._serve(state, b, mixer.collect_messages(Step(round, 0), lambda edge, message: self._upload(
                message, trained.dtype, (size + 1, 1) if edge[1] in chosen else (1,), limit)))
            row = self.download(state, peers.index(hub))
            downloads = {(hub, i): row for i in self.clients}
        mixer.post(Step(round, 1), Outbox(edges=downloads))
        if peers != (hub,):
            own, size = state.rows["x"], trained.shape[1]
            inbox = mixer.collect_messages(Step(round, 1), lambda edge, message: message.row(
                trained.dtype, size, beside=own[peers.index(edge[0])]))
            state.rows["stale"] = torch.tensor([[float(i != hub)] for i in peers])
            for (i, _), value in inbox.by_edge():
                self.adopt(state, peers.index(i), value)
                state.rows["stale"][peers.index(i)] = 0.0
        return state

    def ends(self, peer: int, lost: Collection[int]) -> str | None:
        """Return why a client cannot go on without the hub, or the hub without clients."""
        if self.hub in lost:
            return f"the hub, peer {self.hub}, is lost, and no other peer averages"
        return "no client is left" if peer == self.hub and set(self.clients) <= set(lost) else None

    def _upload(self, message: Received, dtype: torch.dtype, sizes: tuple[int, ...], largest: float) -> Tensor:
        """Read a client's upload: its row, if it was sampled, and its number of clips (or 1)."""
        value = message.row(dtype, *sizes)
        count = float(value[-1])
        if not 0 < count <= (LARGEST if self.weighs_clips else 1) or not magnitude(value[:-1]) <= largest:
            raise message.refused(f"a row that is not plausible here, or {count:g} as its number of clips")
        return value

    def _serve(self, state: State, b: int, inbox: Inbox[Tensor]) -> None:
        uploads = {j: value for (_, j), value in inbox.by_edge()}
        rows = {j: row[:-1] for j, row in uploads.items() if len(row) > 1}
        counts = {j: float(row[-1]) for j, row in uploads.items()}
        if rows:
            self.merge(state, b, rows, counts)

    def train(self, state: State, local: Local, round: int, active: Sequence[int]) -> Tensor:
        """Return the uploads of the clients at the indices ``active``, as rows of (B, L)."""
        return local.train(state, round, only=active)

    def merge(self, state: State, b: int, rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> None:
        """Update the hub's rows, at index ``b``, from clients' uploads (L,); ``counts``: of all living clients."""
        state.rows["x"][b] = mean(rows, counts)

    def download(self, state: State, b: int) -> Tensor:
        """Return the download (L,) that the hub, at index ``b``, sends to all clients."""
        return state.rows["x"][b].clone()

    def adopt(self, state: State, b: int, row: Tensor) -> None:
        """Adopt a download, at a client's index ``b``."""
        state.rows["x"][b] = row


def mean(rows: Mapping[int, Tensor], counts: Mapping[int, float]) -> Tensor:
    """Return the mean of clients' rows (L,), weighted by their counts, summed in float64 and by ascending id."""
    first = rows[min(rows)]
    total = torch.zeros_like(first, dtype=torch.float64)
    for i in sorted(rows):
        total.add_(rows[i].to(torch.float64), alpha=counts[i])
    return total.div_(sum(counts[i] for i in sorted(rows))).to(first.dtype)

