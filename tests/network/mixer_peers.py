"""Peers with real mixers in this process, for the tests of the network's Mixer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch
from torch import Tensor, nn

from p2pser.graph.spec import Topology
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.mixer import NetworkMixer
from p2pser.wire.messages import Phase

if TYPE_CHECKING:
    from network.conftest import Network

SCHEMA = Schema.of(nn.Linear(3, 2))


def topology_of(graph: nx.Graph) -> Topology:
    return Topology("test", nx.convert_node_labels_to_integers(graph), {}, "metropolis", {})


class Peers:
    """Peers of a topology in this process, each with its IOThread and a thread of its own for its training."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.seen: dict[int, list[events.Event]] = {}
        self.pool = ThreadPoolExecutor(8)
        self.over = threading.Event()

    def make(self, topology: Topology, me: int, *, clips: int | None = None, round_timeout: float = 30.0,
             check: Callable[[], None] = lambda: None, slots: int = 1, rounds: int | None = None,
             clock: Callable[[], float] = time.monotonic, **options: Any) -> NetworkMixer:
        hello = {"schema": SCHEMA.digest(), **options.pop("hello", {})}
        io = self.network.peer(me, topology.neighbours(me), hello=hello, **options)
        seen = self.seen.setdefault(me, [])

        def check_or_end() -> None:
            if self.over.is_set():
                raise TestIsOver
            check()

        return NetworkMixer(io, topology, me, SCHEMA, clips=clips, round_timeout=round_timeout,
                            observe=seen.append, check=check_or_end, slots=slots, rounds=rounds, clock=clock)

    def all(self, topology: Topology, **options: Any) -> list[NetworkMixer]:
        return [self.make(topology, i, **options) for i in range(topology.size)]

    def together(self, *work: Callable[[], Any]) -> list[Any]:
        """Do this in threads of their own, at the same time."""
        futures: list[Future[Any]] = [self.pool.submit(one) for one in work]
        return [future.result(timeout=90) for future in futures]

    def had(self, me: int, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.seen[me] if isinstance(event, kind)]


class TestIsOver(Exception):
    """Ends threads that still wait when their test has failed: pytest could not end before them."""

    __test__ = False


def connect(mixer: NetworkMixer, start_timeout: float | None = None, refused_wait: float = 0.0,
            said: list[str] | None = None) -> None:
    mixer.connect(start_timeout, refused_wait, (said if said is not None else []).append)


def row(seed: int, size: int = SCHEMA.size, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def training(*mixers: NetworkMixer) -> None:
    for mixer in mixers:
        mixer.enter(Phase.TRAIN, 0)
