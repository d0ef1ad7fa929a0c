"""TCP relays on loopback between peers: each way of each link can be cut, healed, delayed, slowed or broken.

A relay is a port that one peer dials in place of another. It needs no rights. What it cannot show is the loss of single
packets: TCP would send them again, so a loss is a pause of the stream (``Condition.loss``).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from p2pser.config import Config
from p2pser.graph.spec import PeerEntry, Topology
from p2pser.peer.launch import free_base_port

PIECE = 16384
"""Bytes that are carried at a time."""
IN_FLIGHT = 64
"""Pieces on the way before the sender is read no further."""
RETRANSMISSION = 0.2
"""How long the loss of a piece holds up those behind it [s]: TCP's smallest timeout."""

Way = tuple[int, int]
"""(sender, receiver)."""


@dataclass(frozen=True)
class Condition:
    """How one way of a link is: cut (bytes wait until it is healed), delay [s], rate [B/s], share of pieces lost."""

    cut: bool = False
    delay: float = 0.0
    rate: float = float("inf")
    loss: float = 0.0

    def with_(self, other: Condition) -> Condition:
        """Return the condition of a way to which both happen."""
        return Condition(self.cut or other.cut, max(self.delay, other.delay), min(self.rate, other.rate),
                         max(self.loss, other.loss))


class Relays:
    """A relay for each ordered pair of neighbours of a topology. A context manager; its methods are for any thread.

    Parameters
    ----------
    topology : the run's.
    seed : of the losses.
    """

    def __init__(self, topology: Topology, seed: int = 0) -> None:
        self._pairs = [(i, j) for i in range(topology.size) for j in topology.neighbours(i)]
        self._base = free_base_port(topology.size + len(self._pairs))
        self._topology = topology
        self._conditions: dict[Way, Condition] = {}
        self._changed = asyncio.Event()
        self._open: dict[Way, set[asyncio.StreamWriter]] = {pair: set() for pair in self._pairs}
        self._draw = np.random.default_rng(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="relays")
        self._ready = threading.Event()
        self._stop: asyncio.Event

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        """Return the run as one peer sees it: it listens on a port of its own, and dials relays."""
        ports = {pair: self._base + self._topology.size + at for at, pair in enumerate(self._pairs)}
        entries = {j: replace(self._topology.peers.get(j, PeerEntry()), address=f"tcp://127.0.0.1:{ports[me, j]}")
                   for j in self._topology.neighbours(me)}
        own = replace(self._topology.peers.get(me, PeerEntry()), address=f"tcp://127.0.0.1:{self._base + me}")
        return config, replace(self._topology, peers={**self._topology.peers, **entries, me: own})

    def namespace(self, me: int) -> str:
        """All peers share the network of this machine."""
        return ""

    # Disturbances -------------------------------------------------------------------------------------------

    def set(self, ways: Iterable[Way], **condition: float) -> None:
        """Change the condition of some ways, for example ``cut=True`` or ``delay=0.1``."""
        def change() -> None:
            for way in chosen:
                self._conditions[way] = replace(self._conditions.get(way, Condition()), **condition)
            self._changed.set()
        chosen = list(ways)
        self._do(change)

    def heal(self, ways: Iterable[Way] | None = None) -> None:
        """Take all disturbances from some ways; by default from all."""
        def change() -> None:
            for way in list(self._conditions) if chosen is None else chosen:
                self._conditions.pop(way, None)
            self._changed.set()
        chosen = None if ways is None else list(ways)
        self._do(change)

    def impose(self, conditions: Mapping[Way, Condition]) -> None:
        """Let these conditions hold from now on, and no others."""
        def change() -> None:
            self._conditions = dict(conditions)
            self._changed.set()
        self._do(change)

    def reset(self, i: int, j: int) -> None:
        """Break the connections between two peers, once."""
        def close() -> None:
            for pair in ((i, j), (j, i)):
                for writer in self._open.get(pair, ()):
                    writer.transport.abort()
        self._do(close)

    def _do(self, what: Callable[[], None]) -> None:
        """Let the relays' thread do something, and wait for it: what happens next finds it done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (what(), done.set()))
        if not done.wait(60):
            raise TimeoutError("the thread of the relays has hung for a minute")

    # Life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Relays:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._stop.set())
        self._thread.join()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        servers = [await asyncio.start_server(self._relay(pair), "127.0.0.1", self._base + self._topology.size + at)
                   for at, pair in enumerate(self._pairs)]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # One connection -----------------------------------------------------------------------------------------

    def _relay(self, pair: Way) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
        async def relay(from_dialler: asyncio.StreamReader, to_dialler: asyncio.StreamWriter) -> None:
            dialler, dialled = pair
            self._open[pair].add(to_dialler)
            writers = [to_dialler]
            with contextlib.suppress(OSError, asyncio.CancelledError):
                try:
                    from_dialled, to_dialled = await asyncio.open_connection("127.0.0.1", self._base + dialled)
                    writers.append(to_dialled)
                    there = asyncio.ensure_future(self._carry(from_dialler, to_dialled, (dialler, dialled)))
                    back = asyncio.ensure_future(self._carry(from_dialled, to_dialler, (dialled, dialler)))
                    await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                    for task in (there, back):
                        task.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
                finally:
                    self._open[pair].discard(to_dialler)
                    for writer in writers:
                        writer.transport.abort()
        return relay

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Carry bytes one way until either end closes."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        deliver = asyncio.ensure_future(self._deliver(on_the_way, writer, way))
        try:
            while piece := await reader.read(PIECE):
                await on_the_way.put((self._loop.time(), piece))
            await on_the_way.put((self._loop.time(), b""))
            await deliver
        finally:
            deliver.cancel()

    async def _deliver(self, on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter,
                       way: Way) -> None:
        while True:
            sent, piece = await on_the_way.get()
            while self._condition(way).cut:
                self._changed.clear()
                await self._changed.wait()
            if not piece:
                return
            now = self._condition(way)
            lost = RETRANSMISSION if now.loss and self._draw.random() < now.loss else 0.0
            pause = max(0.0, sent + now.delay - self._loop.time()) + len(piece) / now.rate + lost
            if pause > 0:
                await asyncio.sleep(pause)
            writer.write(piece)
            await writer.drain()

    def _condition(self, way: Way) -> Condition:
        return self._conditions.get(way, Condition())
