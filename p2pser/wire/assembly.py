"""Reassembly of payloads from the chunks of one sender."""

from __future__ import annotations

from typing import TypeAlias

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.messages import Header

StepKey: TypeAlias = tuple[int, int]
"""(round, slot) of an exchange."""

MAX_ROWS = 4
"""Rows of one sender in assembly at once: a neighbour may lead by an exchange, and a row may arrive twice."""
MAX_DONE = 256
"""Complete steps that are remembered, so that a second copy is not returned again."""


class _Partial:
    def __init__(self, identity: tuple[object, ...], chunks: int, total: int) -> None:
        self.identity = identity
        self.buffer = bytearray(total)
        self.seen = bytearray(chunks)
        self.left = chunks


class Assembler:
    """Takes the ROW messages of one sender and returns whole payloads. Pure.

    A row may arrive over two connections, twice, and out of order. Chunks are identified by (incarnation, step, chunk),
    and each payload is returned once. The second copy may have chunks of another size, since the sender has measured
    the link's rate meanwhile: copies are assembled apart. A larger incarnation discards the chunks of smaller ones.

    >>> assembler = Assembler(max_bytes=1 << 20)
    >>> for frame in split(header, payload):
    ...     whole = assembler.add(*decode(frame))   # None until the last
    """

    def __init__(self, max_bytes: int, max_rows: int = MAX_ROWS) -> None:
        self.max_bytes = max_bytes
        self.max_rows = max_rows
        self.duplicates = 0
        """Chunks that had arrived before."""
        self.dropped = 0
        """Unfinished rows that were discarded to make room for newer ones."""
        self._incarnation = -1
        self._partial: dict[tuple[StepKey, int], _Partial] = {}
        self._done: dict[StepKey, None] = {}

    def __len__(self) -> int:
        """Return how many rows are in assembly."""
        return len(self._partial)

    def add(self, header: Header, payload: memoryview) -> memoryview | None:
        """Take a chunk; return the payload, read-only, when it was the last one missing.

        The payload of a single chunk is returned as it is, others in a buffer of their own. Raises RemoteProtocolError
        where the chunk does not fit the others of its row, or the row is larger than ``max_bytes``.
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
            self.duplicates += 1
            return None
        identity = (header.codec, header.schema, header.size, header.total, header.epoch)
        if any(row.identity != identity for (other, _), row in self._partial.items() if other == step):
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

    def _begin(self, step: StepKey, chunk_bytes: int, row: _Partial) -> _Partial:
        while len(self._partial) >= self.max_rows:
            # The oldest one was left unfinished by a broken connection: the sender has gone on since.
            del self._partial[min(self._partial)]
            self.dropped += 1
        self._partial[step, chunk_bytes] = row
        return row

    def _finish(self, step: StepKey) -> None:
        self._partial = {key: row for key, row in self._partial.items() if key[0] != step}
        self._done[step] = None
        while len(self._done) > MAX_DONE:
            del self._done[next(iter(self._done))]


def _chunk_bytes(header: Header, length: int) -> int:
    """Return the length of all chunks of a row but the last, from any one of them.

    A chunk has this length itself, or it is the last one and the others share the rest. Raises RemoteProtocolError
    where no length fits.
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
