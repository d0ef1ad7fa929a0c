"""The link to one neighbour, as the I/O thread sees it: queues, reassembly, flow control, counters. No socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from p2pser.base.errors import RemoteProtocolError
from p2pser.network.flow import Receiver, Sender
from p2pser.wire.assembly import Assembler
from p2pser.wire.hello import Hello
from p2pser.wire.messages import SETTLE_WINDOW, Buffer, Header, Progress, payload_length, split

FRAME_OVERHEAD = 9 + 33
"""Bytes that ZMTP framing and CURVE add to each of our messages."""

KEPT_ROWS = 2
"""Rows sent last, which are sent again over a new connection: the old one may not have delivered them."""

PROGRESS_INTERVAL = 0.25
"""Steps within a phase are reported to the training thread at most this often [s]; its timeouts are seconds long."""

MAX_UNREAD = 12
"""Payloads of one neighbour that the training thread has not read; further ones are dropped."""


@dataclass(frozen=True)
class Neighbour:
    """Where a neighbour listens (None: only it dials us) and the public key (Z85) that it must hold."""

    peer: int
    address: str | None
    key: str


@dataclass
class Traffic:
    """What was sent over a link, as it left: with ZMTP and CURVE, without TCP's headers."""

    bytes_sent: int = 0
    payload_sent: int = 0
    messages_sent: int = 0


@dataclass(frozen=True)
class Outgoing:
    """A payload for one neighbour; the buffer and its checksums are shared with other neighbours."""

    header: Header
    payload: Buffer
    checksums: Sequence[int]


