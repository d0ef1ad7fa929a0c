"""The process of a server: HTTP on a socket until it is interrupted."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from p2pser.serve.streams import BLOCK

CONNECTIONS = 256
"""Connections at the same time; further ones are refused (503)."""


def run(app: ASGIApp, sock: socket.socket) -> None:
    """Serve until the process is interrupted; requests that have begun have a few seconds to end."""
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, http="h11", limit_concurrency=CONNECTIONS,
                                  server_header=False, ws_max_size=BLOCK, ws_max_queue=4,
                                  timeout_graceful_shutdown=5)).run(sockets=[sock])
