"""The process of a server: HTTP on a socket until it is interrupted."""

from __future__ import annotations

import asyncio
import socket

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2pser.serve.streams import BLOCK

CONNECTIONS = 256
"""Connections at the same time; further ones are refused (503)."""


HEAD = 10.0
"""Longest time in which a request's head arrives [s]."""


class Impatient(H11Protocol):
    """Closes a connection whose request's head has not arrived within ``HEAD`` seconds of its first byte, or of the
    beginning of the connection.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait while the head is not complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def run(app: ASGIApp, sock: socket.socket) -> None:
    """Serve until the process is interrupted; requests that have begun have a few seconds to end."""
    uvicorn.Server(configuration(app)).run(sockets=[sock])


def configuration(app: ASGIApp) -> uvicorn.Config:
    """Return what uvicorn grants clients."""
    return uvicorn.Config(app, log_level="error", access_log=False, http=Impatient, limit_concurrency=CONNECTIONS,
                          server_header=False, ws_max_size=BLOCK, ws_max_queue=4, timeout_graceful_shutdown=5)
