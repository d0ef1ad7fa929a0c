"""Payloads put together again from the chunks of one sender."""

from __future__ import annotations

from typing import TypeAlias

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.messages import Header

When: TypeAlias = tuple[int, int]
"""(round, slot) of an exchange."""

MAX_ROWS = 4
"""Most rows of one sender in assembly at once: a neighbour leads by an exchange, and rows may come twice."""
MAX_DONE = 256
"""Most complete steps remembered, so that a second copy is not given out again."""


class _Partial:
    def __init__(self, identity: tuple[object, ...], chunks: int, total: int) -> None:
        self.identity = identity
        self.buffer = bytearray(total)
        self.seen = bytearray(chunks)
        self.left = chunks


class Assembler:
    """The ROW messages of one sender, whole payloads out. Pure: no socket, no clock.

    A row may come over two connections, twice, and out of order: chunks are told apart by (incarnation, step,
    chunk), and each payload is given out once. The second copy may be cut otherwise, as the sender has learnt
    the link's rate: each cut is put together by itself. A larger incarnation makes older chunks void.

    >>> assembler = Assembler(max_bytes=1 << 20)
    >>> for frame in split(header, payload):
    ...     whole = assembler.add(*decode(frame))   # None until the last
    """

    def __init__(self, max_bytes: int, max_rows: int = MAX_ROWS) -> None:
        self.max_bytes = max_bytes
        self.max_rows = max_rows
        self.duplicates = 0
        """Chunks that had come before."""
        self.dropped = 0
        """Unfinished rows thrown away because newer ones needed their place."""
        self._incarnation = -1
        self._partial: dict[tuple[When, int], _Partial] = {}
        self._done: dict[When, None] = {}

    def __len__(self) -> int:
        """How many rows are in assembly."""
        return len(self._partial)

    def add(self, header: Header, payload: memoryview) -> memoryview | None:
        """Take a chunk; return the read-only payload when it was the last one missing.

        Raises RemoteProtocolError where the chunk does not fit the others of its row, or the row is larger
        than ``max_bytes``. The payload of a single chunk is returned as it came, others in their own buffer.
        """
        if header.total > self.max_bytes:
            raise RemoteProtocolError(
                f"peer {header.sender} sends a row of {header.total} bytes; at most {self.max_bytes} may be",
                header.sender,
            )
        if header.incarnation > self._incarnation:
            self._restart(header.incarnation)
        step = (header.round, header.slot)
        if header.incarnation < self._incarnation or step in self._done:
            self.duplicates += 1
            return None
        identity = (header.codec, header.schema, header.size, header.total, header.epoch)
        if any(row.identity != identity for (when, _), row in self._partial.items() if when == step):
            raise _inconsistent(header)
        if header.chunks == 1:
            self._finish(step)
            return payload.toreadonly()
        chunk_bytes = _chunk_bytes(header, len(payload))
        row = self._partial.get((step, chunk_bytes))
        if row is None:
            row = self._begin(step, chunk_bytes, _Partial(identity, header.chunks, header.total))
        if row.seen[header.chunk]:
            self.duplicates += 1
            return None
        start = header.chunk * chunk_bytes
        row.buffer[start : start + len(payload)] = payload
        row.seen[header.chunk] = 1
        row.left -= 1
        if row.left:
            return None
        self._finish(step)
        return memoryview(row.buffer).toreadonly()

    def _restart(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._partial.clear()
        self._done.clear()

    def _begin(self, step: When, chunk_bytes: int, row: _Partial) -> _Partial:
        while len(self._partial) >= self.max_rows:
            # The oldest is what a broken connection left unfinished: the sender has gone on since.
            del self._partial[min(self._partial)]
            self.dropped += 1
        self._partial[step, chunk_bytes] = row
        return row

    def _finish(self, step: When) -> None:
        self._partial = {when: row for when, row in self._partial.items() if when[0] != step}
        self._done[step] = None
        while len(self._done) > MAX_DONE:
            del self._done[next(iter(self._done))]


def _chunk_bytes(header: Header, length: int) -> int:
    """Return how long all chunks of this one's row but the last are; RemoteProtocolError where it cannot be.

    Any one chunk tells: it is as long as they are, or it is the last and the others share the rest.
    """
    last = header.chunk == header.chunks - 1
    chunk_bytes = (header.total - length) // (header.chunks - 1) if last else length
    tail = header.total - chunk_bytes * (header.chunks - 1)
    if not 0 < tail <= chunk_bytes or (last and tail != length):
        raise _inconsistent(header)
    return chunk_bytes


def _inconsistent(header: Header) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"chunk {header.chunk} of peer {header.sender}'s row of round {header.round}, slot {header.slot} "
        "does not fit the row's other chunks",
        header.sender,
    )
