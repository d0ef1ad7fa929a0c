"""A small HTTP server for monitoring systems, with a page for each path.

One thread with its own event loop, which uses neither the sockets nor the locks of the network. The cost of clients is
bounded: the number of connections, their duration, and the length of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple

from p2pser.base.errors import ConfigError
from p2pser.base.hosts import EVERYWHERE

PATIENCE = 5.0
"""Longest duration of a request with its answer [s]."""
LONGEST = 8192
"""Largest size of a request [B]."""
PAUSE = 1.0
"""Pause before connections are accepted again when the process has no free descriptor [s]."""
AT_ONCE = 16
"""Most open connections; a further one replaces the oldest."""


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    kind: str
    """The content type."""
    body: bytes


class Endpoint:
    """Serves pages. A context manager, which closes all connections at its end.

    Parameters
    ----------
    host, port : the address to listen on; port 0: any free port.
    pages : path -> function that makes its page, called in this endpoint's thread.

    Raises ConfigError where the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        self._host, self._pages = host, pages
        self._connections: list[asyncio.Task[None]] = []
        """The open connections, the oldest first."""
        try:
            name = "0.0.0.0" if host == EVERYWHERE else host.strip("[]")
            places = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            # A name may have addresses of both families; monitoring systems are configured with 127.0.0.1.
            family, _, _, _, address = min(places, key=lambda place: place[0] != socket.AF_INET)
            self._socket = socket.create_server(address[:2], family=family)
        except (OSError, UnicodeError) as error:
            raise _unusable(host, port, error) from None
        self.port: int = self._socket.getsockname()[1]
        self._started, self._failed = threading.Event(), list[OSError]()
        self._thread = threading.Thread(target=self._main, name="p2pser-metrics", daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        self._started.wait()
        if self._failed:
            self._socket.close()
            raise _unusable(self._host, self.port, self._failed[0])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())  # at the end it cancels the open connections
        except OSError as error:  # no free descriptor for the event loop
            self._failed.append(error)
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        with self._socket:
            self._socket.setblocking(False)
            self._listen()
            self._started.set()
            await self._over.wait()
            self._loop.remove_reader(self._socket)

    def _listen(self) -> None:
        if not self._over.is_set():
            self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no free descriptor
            self._loop.remove_reader(self._socket)
            self._loop.call_later(PAUSE, self._listen)
            return
        if len(self._connections) >= AT_ONCE:
            self._connections.pop(0).cancel()  # a request is answered immediately: the oldest has sent none
        task = self._loop.create_task(self._connected(connection))
        self._connections.append(task)
        task.add_done_callback(partial(self._ended, connection))

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        connection.close()
        if task in self._connections:
            self._connections.remove(task)

    async def _connected(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(self._answer(connection), PATIENCE)

    async def _answer(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            more = await self._loop.sock_recv(connection, LONGEST)
            request += more
            if not more or len(request) > LONGEST:
                return
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        page = self._page(method, rest.partition(" ")[0].partition("?")[0])
        head = (f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\nContent-Type: {page.kind}\r\n"
                f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n")
        await self._loop.sock_sendall(connection, head.encode("latin-1") + (b"" if method == "HEAD" else page.body))

    def _page(self, method: str, path: str) -> Page:
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        make = self._pages.get(path)
        return _plain(HTTPStatus.NOT_FOUND, f"there are {' and '.join(self._pages)}\n") if make is None else make()


def _unusable(host: str, port: int, error: Exception) -> ConfigError:
    code = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    why = getattr(error, "strerror", None) or error if code is None else os.strerror(code)
    return ConfigError(f"cannot serve metrics at {host}, port {port}: {why}; "
                       "choose another port (--metrics PORT, or network.metrics_port)")


def _plain(status: HTTPStatus, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode())
