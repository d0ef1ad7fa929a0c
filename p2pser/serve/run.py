"""The process of a server: HTTP on a socket until it is interrupted."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

CONNECTIONS = 256
"""Connections at the same time; further ones are refused (503)."""


def run(app: ASGIApp, sock: socket.socket) -> None:
    """Serve until the process is interrupted; requests that have begun have a few seconds to end."""
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, http="h11", limit_concurrency=CONNECTIONS,
                                  server_header=False, timeout_graceful_shutdown=5)).run(sockets=[sock])
