"""I/O threads of several peers in one process, each directed connection through a proxy that can misbehave."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import pytest
from mixer_peers import Peers

from p2pser.config import NetworkSettings
from p2pser.network import events, keys
from p2pser.network.io import IOThread
from p2pser.network.neighbour import Contact
from p2pser.network.states import State
from p2pser.wire.hello import Hello

E = TypeVar("E")
T = TypeVar("T")
SECRET = b"s" * 32
EVENT_TIMEOUT = 60.0
"""Longest wait for an event on a busy machine [s]; an idle one takes a second."""


class Clock:
    """The time of a peer, which its test may let run ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Proxy:
    """Forwards TCP connections to where it is aimed, refuses them before; can cut, stall and slow them down."""

    def __init__(self) -> None:
        self.target: tuple[str, int] | None = None
        self._stalled = False
        self.rate: float | None = None
        """Bytes per second in each direction; None: as fast as it goes."""
        self.forwarded = 0
        """Bytes that have passed, both ways together."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._here, self._there = socket.socketpair()
        self._do: list[Callable[[], None]] = []
        self._ended: set[socket.socket] = set()
        self._pairs: dict[socket.socket, tuple[socket.socket, bool]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._there, selectors.EVENT_READ)
        self._open = True
        self._budget = {True: 0.0, False: 0.0}
        self._at = {True: time.monotonic(), False: time.monotonic()}
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    def aim(self, port: int) -> None:
        """Take connections from now on, for this port of this machine."""
        first, self.target = self.target is None, ("127.0.0.1", port)
        if first:
            self._listener.listen()
            self._ask(lambda: self._selector.register(self._listener, selectors.EVENT_READ) and None)

    @property
    def stalled(self) -> bool:
        """Whether it forwards nothing; once this is set, no byte passes any more."""
        return self._stalled

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        taken = threading.Event()
        self._ask(lambda: setattr(self, "_stalled", stalled) or taken.set())
        assert taken.wait(EVENT_TIMEOUT)

    def release(self) -> None:
        """Forward everything again, without a wait: the other end of a connection may have hung."""
        self._stalled, self.rate = False, None

    def cut(self) -> None:
        """Reset every connection now; new ones are taken."""
        self._ask(self._cut)

    def close(self) -> None:
        self._ask(self._stop)
        self._thread.join()

    def _ask(self, what: Callable[[], None]) -> None:
        self._do.append(what)
        self._here.send(b"!")

    def _main(self) -> None:
        while self._open:
            for key, _ in self._selector.select(0.02 if self.stalled or self.rate else 0.2):
                source = key.fileobj
                if source is self._listener:
                    self._accept()
                elif source is self._there:
                    self._there.recv(4096)
                elif source in self._pairs and not self.stalled:
                    self._forward(source)  # type: ignore[arg-type]
            if self.stalled:
                threading.Event().wait(0.02)
            while self._do:
                self._do.pop(0)()
        for one in (self._listener, self._here, self._there):
            one.close()
        self._selector.close()

    def _accept(self) -> None:
        assert self.target is not None
        with contextlib.ExitStack() as unless_both:
            try:
                far = unless_both.enter_context(socket.socket())
                near, _ = self._listener.accept()
                unless_both.enter_context(near)
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                far.connect(self.target)
            except OSError:
                # The target does not listen: the connection closes. No descriptor is free: it stays in the backlog.
                threading.Event().wait(0.02)
                return
            unless_both.pop_all()
        for source, sink, out in ((near, far, True), (far, near, False)):
            source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            self._pairs[source] = sink, out
            self._selector.register(source, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        sink, out = self._pairs[source]
        most = 65536
        rate = self.rate
        if rate is not None:
            now = time.monotonic()
            self._budget[out] = min(self._budget[out] + (now - self._at[out]) * rate, 0.1 * rate)
            self._at[out] = now
            most = int(min(self._budget[out], 65536))
            if most < 512:
                threading.Event().wait(0.005)
                return
        try:
            data = source.recv(most)
            if data:
                sink.sendall(data)
        except OSError:
            data = b""
        self.forwarded += len(data)
        self._budget[out] -= len(data)
        if not data:
            self._end(source)

    def _end(self, source: socket.socket) -> None:
        """One direction has ended: the other end shall still get all of it."""
        self._selector.unregister(source)
        self._ended.add(source)
        sink, _ = self._pairs[source]
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if sink in self._ended:
            self._drop(source, reset=False)

    def _drop(self, source: socket.socket, *, reset: bool) -> None:
        if source in self._pairs:
            sink, _ = self._pairs.pop(source)
            self._pairs.pop(sink, None)
            for end in (source, sink):
                if end not in self._ended:
                    self._selector.unregister(end)
                self._ended.discard(end)
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def _cut(self) -> None:
        for source in list(self._pairs):
            self._drop(source, reset=True)

    def _stop(self) -> None:
        self._cut()
        self._open = False


class Network:
    """Peers that dial each other through proxies: ``proxies[i, j]`` carries the connection that i dials to j."""

    def __init__(self) -> None:
        self.proxies: dict[tuple[int, int], Proxy] = {}
        self.io: list[IOThread] = []
        self.seen: dict[int, list[events.Event]] = {}

    def proxy(self, i: int, j: int) -> Proxy:
        if (i, j) not in self.proxies:
            self.proxies[i, j] = Proxy()
        return self.proxies[i, j]

    def peer(self, me: int, neighbours: tuple[int, ...], *, dials: tuple[int, ...] | None = None,
             expects: dict[int, str] | None = None, key: keys.KeyPair | None = None, max_row_bytes: int = 16 << 20,
             hello: dict[str, Any] | None = None, start: bool = True, listen: bool = True, **network: Any) -> IOThread:
        """Start the IOThread of a peer; ``dials`` (default: all), ``expects``: public keys other than theirs."""
        said: dict[str, Any] = {"run": "run", "peer": me, "incarnation": 0, "settings": {"training.lr": 0.05},
                                "topology": "t" * 16, "schema": "5" * 16, "initial": (1.0, 0.5), "labels": ("a", "b"),
                                "clips": me + 1, **(hello or {})}
        near = []
        for j in neighbours:
            address = self.proxy(me, j).address if dials is None or j in dials else None
            near.append(Contact(j, address, (expects or {}).get(j, keys.derive(SECRET, "run", j).public)))
        # Only ``fall_silent`` makes a neighbour silent for so long, however busy the machine is.
        quick = {"ping_after": 0.3, "suspect_after": 50.0, "dead_after": 60.0, "linger": 0.5, **network}
        io = IOThread(Hello(**said), key or keys.derive(SECRET, "run", me), "tcp://127.0.0.1:*" if listen else None,
                      near, NetworkSettings(**quick), max_row_bytes, Clock())
        self.io.append(io)
        if start:
            self.start(io)
            if io.endpoint is not None:
                for j in neighbours:
                    self.proxy(j, me).aim(int(io.endpoint.rpartition(":")[2]))
        return io

    def start(self, io: IOThread) -> None:
        """Start an IOThread that ``peer`` has made."""
        io.start()
        self.seen[id(io)] = []

    def ask(self, io: IOThread, what: Callable[[], T]) -> T:
        """Return what a function returns in the I/O thread, which does nothing else meanwhile."""
        answers: SimpleQueue[T] = SimpleQueue()
        io._command(lambda: answers.put(what()))
        return answers.get(timeout=EVENT_TIMEOUT)

    def fall_silent(self, io: IOThread, peer: int, until: State) -> None:
        """Let time pass for a peer until one of its neighbours, and no other, is SUSPECT or LOST for its silence."""
        clock, neighbours = io.clock, io._neighbours
        assert isinstance(clock, Clock)

        def pass_time() -> None:
            for _ in range(1000):
                if neighbours[peer].state is until:
                    return
                clock.ahead += 0.5  # longer ones would be pauses of this process
                for other in neighbours.keys() - {peer}:
                    neighbours[other].refusal(io._protocol._awake.time(clock()))  # a sign of life
                io._protocol.tick()

        self.ask(io, pass_time)

    def wait(self, io: IOThread, kind: type[E], when: Callable[[E], bool] = lambda event: True) -> E:
        """Return the next event of a kind; those before it are kept in ``seen``."""
        end = time.monotonic() + EVENT_TIMEOUT
        while True:
            try:
                event = io.events.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                pytest.fail(f"no {kind.__name__} within {EVENT_TIMEOUT} s; there were {self.seen[id(io)]}")
            self.seen[id(io)].append(event)
            if isinstance(event, events.Failed):
                raise event.error
            if isinstance(event, events.Arrived):
                io.mark_read(event.peer)
            if isinstance(event, events.Progressed):
                io.mark_heard(event.peer)
            if isinstance(event, kind) and when(event):
                return event

    def find(self, io: IOThread, kind: type[E], when: Callable[[E], bool] = lambda event: True) -> E:
        """Return the first event of a kind that there was, or the next one."""
        for event in self.so_far(io):
            if isinstance(event, kind) and when(event):
                return event
        return self.wait(io, kind, when)

    def so_far(self, io: IOThread) -> list[events.Event]:
        """Every event that has come, without waiting."""
        while True:
            try:
                event = io.events.get_nowait()
            except Empty:
                return self.seen[id(io)]
            self.seen[id(io)].append(event)
            if isinstance(event, events.Failed):
                raise event.error

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.release()
        for io in self.io:
            io.close("done", flush=0.0)
        for proxy in self.proxies.values():
            proxy.close()


@pytest.fixture
def network() -> Iterator[Network]:
    """An empty network; its I/O threads and proxies are closed at the end."""
    one = Network()
    yield one
    one.close()


@pytest.fixture
def peers(network: Network) -> Iterator[Peers]:
    """No peers yet; threads that still wait for them end with the test."""
    peers = Peers(network)
    yield peers
    peers.over.set()
    for io in network.io:
        io.wake()
    peers.pool.shutdown(cancel_futures=True)


@pytest.fixture
def key_of() -> Callable[[int], keys.KeyPair]:
    """The key pair of a peer."""
    return lambda peer: keys.derive(SECRET, "run", peer)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds that no event tells of."""
    end, pause = time.monotonic() + EVENT_TIMEOUT, threading.Event()
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {EVENT_TIMEOUT} s: {what}")
        pause.wait(0.01)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[[Callable[[], bool], str], None]:
    """``eventually(condition, what)``: wait until a condition holds that no event tells of."""
    return eventually
