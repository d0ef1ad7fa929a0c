"""What stands, in a schedule, in the place of ``zmq.Poller`` and of two modules of ``p2pser.network``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import zmq

from p2pser.network.neighbour import Contact
from schedules.wires import Context, Dealer, Frame, Monitor, Network, Router, Socket


class Poller:
    """In the place of ``zmq.Poller``: which sockets have something unread."""

    def __init__(self) -> None:
        self._sources: dict[Any, None] = {}

    def register(self, source: Any, flags: int) -> None:
        self._sources[source] = None

    def unregister(self, source: Any) -> None:
        del self._sources[source]

    def poll(self, timeout: int) -> list[tuple[Any, int]]:
        return [(source, zmq.POLLIN) for source in self._sources if source.unread]


class Sockets:
    """In the place of the functions of ``p2pser.network.sockets``."""

    @staticmethod
    def bind(socket: Router, address: str) -> None: ...

    @staticmethod
    def listener(context: Context, address: str, keys: Any) -> Router:
        router = context.router = Router(context)
        return router

    @staticmethod
    def dialler(context: Context, contact: Contact, keys: Any) -> Dealer:
        return Dealer(context, context.machine.network.at(contact.address))

    @staticmethod
    def endpoint(socket: Router) -> str:
        return f"tcp://127.0.0.1:{socket.context.machine.id}"

    @staticmethod
    def prober(context: Context, contact: Contact) -> Socket:
        return Socket(context)

    @staticmethod
    def greeted(probe: Socket) -> bool:
        return False

    @staticmethod
    def connect(socket: Socket, address: str) -> None:
        if isinstance(socket, Dealer):
            delay = socket.context.network.delay(socket.context.machine.id, socket.target)
            socket.context.network.world.after(2 * delay, socket.dial)

    @staticmethod
    def watch(socket: Socket, *, dials: bool) -> Monitor:
        return socket.monitor

    @staticmethod
    def happened(monitor: Monitor, most: int = 64) -> Iterator[tuple[zmq.Event, int]]:
        for _ in range(min(most, len(monitor.unread))):
            yield monitor.unread.popleft()

    @staticmethod
    def received(socket: Socket, most: int = 64) -> Iterator[list[Frame]]:
        for _ in range(min(most, len(socket.unread))):
            yield socket.unread.popleft()

    @staticmethod
    def close(socket: Socket, monitor: Monitor | None, linger: float) -> None:
        if monitor is not None:
            monitor.close(0)
        socket.close()


class Descriptors:
    """In the place of the functions of ``p2pser.network.descriptors``."""

    network: Network

    @staticmethod
    def cut(descriptor: int, port: int) -> None:
        for wire in list(Descriptors.network.wires.values()):
            if wire.descriptor == descriptor:
                wire.reset()

    @staticmethod
    def received(descriptor: int) -> int:
        return 0

    @staticmethod
    def host(descriptor: int) -> str:
        return "127.0.0.1"

    @staticmethod
    def limit() -> int:
        return 1024

    @staticmethod
    def stop_accepting(descriptor: int) -> None: ...

    @staticmethod
    def resume_accepting(descriptor: int) -> None: ...
