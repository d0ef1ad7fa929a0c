"""A payload in chunks: cut at the sender, assembled at the receiver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgpack
import numpy as np

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.messages import MAX_PAYLOAD, Buffer, Header, frame, pack_header

StepKey: TypeAlias = tuple[int, int]
"""(round, slot) of an exchange."""

MAX_ROWS = 4
"""Rows of one sender in assembly at once: a neighbour may be an exchange ahead, and a row may arrive twice."""
MAX_DONE = 256
"""Completed steps that are remembered, so that a second copy is not returned again."""


class Cut:
    """Cuts one payload into frames, each as long as flow control allows when it is sent.

    The payload must not change until the last frame was sent. Raises LocalProtocolError where a header's field is out
    of range.

    >>> cut = Cut(header, payload)
    >>> while cut.left:
    ...     send(cut.frame(65536))
    """

    def __init__(self, header: Header, payload: Buffer) -> None:
        view = memoryview(payload)
        self._view = view.cast("B") if view.nbytes else memoryview(b"")
        self._at = 0
        self._begun = False
        # Checked and packed once: the headers of a row differ only in ``start``, which is the last field.
        whole = header._replace(total=len(self._view), start=0)
        self._packed = pack_header(whole, min(len(self._view), MAX_PAYLOAD))[:-1]

    @property
    def left(self) -> bool:
        """Whether there is another frame; an empty payload has one."""
        return self._at < len(self._view) or not self._begun

    def length(self, chunk_bytes: int) -> int:
        """Return how many bytes of payload the next frame of at most ``chunk_bytes`` has."""
        return min(chunk_bytes, MAX_PAYLOAD, len(self._view) - self._at)

    def frame(self, chunk_bytes: int) -> bytes:
        """Return the next frame, whose payload has at most ``chunk_bytes`` bytes."""
        start, self._at = self._at, self._at + self.length(chunk_bytes)
        self._begun = True
        packed: bytes = self._packed + msgpack.packb(start)
        return frame(packed, self._view[start : self._at])


@dataclass
class _Partial:
    identity: tuple[object, ...]
    buffer: memoryview
    filled: int = 0


class Assembler:
    """Assembles the ROW messages of one sender to whole payloads. Pure.

    A connection keeps the order of chunks, and a new connection carries the row from its beginning again: so a row is
    filled from its beginning to its end. It may arrive over two connections, interleaved and in different chunks: bytes
    that have arrived before are skipped. Bytes after a gap are skipped too: a part of the row was lost with a closed
    connection. Each payload is returned once. A larger incarnation discards the rows of smaller ones.

    >>> assembler = Assembler(max_bytes=1 << 20)
    >>> while cut.left:
    ...     whole = assembler.add(*decode(cut.frame(65536)))   # None until the last
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._incarnation = -1
        self._partial: dict[StepKey, _Partial] = {}
        self._done: dict[StepKey, None] = {}

    def __len__(self) -> int:
        """Return how many rows are in assembly."""
        return len(self._partial)

    def add(self, header: Header, payload: memoryview) -> memoryview | None:
        """Take a chunk; return the whole payload if it was the last missing one.

        A payload of one chunk is returned read-only, without a copy. Others are in a writable buffer of their own,
        which the caller may keep. Raises RemoteProtocolError where the chunk does not fit the others of its row, or the
        row is larger than ``max_bytes``.
        """
        if header.total > self.max_bytes:
            raise RemoteProtocolError(
                f"peer {header.sender} sends a row of {header.total} bytes; at most {self.max_bytes} are allowed",
                header.sender,
            )
        if header.incarnation > self._incarnation:
            self._restart(header.incarnation)
        step = (header.round, header.slot)
        if header.incarnation < self._incarnation or step in self._done:
            return None
        row = self._partial.get(step)
        identity = (header.codec, header.schema, header.size, header.total, header.epoch)
        if row is not None and row.identity != identity:
            raise RemoteProtocolError(
                f"the row of peer {header.sender} for round {header.round}, slot {header.slot}, has another form, size "
                f"or epoch from byte {header.start} on", header.sender)
        if len(payload) == header.total:
            self._finish(step)
            return payload.toreadonly()
        if row is None and header.start == 0:
            row = self._begin(step, _Partial(identity, np.empty(header.total, np.uint8).data))
        if row is None or header.start > row.filled:
            return None
        fresh = payload[row.filled - header.start :]
        row.buffer[row.filled : row.filled + len(fresh)] = fresh
        row.filled += len(fresh)
        if row.filled < header.total:
            return None
        self._finish(step)
        return row.buffer

    def forget(self, step: StepKey) -> None:
        """Return a complete payload once more when it arrives again: its first copy was dropped for lack of room."""
        self._done.pop(step, None)

    def _restart(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._partial.clear()
        self._done.clear()

    def _begin(self, step: StepKey, row: _Partial) -> _Partial:
        while len(self._partial) >= MAX_ROWS:
            # A broken connection left the oldest row unfinished, and the sender has gone on.
            del self._partial[min(self._partial)]
        self._partial[step] = row
        return row

    def _finish(self, step: StepKey) -> None:
        self._partial.pop(step, None)
        self._done[step] = None
        while len(self._done) > MAX_DONE:
            del self._done[next(iter(self._done))]
