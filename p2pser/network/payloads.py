"""Rows and messages to bytes and back: what a peer sends to which neighbour, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.gossip.partial import Parts
from p2pser.models.rows import Schema
from p2pser.network.io import IOThread
from p2pser.wire.codec import Codec, codec
from p2pser.wire.messages import Buffer, Header


class Payloads:
    """Encodes what one peer posts, and decodes what it receives.

    Parameters
    ----------
    io, me:
        The I/O thread, and this peer's id.
    schema:
        The model's schema. Headers of whole model rows carry its mark, and other models' rows are refused.
    unmixed:
        Returns the steps that this peer has not mixed with a given neighbour.
    """

    def __init__(self, io: IOThread, me: int, schema: Schema, unmixed: Callable[[int], Sequence[Step]]) -> None:
        self.parts: Parts | None = None
        """What of a row is shared with each neighbour; None: all of it."""
        self.posted = 0
        """Bytes of payload posted, counted once for each receiver."""
        self._io, self._me, self._size, self._unmixed = io, me, schema.size, unmixed
        self._mark = bytes.fromhex(schema.digest())[:8]

    def send_row(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        """Queue a row (D,) for neighbours: to each the part that it shares with us."""
        if self.parts is None:
            self.send_whole(peers, at, row, form)
            return
        by_width: dict[float, list[int]] = {}
        for j in peers:
            by_width.setdefault(self.parts.widths[j], []).append(j)
        for alike in by_width.values():  # all of one width share the same with us: encoded once
            self.send_whole(alike, at, self.parts.cut(self._me, alike[0], row), form)

    def send_whole(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        """Queue a row (D,) for neighbours as it is."""
        payload = form.encode(row)
        mark = self._mark if self.parts is None and row.numel() == self._size else b""
        self.posted += len(payload) * len(peers)
        self._io.send(peers, at, payload, codec=form.wire_name(row), size=row.numel(), schema=mark,
                      unmixed=self._unmixed)

    def send_bytes(self, peers: Sequence[int], at: Step, payload: Buffer) -> None:
        """Queue bytes for neighbours."""
        self.posted += len(payload) * len(peers)
        self._io.send(peers, at, payload, unmixed=self._unmixed)

    def send_message(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue a message that belongs to no exchange: bytes, or an encoded row of ``size`` elements."""
        self.posted += len(payload)
        self._io.send([peer], at, payload, codec=form, size=size, schema=self._mark if size == self._size else b"")

    def read(self, header: Header, payload: memoryview) -> Tensor | bytes:
        """Return a received row (D,) or bytes. Raises RemoteProtocolError where it is no row of this model."""
        if header.schema not in (b"", self._mark):
            raise RemoteProtocolError("a row of another model's schema came")
        return codec(header.codec).decode(payload, header.size) if header.codec else bytes(payload)
