"""The addresses of a server, and what they refuse.

An answer is one JSON document; where something is wrong it is ``{"error": sentence}``. A body is read up to a limit of
size and time, and bodies that are held together up to another, so that no client can take the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Collection, Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from p2pser.base.errors import CorpusError
from p2pser.base.pages import NAMES, OwnPages, as_json, as_page
from p2pser.base.paths import packaged
from p2pser.base.version import __version__
from p2pser.config.privacy import LAW
from p2pser.inference.predictor import Predictor
from p2pser.serve import forms
from p2pser.serve.question import asked
from p2pser.serve.streams import Streams
from p2pser.serve.work import Busy, Limits, Workers

T = TypeVar("T")

RETRY = {"Retry-After": "1"}

_SENTENCES = {404: "there is nothing at this address: there are /, /model, /health, /predict and /stream",
              405: "this address does not answer that method: a recording is sent to /predict by POST, and the other "
                   "addresses answer GET"}
"""What an error of starlette's own says."""


class Server:
    """What answers the requests for one model."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self.workers = Workers(limits)
        self._page = packaged("serve/page.html").read_text(encoding="utf-8")
        self._held = 0

    async def page(self, request: Request) -> Response:
        """``GET /``: the page."""
        return as_page(self._page)

    async def model(self, request: Request) -> Response:
        """``GET /model``: what the card says to users of the model."""
        return as_json(facts(self.predictor))

    async def health(self, request: Request) -> Response:
        """``GET /health``: that the server answers, and how many predictions it has begun or will."""
        return as_json({"status": "ok", "jobs": self.workers.jobs})

    async def predict(self, request: Request) -> Response:
        """``POST /predict?top_k=K&window=S&hop=S``: the answer for the recording that is the body, or for a form's."""
        try:
            question = asked(request.query_params)
            async with self._body(request) as content:
                body = forms.read(request.headers.get("content-type", ""), content)
                answer = await _while_connected(request, self.workers.run(
                    lambda left: question.answer(self.predictor, body, self.limits.seconds, left)))
        except CorpusError as error:
            return as_json({"error": str(error)}, 400)
        except Busy:
            return as_json({"error": "too many recordings are waiting: try again in a moment"}, 503, RETRY)
        except ClientDisconnect:
            return Response(status_code=400)
        return as_json(answer)

    async def no_stream(self, request: Request) -> Response:
        """``GET /stream`` without a websocket, or where uvicorn finds no package for websockets."""
        return as_json({"error": "a stream is a websocket; where this is one, the server lacks the package websockets"},
                       426, {"Upgrade": "websocket"})

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body of a request, and count its bytes as held until the end."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.limits.max_bytes:
            raise self._too_large()
        body = io.BytesIO()
        try:
            try:
                await asyncio.wait_for(self._read(request, body), self.limits.timeout)
            except asyncio.TimeoutError:
                # A client that sends on, byte by byte, is cut off.
                raise HTTPException(408, f"the recording did not arrive within {self.limits.timeout:g} s",
                                    {"Connection": "close"}) from None
            yield body.getvalue()
        finally:
            self._held -= body.tell()

    async def _read(self, request: Request, body: io.BytesIO) -> None:
        async for chunk in request.stream():
            if body.tell() + len(chunk) > self.limits.max_bytes:
                raise self._too_large()
            if self._held + len(chunk) > self.limits.held:
                raise Busy
            self._held += len(chunk)
            body.write(chunk)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the recording is larger than {self.limits.max_bytes} bytes: cut it into parts")


def app(predictor: Predictor, limits: Limits, names: Collection[str] = NAMES, addresses: bool = False) -> Starlette:
    """Return the application that answers for a model.

    Parameters
    ----------
    predictor : the model.
    limits : what clients are granted.
    names, addresses : the host names that it answers to, and whether to IP addresses too (``OwnPages``).
    """
    server = Server(predictor, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        server.workers.close()

    return Starlette(
        routes=[Route("/", server.page), Route("/model", server.model), Route("/health", server.health),
                Route("/predict", server.predict, methods=["POST"]),
                WebSocketRoute("/stream", Streams(predictor, server.workers, limits).answer),
                Route("/stream", server.no_stream)],
        middleware=[Middleware(OwnPages, names=names, addresses=addresses)], lifespan=lifespan,
        exception_handlers={HTTPException: _refused, Exception: _refused})


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; it is cancelled, and ClientDisconnect raised, where the client goes before."""
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return as_json({"error": _SENTENCES.get(error.status_code, error.detail)}, error.status_code, error.headers)
    return as_json({"error": "the server failed at this request; its own log says why"}, 500)


def facts(predictor: Predictor) -> dict[str, Any]:
    """Return what a model's card says to its users: no path, no peer and no person is in it."""
    card, corpus = predictor.card, predictor.card.corpus
    return {
        "labels": list(card.labels), "dimensions": list(card.dimensions), "features": card.features.kind,
        "sample_rate": card.features.sample_rate, "normalise": card.normalise, "model": card.model.name,
        "corpora": dict(corpus.corpora) or {corpus.name: corpus.version}, "split": corpus.split, "fold": corpus.fold,
        "selection": card.selection, "calibrated": card.temperature is not None,
        "words": card.reads_words,
        **{name: card.training.get(name) for name in ("algorithm", "topology", "peers", "rounds", "purpose")},
        "note": predictor.note(), "law": LAW, "p2pser": __version__}
