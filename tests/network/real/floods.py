"""Floods of a hostile neighbour, over a connection of its own beside a peer that is honest otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import zmq

from p2pser.network import sockets
from p2pser.peer.identity import identify
from p2pser.wire import messages
from p2pser.wire.hello import run_id
from p2pser.wire.messages import Header, Kind, Phase, Progress

if TYPE_CHECKING:
    from liars import Hostile


def _header(me: Hostile, kind: Kind, **fields: Any) -> Header:
    return Header(kind, run_id(me.config.name), me.me, me.hello.incarnation, me.io.progress, **fields)


def _pings(me: Hostile) -> Iterator[list[bytes]]:
    while True:
        yield [messages.encode(_header(me, Kind.PING))]


def _pongs(me: Hostile) -> Iterator[list[bytes]]:
    """Each of another progress: the training thread would have to hear of all."""
    number = 0
    while True:
        number += 1
        yield [messages.encode(_header(me, Kind.PONG)._replace(progress=Progress(5, number, Phase.TRAIN, 0)))]


def _hellos(me: Hostile) -> Iterator[list[bytes]]:
    body, number = dict(me.hello.body()), 0
    while True:
        number += 1
        yield [messages.encode(_header(me, Kind.HELLO), messages.encode_body({**body, "topology": f"{number:032x}"}))]


def _refusals(me: Hostile) -> Iterator[list[bytes]]:
    number = 0
    while True:
        number += 1
        yield [messages.encode(_header(me, Kind.REFUSED), messages.encode_reason(f"reason {number}"))]


def _byes(me: Hostile) -> Iterator[list[bytes]]:
    number = 0
    while True:
        number += 1
        yield [messages.encode(_header(me, Kind.BYE, slot=number), messages.encode_reason(f"reason {number}"))]


def _credits(me: Hostile) -> Iterator[list[bytes]]:
    while True:
        yield [messages.encode(_header(me, Kind.CREDIT, total=2**53))]


def _chunks(me: Hostile) -> Iterator[list[bytes]]:
    """First chunks of payloads that never go on, each of another row."""
    number = 0
    while True:
        number += 1
        yield [messages.encode(_header(me, Kind.ROW, round=number, codec="f4", size=10**5, total=4 * 10**5),
                               bytes(60000))]


def _junk(me: Hostile) -> Iterator[list[bytes]]:
    number = 0
    while True:
        number += 1
        yield [b"\x05\x00junk%d" % number]


def _parts(me: Hostile) -> Iterator[list[bytes]]:
    """Messages of 8,000 frames."""
    while True:
        yield [bytes(60000)] * 8000


FLOODS: dict[str, Callable[[Hostile], Iterator[list[bytes]]]] = {
    "pings": _pings, "pongs": _pongs, "hellos": _hellos, "refusals": _refusals, "byes": _byes, "credits": _credits,
    "chunks": _chunks, "junk": _junk, "parts": _parts}
"""Floods of a neighbour with a dialled connection, beside a peer that is honest otherwise."""
"""The floods, by name: (the liar) -> frames without end."""


def flood(me: Hostile, what: str, seconds: float) -> None:
    """Flood the first neighbour that can be dialled for some seconds; what: one of ``FLOODS``."""
    identity = identify(me.config, me.topology, me.me)
    target = next(n for n in identity.neighbours if n.address is not None)
    with zmq.Context() as context:
        socket = sockets.dialler(context, target, identity.keys)
        socket.setsockopt(zmq.SNDHWM, 2000)
        sockets.connect(socket, str(target.address))
        end = time.monotonic() + seconds
        for frames in FLOODS[what](me):
            while time.monotonic() < end:
                try:
                    socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
                    break
                except zmq.Again:
                    time.sleep(0.001)
            if time.monotonic() > end:
                break
        socket.close(0)