class Link:
    """What is exchanged with one neighbour.

    Parameters
    ----------
    neighbour:
        Its id, address and key.
    chunk_bytes:
        Largest chunk [B].
    max_row_bytes:
        Largest payload that is accepted [B].
    """

    def __init__(self, neighbour: Neighbour, chunk_bytes: int, max_row_bytes: int) -> None:
        self.peer = neighbour.peer
        self.neighbour = neighbour
        self.chunk_bytes = chunk_bytes
        self.hello: Hello | None = None
        self.closed = ""
        """Why nothing is exchanged with this neighbour any more; empty while the link is open."""
        self.traffic = Traffic()
        self.delivered = 0
        """Payloads given to the training thread (counted by the I/O thread)."""
        self.read = 0
        """Payloads that the training thread has read (counted by the training thread)."""
        self.receiver = Receiver(chunk_bytes)
        self.restarts = 0
        """How often our stream to the neighbour broke. Every HELLO carries it: both ends then count the credits of the
        same stream."""
        self._their_restarts: int | None = None
        self._progress: Progress | None = None
        self._reported: tuple[Progress, float] | None = None
        self._max_row_bytes = max_row_bytes
        self._sender = Sender(chunk_bytes)
        self._assembler = Assembler(max_row_bytes)
        self._rows: deque[Outgoing] = deque()
        self._kept: deque[Outgoing] = deque(maxlen=KEPT_ROWS)
        self._frames: Iterator[bytes] = iter(())
        self._frame: bytes | None = None
        self._took_part = False
        """Whether a row of this incarnation has arrived: then a later incarnation cannot simply replace it."""

    @property
    def up(self) -> bool:
        """Whether rows may be exchanged."""
        return self.hello is not None and not self.closed

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._frame is None and not self._rows

    def admit(self, hello: Hello, restarts: int) -> str | None:
        """Take a HELLO or WELCOME that fits ours; return None, or the reason why it comes too late."""
        if self.hello is not None and hello.incarnation != self.hello.incarnation:
            if hello.incarnation < self.hello.incarnation:
                return f"peer {self.peer} was started again since (incarnation {self.hello.incarnation})"
            if self._took_part:
                return (f"peer {self.peer} was started again while the run goes on; "
                        "a peer that was lost cannot come back before the next start of all peers")
        if self.hello is None or hello.incarnation != self.hello.incarnation:
            self._assembler = Assembler(self._max_row_bytes)
            self._progress = self._reported = None
            self._their_restarts = None
        if restarts != self._their_restarts:
            self.receiver.restart()
            self._their_restarts = restarts
        self.hello = hello
        return None

    def reopen(self) -> None:
        """Accept a later incarnation: drop everything queued for the earlier one and wait for a new HELLO."""
        self.forget()
        self.closed = ""
        self._took_part = False
        self.restart_stream()
        self._rows.clear()

    def forget(self) -> None:
        """Forget a neighbour that was lost before the run began: it may come back."""
        self.hello = self._progress = self._reported = None

    def note_progress(self, progress: Progress, now: float) -> bool:
        """Note the progress in a header; True where the training thread must be told.

        Steps within a phase are reported at most every ``PROGRESS_INTERVAL`` seconds: each report wakes that thread.
        """
        if self._progress is not None and progress <= self._progress:
            return False
        self._progress = progress
        if self._reported is not None:
            reported, at = self._reported
            if progress[:3] == reported[:3] and now < at + PROGRESS_INTERVAL:
                return False
        self._reported = progress, now
        return True

    def restart_stream(self) -> None:
        """Start anew after a broken connection: the last rows may be lost and are queued again, with fresh credits."""
        self.restarts += 1
        self._sender.restart()
        self._frames, self._frame = iter(()), None
        self._rows.extendleft(reversed(self._kept))
        self._kept.clear()

    def queue(self, row: Outgoing) -> None:
        """Queue a payload; where the neighbour reads too slowly, the oldest one is dropped."""
        self._rows.append(row)
        while len(self._rows) > SETTLE_WINDOW:
            self._rows.popleft()

    def next_frame(self) -> bytes | None:
        """Return the frame to send now, or None where nothing waits or there is no credit."""
        if self._frame is None:
            self._frame = next(self._frames, None)
        if self._frame is None and self._rows:
            row = self._rows.popleft()
            self._kept.append(row)
            chunk_bytes = self._sender.chunk_bytes  # smaller on a slow link, where the shared checksums do not apply
            shared = row.checksums if chunk_bytes == self.chunk_bytes else None
            self._frames = split(row.header, row.payload, chunk_bytes, shared)
            self._frame = next(self._frames)
        if self._frame is None or not self._sender.can_send(payload_length(self._frame)):
            return None
        return self._frame

    def sent(self, frame: bytes, now: float) -> None:
        """Note that the frame of ``next_frame`` has left."""
        payload = payload_length(frame)
        self._sender.sent(payload, now)
        self._frame = None
        self.count_sent(frame, payload)

    def credit(self, consumed: int, now: float) -> None:
        """Take a CREDIT of ``consumed`` bytes in all (which may still be those of an earlier connection)."""
        self._sender.credit(min(consumed, self._sender.sent_total), now)

    def row(self, header: Header, payload: memoryview) -> tuple[memoryview | None, int | None]:
        """Take a chunk. Return the whole payload if it is complete, and the bytes of the CREDIT if one is due.

        Raises RemoteProtocolError where the chunk does not fit, or its incarnation is not the one of the last HELLO.
        """
        if self.hello is None or header.incarnation != self.hello.incarnation:
            raise RemoteProtocolError(f"peer {self.peer} sent a row before its HELLO", self.peer)
        last = header.chunk == header.chunks - 1
        due = self.receiver.consumed(len(payload), last)
        whole = self._assembler.add(header, payload)
        if whole is not None:
            self._took_part = True
            if self.delivered - self.read >= MAX_UNREAD:
                return None, due
            self.delivered += 1
        return whole, due

    def count_sent(self, frame: bytes, payload: int = 0) -> None:
        """Count a frame that has left."""
        self.traffic.bytes_sent += len(frame) + FRAME_OVERHEAD
        self.traffic.payload_sent += payload
        self.traffic.messages_sent += 1

    def snapshot(self) -> Traffic:
        """Return a copy of the counters."""
        return replace(self.traffic)
