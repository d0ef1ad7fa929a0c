"""A hostile peer: real code, whose frames are changed on their way out."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from p2pser.base.errors import ProtocolError
from p2pser.wire.messages import Header, Kind, Phase, Progress, decode, encode

Change = Callable[[int, bytes], tuple[bytes, ...]]
"""(receiver, frame) -> the frames that leave in its place."""
KEPT = 40
"""Old frames that can be sent again."""


class Lies:
    """What one hostile peer does to its frames.

    Parameters
    ----------
    kind : one of ``KINDS``.
    draw : of all that is random.
    often : the share of frames that it changes.
    """

    def __init__(self, kind: str, draw: random.Random, often: float) -> None:
        self.kind, self._draw, self._often = kind, draw, often
        self._past: list[bytes] = []

    def __call__(self, receiver: int, frame: bytes) -> tuple[bytes, ...]:
        if len(self._past) < KEPT:
            self._past.append(frame)
        elif self._draw.random() < 0.2:
            self._past[self._draw.randrange(KEPT)] = frame
        if self._draw.random() >= self._often:
            return (frame,)
        header, payload = decode(frame)
        try:
            return tuple(getattr(self, f"_{self.kind}")(header, bytes(payload), frame))
        except (ProtocolError, struct.error):
            return (frame,)

    def _twice(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield from (frame, frame)

    def _replay(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield frame
        yield self._draw.choice(self._past)

    def _drop(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind is not Kind.ROW:
            yield frame

    def _mute(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind in (Kind.HELLO, Kind.WELCOME, Kind.ROW):
            yield frame

    def _noise(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield self._draw.randbytes(len(frame))

    def _garble(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header, self._draw.randbytes(len(payload)))

    def _short(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        cut = payload[: len(payload) // 2]
        yield encode(header._replace(total=len(cut)) if header.kind is Kind.ROW else header, cut)

    def _nan(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind is Kind.ROW and header.codec:
            payload = (b"\x00\x00\xc0\x7f" if header.codec != "f8" else struct.pack("<d", float("nan"))) * 1024
            yield encode(header, payload[: header.total])
        else:
            yield frame

    def _huge(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind is Kind.ROW and header.codec:
            form = struct.pack("<d", 1e300) if header.codec == "f8" else struct.pack("<f", 1e38)
            yield encode(header, (form * 1024)[: header.total])
        else:
            yield frame

    def _ahead(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind is Kind.ROW:
            header = header._replace(round=header.round + self._draw.choice((1, 2, 1000)))
        yield encode(header, payload)

    def _boast(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        there = header.progress
        yield encode(header._replace(progress=Progress(there.round + 10**6, 0, there.phase, 0)), payload)

    def _finish(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header._replace(progress=Progress(header.progress.round, 0, max(Phase), 0)), payload)

    def _resize(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header._replace(size=self._draw.choice((0, 1, header.size + 1, 2**40))), payload)

    def _recode(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header._replace(codec=self._draw.choice(("", "f4", "f8", "no-such", "q8"))), payload)

    def _rekind(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header._replace(kind=self._draw.choice(list(Kind))), payload)

    def _reborn(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        yield encode(header._replace(incarnation=self._draw.choice((0, 1, 7, 2**32 - 1))), payload)

    def _unmix(self, header: Header, payload: bytes, frame: bytes) -> Iterator[bytes]:
        if header.kind is Kind.ROW:
            header = header._replace(unmixed=tuple((round, 0) for round in range(8)))
        yield encode(header, payload)


KINDS = tuple(name[1:] for name in vars(Lies) if name.startswith("_") and not name.startswith("__"))
HARMLESS = ("twice", "replay", "drop", "mute", "noise", "unmix")
"""Those after which the honest peers must still end with one model: nothing false is taken for true."""


def draw_lies(seed: int, size: int) -> tuple[int, Lies]:
    """Return a hostile peer and what it does."""
    draw = random.Random(f"lies {seed}")
    return draw.randrange(size), Lies(draw.choice(KINDS), draw, draw.choice((0.02, 0.2, 1.0)))
