"""The browser page of a run: one static page, and one address from which it asks for the run again and again.

Bound to this machine only, and for its user only, as the files that it shows are. A page of another site cannot read
it: requests for another host name are refused (DNS rebinding), and no other origin is allowed to read the answers.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pser.base.errors import ConfigError
from p2pser.base.pages import OwnPages, as_json, as_page
from p2pser.base.paths import packaged
from p2pser.watch.document import Observer

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Where Linux lists connections, each with the user whose program has opened it."""


def app(observer: Observer) -> Starlette:
    """Return the application that shows a run: ``/`` is the page, ``/run.json?round=R&peer=I`` what it shows."""
    page = packaged("watch/page.html").read_text(encoding="utf-8")

    async def index(request: Request) -> Response:
        return as_page(page)

    async def run(request: Request) -> Response:
        asked = {name: request.query_params.get(name) for name in ("round", "peer")}
        if any(text is not None and not re.fullmatch("[0-9]{1,9}", text) for text in asked.values()):
            return as_json({"error": "round and peer are whole numbers"}, 400)
        try:
            return as_json(observer.document(**{name: int(text) for name, text in asked.items() if text is not None}))
        except ConfigError as error:
            return as_json({"error": str(error)}, 404)

    return Starlette(routes=[Route("/", index), Route("/run.json", run)],
                     middleware=[Middleware(_OwnUser), Middleware(OwnPages)])


class _OwnUser:
    """Answers programs of this user and of root only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends = scope.get("client"), scope.get("server")
        user = user_of(ends[0][1], ends[1][1]) if ends[0] and ends[1] else None
        answer = self._app if user in (None, 0, os.getuid()) else Response("for another user", 403)
        await answer(scope, receive, send)


def user_of(port: int, to: int, tables: Collection[Path] = TABLES) -> int | None:
    """Return the user whose program has connected from one port of this machine to another; None where the system does
    not say."""
    # A line: number, own address, remote address, state, queues, timer, retransmissions, user, …; HOST as the system
    # keeps it, in either order of bytes.
    ends = [re.compile(f".*(0100007F|7F000001):{number:04X}") for number in (port, to)]
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if all(end.fullmatch(field) for end, field in zip(ends, fields[1:3])):
                return int(fields[7])
    return None


def serve(observer: Observer, sock: socket.socket) -> None:
    """Show a run until the process is interrupted."""
    uvicorn.Server(uvicorn.Config(app(observer), log_level="warning", lifespan="off", ws="none",
                                  timeout_graceful_shutdown=1)).run(sockets=[sock])
