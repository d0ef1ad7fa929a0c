"""Payloads put together again from the chunks of one sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from p2pser.errors import RemoteProtocolError
from p2pser.wire.messages import Header

When: TypeAlias = tuple[int, int]
"""(round, slot) of an exchange."""

MAX_ROWS = 4
"""Most rows of one sender in assembly at once: a neighbour leads by an exchange, and rows may come twice."""
MAX_DONE = 256
"""Most complete steps remembered, so that a second copy is not given out again."""


@dataclass
class _Partial:
    identity: tuple[object, ...]
    buffer: bytearray
    seen: bytearray
    left: int
    chunk_bytes: int = 0


class Assembler:
    """The ROW messages of one sender, whole payloads out. Pure: no socket, no clock.

    A row may come over two connections, twice, and out of order: chunks are told apart by (incarnation, step,
    chunk), and each payload is given out once. A larger incarnation makes the sender's older chunks void.

    >>> assembler = Assembler(max_bytes=1 << 20)
    >>> for frame in split(header, payload):
    ...     whole = assembler.add(*decode(frame))   # None until the last
    """

    def __init__(self, max_bytes: int, max_rows: int = MAX_ROWS) -> None:
        self.max_bytes = max_bytes
        self.max_rows = max_rows
        self.duplicates = 0
        """Chunks that had come before, or whose step is over."""
        self.dropped = 0
        """Unfinished rows thrown away because newer ones needed their place."""
        self._incarnation = -1
        self._horizon: When | None = None
        self._partial: dict[When, _Partial] = {}
        self._done: dict[When, None] = {}

    def __len__(self) -> int:
        """How many rows are in assembly."""
        return len(self._partial)

    def add(self, header: Header, payload: memoryview) -> memoryview | None:
        """Take a chunk; return the read-only payload when it was the last one missing.

        Raises RemoteProtocolError where the chunk does not fit the others of its row, or the row is larger
        than ``max_bytes``. The payload of a single chunk is returned as it came, others in a buffer of their own.
        """
        if header.total > self.max_bytes:
            raise RemoteProtocolError(
                f"peer {header.sender} sends a row of {header.total} bytes; at most {self.max_bytes} may be",
                header.sender,
            )
        if header.incarnation > self._incarnation:
            self._restart(header.incarnation)
        step = (header.round, header.slot)
        over = self._horizon is not None and step < self._horizon
        if header.incarnation < self._incarnation or over or step in self._done:
            self.duplicates += 1
            return None
        row = self._partial.get(step)
        if row is None:
            if header.chunks == 1:
                self._finish(step)
                return payload.toreadonly()
            row = self._begin(header, step)
        if not self._place(row, header, payload):
            self.duplicates += 1
            return None
        if row.left:
            return None
        del self._partial[step]
        self._finish(step)
        return memoryview(row.buffer).toreadonly()

    def forget_before(self, step: When) -> None:
        """Steps before this one are over: their rows in assembly go, and what still comes for them is ignored."""
        horizon = step if self._horizon is None else max(step, self._horizon)
        self._horizon = horizon
        self._partial = {when: row for when, row in self._partial.items() if when >= horizon}
        self._done = {when: None for when in self._done if when >= horizon}

    def _restart(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._partial.clear()
        self._done.clear()

    def _finish(self, step: When) -> None:
        self._done[step] = None
        while len(self._done) > MAX_DONE:
            del self._done[next(iter(self._done))]

    def _begin(self, header: Header, step: When) -> _Partial:
        if header.chunks > header.total:
            raise _inconsistent(header)
        while len(self._partial) >= self.max_rows:
            # The oldest is what a broken connection left unfinished: the sender has gone on since.
            del self._partial[min(self._partial)]
            self.dropped += 1
        row = _Partial(_identity(header), bytearray(header.total), bytearray(header.chunks), header.chunks)
        self._partial[step] = row
        return row

    def _place(self, row: _Partial, header: Header, payload: memoryview) -> bool:
        """Copy a chunk to its place; False where it was there."""
        if _identity(header) != row.identity:
            raise _inconsistent(header)
        last = header.chunk == header.chunks - 1
        length = len(payload)
        # All chunks but the last are equally long, so any one of them tells where all the others belong.
        rest = header.total - length
        chunk_bytes = length if not last else rest // (header.chunks - 1)
        tail = header.total - chunk_bytes * (header.chunks - 1)
        fits = 0 < tail <= chunk_bytes and (not last or tail == length)
        if not fits or chunk_bytes != (row.chunk_bytes or chunk_bytes):
            raise _inconsistent(header)
        if row.seen[header.chunk]:
            return False
        row.chunk_bytes = chunk_bytes
        start = header.chunk * chunk_bytes
        row.buffer[start : start + length] = payload
        row.seen[header.chunk] = 1
        row.left -= 1
        return True


def _identity(header: Header) -> tuple[object, ...]:
    return header.codec, header.schema, header.size, header.chunks, header.total, header.epoch


def _inconsistent(header: Header) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"chunk {header.chunk} of peer {header.sender}'s row of round {header.round}, slot {header.slot} "
        "does not fit the row's other chunks",
        header.sender,
    )
