"""Fake sockets and the wires between them, in the place of what ``p2pser.network`` takes of ZeroMQ and the kernel.

A wire stands for one TCP connection with its handshake: in each direction frames arrive in the order in which they were
sent, after a delay, or not at all once the connection has ended. A direction can be blocked: its frames wait, as TCP
sends them again. Wires of different pairs overtake each other.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq

from p2pser.network.keys import REFUSALS
from schedules.world import World

if TYPE_CHECKING:
    from schedules.machine import Machine

IN_FLIGHT = 256
"""Frames that one direction of a wire holds before the sender is told to wait."""
RETRY = (0.1, 1.0)
"""Shortest and longest time between two attempts to dial [s]."""
BROKEN_AFTER = 45.0
"""A direction that was blocked for so long ends the connection (ZeroMQ's heartbeats) [s]."""


class Frame:
    """A received frame, as much of ``zmq.Frame`` as the connections use."""

    def __init__(self, data: bytes, sender: int = -1, descriptor: int = -1) -> None:
        self.bytes, self._properties = data, {"User-Id": str(sender), "__fd": str(descriptor)}

    @property
    def buffer(self) -> memoryview:
        return memoryview(self.bytes)

    def __getitem__(self, name: str) -> str:
        return self._properties[name]

    def __len__(self) -> int:
        return len(self.bytes)


class Monitor:
    """What happened to a socket, unread."""

    def __init__(self) -> None:
        self.unread: deque[tuple[zmq.Event, int]] = deque()

    def close(self, linger: int = 0) -> None:
        self.unread.clear()


class Socket:
    """An inert socket: the one of the ZAP handler, or a prober."""

    linger = 0

    def __init__(self, context: Context) -> None:
        self.context, self.monitor, self.unread, self.closed = context, Monitor(), deque(), False
        context.opened.append(self)

    def bind(self, address: str) -> None: ...

    def setsockopt(self, option: int, value: Any) -> None: ...

    def disable_monitor(self) -> None: ...

    def close(self, linger: int = 0) -> None:
        self.closed = True


class Router(Socket):
    """A listener."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.wires: dict[bytes, Wire] = {}

    def send_multipart(self, frames: list[bytes], flags: int = 0) -> None:
        wire = self.wires.get(bytes(frames[0]))
        if wire is None:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        wire.send(False, frames[1])

    def close(self, linger: int = 0) -> None:
        super().close()
        for wire in list(self.wires.values()):
            wire.finish(False)


class Dealer(Socket):
    """A dialler: it dials again and again until it is closed."""

    def __init__(self, context: Context, target: int) -> None:
        super().__init__(context)
        self.target, self.wire, self.wait = target, None, RETRY[0]

    def send_multipart(self, frames: list[bytes], flags: int = 0) -> None:
        if self.wire is None:
            raise zmq.Again
        self.wire.send(True, frames[0])

    def dial(self) -> None:
        """Try once; where it fails, again later."""
        context = self.context
        if self.closed or context.machine.process is not context.process:
            return
        there = context.network.machines[self.target].process
        me = context.machine.id
        router = there.context.router if there is not None and there.context is not None else None
        open_ways = not {(me, self.target), (self.target, me)} & context.network.blocked.keys()
        if router is None or there.stopped or context.process.stopped or not open_ways:
            self.retry()
            return
        self.wait = RETRY[0]
        if there.io is None or me not in there.io._neighbours:  # it does not admit our key
            epoch = 0 if there.io is None else there.io._protocol.control.hello.epoch
            self.tell(zmq.EVENT_HANDSHAKE_FAILED_AUTH, int(REFUSALS[epoch % 2]))
            return
        self.wire = Wire(context.network, self, router)
        self.tell(zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def retry(self) -> None:
        self.context.network.world.after(self.wait, self.dial)
        self.wait = min(2 * self.wait, RETRY[1])

    def lost(self) -> None:
        """The wire has ended, as this end sees it."""
        self.wire = None
        if not self.closed:
            self.tell(zmq.EVENT_DISCONNECTED)
            self.tell(zmq.EVENT_CONNECT_RETRIED)
            self.retry()

    def tell(self, event: zmq.Event, value: int = 0) -> None:
        self.monitor.unread.append((event, value))
        self.context.process.stir()

    def close(self, linger: int = 0) -> None:
        super().close()
        if self.wire is not None:
            self.wire.finish(True)


class Wire:
    """One connection between a dialler and a listener.

    ``send(forth, ...)`` carries a frame from the dialler (forth) or from the listener (back).
    """

    def __init__(self, network: Network, dealer: Dealer, router: Router) -> None:
        self.network, self.dealer, self.router = network, dealer, router
        self.here, self.there = dealer.context.machine.id, router.context.machine.id
        self.descriptor = 1_000_000 + next(network.count)
        self.identity = b"wire-%d" % self.descriptor
        self.open = {True: True, False: True}
        """Which end still knows the connection: the dialler's (True), the listener's (False)."""
        self.flying: dict[bool, deque[bytes | None]] = {True: deque(), False: deque()}
        self.arrives: dict[bool, float] = {True: 0.0, False: 0.0}
        self.held: dict[bool, int] = {True: 0, False: 0}
        """Frames that wait for the direction to be unblocked."""
        router.wires[self.identity] = self
        network.wires[self.identity] = self

    def way(self, forth: bool) -> tuple[int, int]:
        return (self.here, self.there) if forth else (self.there, self.here)

    def send(self, forth: bool, frame: bytes | None) -> None:
        """Send a frame, or (None) the end of the stream."""
        flying, network = self.flying[forth], self.network
        if frame is not None and len(flying) >= IN_FLIGHT:
            raise zmq.Again
        copies = (frame,) if frame is None else network.sent(*self.way(forth), bytes(frame))
        for copy in copies:
            flying.append(copy)
            if self.way(forth) in network.blocked:
                self.held[forth] += 1
            else:
                self._fly(forth)

    def _fly(self, forth: bool) -> None:
        network = self.network
        when = max(self.arrives[forth], network.world.now + network.delay(*self.way(forth)))
        self.arrives[forth] = when
        network.world.after(when - network.world.now, lambda: self._arrive(forth))

    def _arrive(self, forth: bool) -> None:
        if not self.flying[forth]:
            return  # lost with the connection
        if self.way(forth) in self.network.blocked:
            self.held[forth] += 1
            return
        frame = self.flying[forth].popleft()
        if not self.open[not forth]:
            if self.network.machines[self.way(forth)[1]].process is not None:
                self.drop(forth)  # half-open until now: that machine knows no such connection
            return
        if frame is None:
            self.drop(not forth)
        elif forth:
            self.router.unread.append([Frame(self.identity), Frame(frame, self.here, self.descriptor)])
            self.router.context.process.stir()
        else:
            self.dealer.unread.append([Frame(frame, self.there)])
            self.dealer.context.process.stir()

    def unblocked(self, way: tuple[int, int]) -> None:
        """Let the frames of a direction fly that have waited."""
        for forth in (True, False):
            if self.way(forth) == way:
                held, self.held[forth] = self.held[forth], 0
                for _ in range(held):
                    self._fly(forth)

    def finish(self, dialler: bool) -> None:
        """An end closes: what it has sent arrives still, then the other end learns of it."""
        if self.open[dialler]:
            self.drop(dialler)
            self.send(dialler, None)

    def drop(self, dialler: bool) -> None:
        """An end takes the connection for ended."""
        if not self.open[dialler]:
            return
        self.open[dialler] = False
        if dialler:
            if self.dealer.wire is self:
                self.dealer.lost()
        else:
            self.router.wires.pop(self.identity, None)
            self.router.monitor.unread.append((zmq.EVENT_DISCONNECTED, self.descriptor))
        if not any(self.open.values()):
            self.network.wires.pop(self.identity, None)

    def reset(self) -> None:
        """The connection breaks: what is in flight is lost, and both ends learn of it."""
        for forth in (True, False):
            self.flying[forth].clear()
            self.held[forth] = 0
            self.drop(forth)


class Context:
    """The sockets of one process (``zmq.Context``)."""

    born_for: Any = None
    """The process whose connections are being made."""

    def __init__(self) -> None:
        process = self.born_for
        process.context = self
        self.process, self.machine = process, process.machine
        self.network: Network = process.machine.network
        self.opened: list[Socket] = []
        self.router: Router | None = None

    def socket(self, kind: int) -> Socket:
        return Socket(self)

    def term(self) -> None: ...

    def vanish(self, quietly: bool) -> None:
        """The process is killed. ``quietly``: its machine went down, and nobody is told."""
        wires = [socket.wire for socket in self.opened if isinstance(socket, Dealer) and socket.wire is not None]
        wires += list(self.router.wires.values()) if self.router is not None else []
        for wire in wires:
            mine = wire.dealer.context is self
            wire.open[mine] = False
            wire.router.wires.pop(wire.identity, None) if not mine else None
            wire.flying[mine].clear()
            wire.held[mine] = 0
            if not quietly:
                wire.send(mine, None)
        self.router = None


class Network:
    """All machines and the wires between them.

    ``blocked`` holds the directions (from, to) in which nothing arrives, with the time at which that began.
    """

    def __init__(self, world: World, base_port: int) -> None:
        self.world, self.base_port = world, base_port
        self.machines: dict[int, Machine] = {}
        self.wires: dict[bytes, Wire] = {}
        self.blocked: dict[tuple[int, int], float] = {}
        self.slow: dict[tuple[int, int], float] = {}
        """Further delay of a direction [s]."""
        self.mutate: dict[int, Callable[[int, bytes], tuple[bytes, ...]]] = {}
        """What a hostile peer sends in the place of a frame, by peer: (receiver, frame) -> frames."""
        self.count = itertools.count()
        self.frames = 0
        self._base: dict[tuple[int, int], float] = {}

    def at(self, address: str) -> int:
        return int(address.rpartition(":")[2]) - self.base_port

    def delay(self, i: int, j: int) -> float:
        """Return how long a frame takes now [s]."""
        draw = self.world.random
        base = self._base.setdefault((i, j), draw.choice((0.0002, 0.001, 0.005, 0.04)))
        return base * (0.75 + 0.5 * draw.random()) + self.slow.get((i, j), 0.0)

    def sent(self, i: int, j: int, frame: bytes) -> tuple[bytes, ...]:
        """Return what travels where peer i sends a frame to peer j."""
        self.frames += 1
        change = self.mutate.get(i)
        return (frame,) if change is None else change(j, frame)

    def block(self, i: int, j: int) -> None:
        """Let nothing arrive from i at j from now on."""
        since = self.blocked.setdefault((i, j), self.world.now)
        self.world.after(BROKEN_AFTER, lambda: self._break(i, j, since))

    def unblock(self, i: int, j: int) -> None:
        """Let frames from i arrive at j again, those first that have waited."""
        if self.blocked.pop((i, j), None) is not None:
            for wire in list(self.wires.values()):
                wire.unblocked((i, j))

    def _break(self, i: int, j: int, since: float) -> None:
        if self.blocked.get((i, j)) == since:
            self.reset(i, j)

    def reset(self, i: int, j: int) -> None:
        """Break every connection between two peers."""
        for wire in list(self.wires.values()):
            if {wire.here, wire.there} == {i, j}:
                wire.reset()
