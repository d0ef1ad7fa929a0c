"""The browser page of a run: one static page, and one address from which it asks for the run again and again.

Bound to this machine only. A page of another site cannot read it: requests for another host name are refused (DNS
rebinding), and no other origin is allowed to read the answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from p2pser.base.errors import ConfigError
from p2pser.base.paths import packaged
from p2pser.watch.document import Observer

HOST = "127.0.0.1"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin"}


def app(observer: Observer) -> Starlette:
    """Return the application that shows a run: ``/`` is the page, ``/run.json?round=R&peer=I`` what it shows."""
    page = packaged("watch/page.html").read_text(encoding="utf-8")
    headers = {**_HEADERS, "Content-Security-Policy": _policy(page), "X-Frame-Options": "DENY"}

    async def index(request: Request) -> Response:
        return Response(page, media_type="text/html", headers=headers)

    async def run(request: Request) -> Response:
        try:
            document = observer.document(_number(request, "round"), _number(request, "peer"))
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        except ConfigError as error:
            return _json({"error": str(error)}, 404)
        return _json(document)

    return Starlette(routes=[Route("/", index), Route("/run.json", run)], middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)])


def listen(port: int) -> socket.socket:
    """Return a socket on this machine's own address. port : 0 takes a free one. Raises ConfigError."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {HOST}:{port}: {error.strerror or error}; give another port (--port), or "
                          "--port 0 for any that is free") from None


def serve(observer: Observer, sock: socket.socket) -> None:
    """Show a run until the process is interrupted."""
    uvicorn.Server(uvicorn.Config(app(observer), log_level="warning", lifespan="off", ws="none",
                                  timeout_graceful_shutdown=1)).run(sockets=[sock])


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is not None and not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{name} is a whole number")
    return None if text is None else int(text)


def _json(document: dict[str, object], status: int = 200) -> Response:
    return Response(json.dumps(document, allow_nan=False), status, _HEADERS, "application/json")


def _policy(page: str) -> str:
    """Return a policy that lets run what stands in the page, and nothing that run files may have brought into it."""
    def own(tag: str) -> str:
        text = page[page.index(f"<{tag}>") + len(tag) + 2:page.index(f"</{tag}>")]
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (f"default-src 'none'; script-src 'sha256-{own('script')}'; style-src 'sha256-{own('style')}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
