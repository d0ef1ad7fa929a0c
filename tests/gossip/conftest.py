"""A mixer that hosts one peer, over queues between threads, to compare single peers with a simulation of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from lockstep import run

from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.mixer import Edges, Inbox, Outbox, Step, mix_by_flows
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology
from p2pser.run import checkpoint
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.codec import Received


def make_topology(graph: nx.Graph, name: str = "test") -> Topology:
    return Topology(name, nx.convert_node_labels_to_integers(graph), {}, "metropolis", {})


class Bus:
    """The messages of all peers, and the peers that ended or died."""

    def __init__(self, topology: Topology, dead: dict[int, Step]) -> None:
        self.topology, self.dead = topology, dead
        self.changed = threading.Condition()
        self.posts: dict[tuple[int, Step], dict[int, Any]] = {}
        self.ended: set[int] = set()


class Died(Exception):
    pass


class SoloMixer:
    """One peer's end of the bus. Waiting for a peer that has ended is an error: on a network it could wait for long."""

    def __init__(self, bus: Bus, peer: int, slots: int = 1) -> None:
        self.bus, self.peer = bus, peer
        self.slots = slots
        self.size = bus.topology.size
        self.peers = (peer,)

    def W(self, at: Step) -> np.ndarray:
        """Return W; these tests have no rounds below 0 and no final consensus of a schedule."""
        topology = self.bus.topology
        static = topology.schedule is None and topology.weights == "metropolis"
        return metropolis(topology.graph) if static else topology.matrix(at.round * self.slots + at.slot)

    def sources(self, at: Step) -> list[int]:
        return [j for j in np.flatnonzero(self.W(at)[self.peer]).tolist() if j != self.peer]

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        return tuple(j for j in np.flatnonzero(self.W(at)[:, peer]).tolist() if j != peer)

    def edges(self, at: Step) -> Edges:
        return self._edges(self.sources(at), at)

    def _edges(self, src: list[int], at: Step) -> Edges:
        weight = torch.tensor([float(self.W(at)[self.peer, j]) for j in src], dtype=torch.float64)
        dst = torch.full((len(src),), self.peer, dtype=torch.int64)
        return Edges(torch.tensor(src, dtype=torch.int64), dst, weight)

    def post(self, at: Step, out: Outbox) -> None:
        if self.peer in self.bus.dead and at >= self.bus.dead[self.peer]:
            raise Died
        with self.bus.changed:
            if out.rows is not None:
                sent = {j: out.rows[0].clone() for j in self.receivers(self.peer, at)}
            else:
                sent = {j: value for (_, j), value in out.edges.items()}
            self.bus.posts[self.peer, at] = sent
            self.bus.changed.notify_all()

    def collect(self, at: Step) -> Inbox:
        return self.collect_messages(at, lambda edge, message: message.body)

    def collect_messages(self, at: Step, read: Callable[[tuple[int, int], Received], Any]) -> Inbox:
        src, values, missing = [], [], []
        for j in self.sources(at):
            with self.bus.changed:
                known = self.bus.changed.wait_for(
                    lambda j=j: (
                        (j, at) in self.bus.posts
                        or j in self.bus.ended
                        or (j in self.bus.dead and at >= self.bus.dead[j])
                    ),
                    timeout=20,
                )
                assert known, f"peer {self.peer} hangs at {at} waiting for {j}"
                if (j, at) in self.bus.posts:
                    src.append(j)
                    values.append(read((self.peer, j), Received(j, self.bus.posts[j, at][self.peer])))
                else:
                    assert j not in self.bus.ended, f"peer {self.peer} waits at {at} for {j}, which has ended"
                    missing.append((self.peer, j))
        edges = self._edges(src, at)
        return Inbox(edges.src, edges.dst, edges.weight, values, tuple(missing))

    def mix(self, rows: torch.Tensor, at: Step, codec: Any = None) -> torch.Tensor:
        return mix_by_flows(self, rows, at)


class Lying(SimulatedMixer):
    """A mixer whose messages are replaced: ``lie`` returns what comes instead, None for nothing."""

    lie: Callable[[Step, int, int, Received], Received | None]

    def _message(self, at: Step, posted: Any, dst: int, src: int) -> Received | None:
        message = super()._message(at, posted, dst, src)
        return None if message is None else self.lie(at, dst, src, message)


@pytest.fixture
def lying() -> Callable[..., Lying]:
    """Return a function that makes a mixer whose message from ``src`` to ``dst`` (None: to all) is always ``body``."""

    def make(topology: Topology, src: int, dst: int | None, body: Any, **settings: Any) -> Lying:
        mixer = Lying(topology, **settings)
        mixer.lie = lambda at, to, sender, message: (
            Received(sender, body(message.body) if callable(body) else body)
            if sender == src and dst in (None, to) else message)
        return mixer

    return make


class Waves:
    """Local work in float32 that differs by peer and round."""

    steps = 1

    def __init__(self, peers: Sequence[int], shapes: Sequence[tuple[int, ...]] = (),
                 amplitude: float = 0.1) -> None:
        self.own = 1 + torch.tensor(peers, dtype=torch.float32)[:, None]
        self.clips = tuple(3 + 2 * i for i in peers)
        self.shapes, self.amplitude = tuple(shapes), amplitude

    def train(self, state: State, round: int, *, rows: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        x = state.rows["x"] if rows is None else rows
        return x - self.amplitude * torch.sin(x * self.own + 0.3 * round)


@pytest.fixture
def waves() -> type[Waves]:
    """Return ``Waves``, the local work of peers: ``waves(peers)``."""
    return Waves


@pytest.fixture
def each_alone() -> Callable[..., dict[int, Any]]:
    """Return a function that runs ``work(mixer)`` in a thread for each peer: {peer: result}, the dead left
    out.
    """

    def run(
        topology: Topology,
        work: Callable[[SoloMixer], Any],
        dead: dict[int, Step] | None = None,
        slots: int = 1,
    ) -> dict[int, Any]:
        bus = Bus(topology, dead or {})
        results: dict[int, Any] = {}
        errors: list[BaseException] = []

        def one(peer: int) -> None:
            try:
                results[peer] = work(SoloMixer(bus, peer, slots))
            except Died:
                return
            except BaseException as error:
                errors.append(error)
            finally:
                with bus.changed:
                    if peer not in bus.dead:
                        bus.ended.add(peer)
                    bus.changed.notify_all()

        threads = [threading.Thread(target=one, args=(peer,), daemon=True) for peer in range(topology.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        if errors:
            raise errors[0]
        assert not any(thread.is_alive() for thread in threads)
        return results

    return run


@pytest.fixture
def topology_of() -> Callable[..., Topology]:
    """Return ``make_topology``: a Topology from a networkx graph."""
    return make_topology


@pytest.fixture
def whole_and_resumed(tmp_path: Path) -> Callable[..., tuple[State, State]]:
    """Run nine rounds at once, and again with a checkpoint after four, from which another run goes on.

    ``method()`` and ``start()`` make a fresh algorithm and fresh rows; returns both ends.
    """

    def both(method: Callable[[], Algorithm], start: Callable[[], torch.Tensor], work: Any, where: Topology
             ) -> tuple[State, State]:
        whole = run(method(), State({"x": start()}), work, SimulatedMixer(where), 9)
        half = run(method(), State({"x": start()}), work, SimulatedMixer(where), 4)
        checkpoint.save(tmp_path, 4, half.rows, half.edges, {})
        found = checkpoint.load(tmp_path, 4)
        resumed = run(method(), State(found.rows, found.edges), work, SimulatedMixer(where), 9, 4)
        return whole, resumed

    return both
