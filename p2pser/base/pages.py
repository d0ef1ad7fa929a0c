"""The common parts of the HTTP servers for browsers: their socket, the requests that they answer, and page policies."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pser.base.errors import ConfigError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Host names in requests for a page on HOST from this machine."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin"}


class OwnPages:
    """Middleware that answers requests for the given host names only, and no request from a page of another site.

    The first prevents DNS rebinding: a page of another site cannot reach this server by its own name. ``addresses``:
    requests for IP addresses are answered too, which no site can take as its name.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = NAMES, addresses: bool = False) -> None:
        self._app = app
        self._names, self._addresses = {name.lower() for name in names}, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not self._answers(host):
                answer = as_json({"error": "this server does not answer to that host name"}, 400)
            elif origin is not None and _place(origin) != host.lower():
                answer = as_json({"error": "this server does not answer pages of other sites"}, 403)
        await answer(scope, receive, send)

    def _answers(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._addresses


def _place(origin: str) -> str | None:
    """Return host and port of an origin; None where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def as_json(document: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response of one JSON document."""
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    # A file's name may hold bytes that are not text, as surrogates, which JSON can escape.
    return Response(text.encode(errors="backslashreplace"), status, {**HEADERS, **(headers or {})}, "application/json")


def as_page(page: str) -> Response:
    """Return a response with a page, which contains one script and one style."""
    return Response(page, headers={**HEADERS, "Content-Security-Policy": _policy(page), "X-Frame-Options": "DENY"},
                    media_type="text/html")


def _policy(page: str) -> str:
    """Return a policy that allows the page's own script and style, and no code that its data may have inserted."""
    def own(tag: str) -> str:
        text = page[page.index(f"<{tag}>") + len(tag) + 2:page.index(f"</{tag}>")]
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (f"default-src 'none'; script-src 'sha256-{own('script')}'; style-src 'sha256-{own('style')}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def listen(port: int, host: str = HOST) -> socket.socket:
    """Return a socket that listens. port : 0 takes a free one. Raises ConfigError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}; give another port (--port), or --port 0 for any "
                          "free port") from None
