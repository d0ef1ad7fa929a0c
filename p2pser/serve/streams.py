"""``/stream``: answers for speech while it comes, over a websocket."""

from __future__ import annotations

import asyncio

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from p2pser.base.errors import CorpusError
from p2pser.features.samples import refuse_header
from p2pser.inference.predictor import Predictor, most_probable
from p2pser.inference.timeline import WINDOW, Segment, Stream
from p2pser.serve.question import asked, number
from p2pser.serve.work import Limits, Workers

BLOCK = 1 << 16
"""Largest message of a stream [bytes]."""

LONGEST = 60.0
"""Longest window of a stream, which is held in memory [s]."""

TRY_AGAIN, REFUSED = 1013, 1008
"""Close codes of RFC 6455: try again later; policy violation."""


class Streams:
    """The streams of a server, ``limits.streams`` at the same time."""

    def __init__(self, predictor: Predictor, workers: Workers, limits: Limits) -> None:
        self._predictor, self._workers, self._limits = predictor, workers, limits
        self._open = 0

    async def answer(self, socket: WebSocket) -> None:
        """``/stream?rate=HZ&window=S&hop=S&top_k=K``: take blocks of PCM (s16le, mono), send a JSON segment a window.

        A text message is what is said from then on, for models that read words, until the next one. An empty block ends
        the stream: the answer for its rest is sent. Where something is wrong, the last message is
        ``{"error": sentence}``.
        """
        await socket.accept()
        if self._open >= self._limits.streams:
            await _end(socket, TRY_AGAIN, f"{self._open} streams are open: try again later")
            return
        self._open += 1
        try:
            await self._hear(socket)
            await socket.close()
        except CorpusError as error:
            await _end(socket, REFUSED, str(error))
        except asyncio.TimeoutError:
            await _end(socket, REFUSED, f"nothing came for {self._limits.idle:g} s")
        except WebSocketDisconnect:
            pass
        finally:
            self._open -= 1

    async def _hear(self, socket: WebSocket) -> None:
        query = dict(socket.query_params)
        rate = number("rate", query.pop("rate", "16000"))
        question = asked({"window": str(WINDOW), **query})
        window, hop = question.window or 0.0, question.hop or 0.0
        if window > LONGEST:
            raise CorpusError(f"a window of a stream lasts {LONGEST:g} s at most")
        stream = Stream(self._predictor, rate, window=window, hop=hop)

        async def send(segments: list[Segment]) -> None:
            for segment in segments:
                await socket.send_json(most_probable(segment.to_dict(), question.top_k))

        begun = False
        while (block := await asyncio.wait_for(_block(socket), self._limits.idle)) != b"":
            if isinstance(block, str):
                stream.say(block)
                continue
            if not begun:
                refuse_header(block)
            begun = True
            # One job of a stream at a time: a client that sends faster than is answered waits.
            samples = np.frombuffer(block, "<i2")
            await send(await self._workers.run(lambda _: stream.push(samples), admitted=True))  # noqa: B023
        await send(await self._workers.run(lambda _: stream.close(), admitted=True))


async def _block(socket: WebSocket) -> bytes | str:
    """Return the next block, or the text of a message. Raises CorpusError where it is neither."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    block, text = message.get("bytes"), message.get("text")
    if isinstance(text, str) and len(text) <= BLOCK:
        return text
    if not isinstance(block, bytes) or len(block) > BLOCK or len(block) % 2:
        raise CorpusError(f"a block of a stream is binary, 16 bits a sample, {BLOCK} bytes at most")
    return block


async def _end(socket: WebSocket, code: int, sentence: str) -> None:
    await socket.send_json({"error": sentence})
    await socket.close(code)
