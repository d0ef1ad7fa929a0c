"""The stream of rows to and from one neighbour: queue, chunks, credits, reassembly, counters. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from p2pser.network.flow import Receiver, Sender
from p2pser.wire.assembly import Assembler, Cut
from p2pser.wire.messages import SETTLE_WINDOW, Buffer, Header

FRAME_OVERHEAD = 9 + 33
"""Bytes that ZMTP framing and CURVE add to each of our messages."""

KEPT_ROWS = 2
"""The last rows sent are kept, to be sent again over a new connection: the old one may not have delivered them."""
KEPT_SMALL = 8
"""Kept rows where they are small, as in the set-up, where three can be in flight."""
SMALL = 1 << 16
"""Rows are small where together they have at most so many bytes."""

QUEUED_BYTES = 256 << 20
"""Largest total size of the rows of one neighbour that are queued, kept, or unread [B each], but at least two, one and
three rows."""

MAX_UNREAD = 12
"""Payloads of one neighbour that the training thread has not read; further ones are dropped."""


@dataclass
class Traffic:
    """Bytes and messages exchanged with a neighbour; ``bytes_sent`` includes ZMTP and CURVE, but not TCP's headers."""

    bytes_sent: int = 0
    payload_sent: int = 0
    messages_sent: int = 0
    payload_received: int = 0
    rows_received: int = 0
    """Payloads passed to the training thread."""


@dataclass(frozen=True)
class Outgoing:
    """A payload for one neighbour; the buffer is shared with other neighbours."""

    header: Header
    payload: Buffer


class Stream:
    """Rows to and from one neighbour.

    Parameters
    ----------
    chunk_bytes : largest chunk [B].
    max_row_bytes : largest accepted payload [B].
    """

    def __init__(self, chunk_bytes: int, max_row_bytes: int) -> None:
        self.traffic = Traffic()
        self.delivered = 0
        """Payloads passed to the training thread (counted by the I/O thread)."""
        self.read = 0
        """Payloads that the training thread has read (counted by the training thread)."""
        self.receiver = Receiver(chunk_bytes)
        self.restarts = 0
        """How often our stream to the neighbour has broken. Every HELLO carries it, so that both ends count the credits
        of the same stream."""
        self._their_restarts = -1
        self._max_row_bytes = max_row_bytes
        self._max_unread = max(3, min(MAX_UNREAD, QUEUED_BYTES // max_row_bytes))
        self._sender = Sender(chunk_bytes)
        self._assembler = Assembler(max_row_bytes)
        self._rows: deque[Outgoing] = deque()
        self._kept: deque[Outgoing] = deque()
        self._cut: Cut | None = None
        """The row that is being sent."""
        self._frame: tuple[bytes, int] | None = None
        """The next frame to send, and how many bytes of it are payload."""
        self.blocked = False
        """Whether a row waits for credit."""
        self._pinged: tuple[int, int] | None = None
        """The nonce of our last PING over the connection of the rows, and the bytes of rows sent before it."""

    @property
    def idle(self) -> bool:
        """Whether no row waits to be sent."""
        return self._frame is None and self._cut is None and not self._rows

    def greeted(self, restarts: int, *, new: bool) -> None:
        """Take a HELLO: how often its sender's stream has broken, and whether it is the first of a ``new`` process."""
        if new:
            self._assembler = Assembler(self._max_row_bytes)
            self._their_restarts = -1
        if restarts > self._their_restarts:  # fewer: an earlier HELLO that arrives late, over another connection
            self.receiver.restart()
            self._their_restarts = restarts

    def restart(self) -> None:
        """Start anew after a broken connection: the last rows may be lost and are queued again, and credits start at 0.
        """
        self.restarts += 1
        self._pinged = None
        self._sender.restart()
        self._cut = self._frame = None
        self._rows.extendleft(reversed(self._kept))
        self._kept.clear()

    def reset(self) -> None:
        """Start anew for a later incarnation: rows queued for the earlier one are not sent."""
        self.restart()
        self._rows.clear()

    def queue(self, row: Outgoing) -> None:
        """Queue a payload; if the neighbour reads too slowly, the oldest one is dropped."""
        self._rows.append(row)
        _bound(self._rows, SETTLE_WINDOW, 2, QUEUED_BYTES)

    def next_frame(self) -> bytes | None:
        """Return the frame to send now, or None where no row waits or there is no credit."""
        self.blocked = False
        if self._frame is None:
            if self._cut is None and self._rows:
                row = self._rows.popleft()
                self._kept.append(row)
                _bound(self._kept, KEPT_SMALL, KEPT_ROWS, SMALL)
                _bound(self._kept, KEPT_SMALL, 1, QUEUED_BYTES)
                self._cut = Cut(row.header, row.payload)
            if self._cut is None:
                return None
            length = self._cut.length(self._sender.chunk_bytes)
            if not self._sender.can_send(length):
                self.blocked = True
                return None
            self._frame = self._cut.frame(length), length
            if not self._cut.left:
                self._cut = None
        return self._frame[0]

    def sent(self, frame: bytes, now: float) -> None:
        """Note that the frame of ``next_frame`` was sent."""
        _, payload = self._frame or (frame, 0)
        self._sender.sent(payload, now)
        self._frame = None
        self.count_sent(frame, payload)

    def credit(self, consumed: int, now: float) -> bool:
        """Take a CREDIT of ``consumed`` bytes in total (which may still count those of an earlier connection).

        Returns whether it acknowledges further bytes.
        """
        before = self._sender.consumed_total
        self._sender.credit(min(consumed, self._sender.sent_total), now)
        return self._sender.consumed_total > before

    def pinged(self, nonce: int) -> None:
        """Note that a PING was sent after the rows."""
        self._pinged = nonce, self._sender.sent_total

    def ponged(self, nonce: int, consumed: int, now: float) -> bool:
        """Take the PONG of a neighbour that has consumed so many bytes; return whether the stream starts anew.

        A connection keeps its order: bytes sent before a PING have arrived when the PONG is sent, or never will. A row
        that waits for the credit of lost bytes would wait forever.
        """
        if self._pinged is None or nonce != self._pinged[0]:
            return False
        self.credit(consumed, now)
        lost = self.blocked and consumed < self._pinged[1]
        if lost:
            self.restart()
        return lost

    def chunk(self, header: Header, payload: memoryview) -> tuple[memoryview | None, int | None]:
        """Take a chunk. Return the whole payload if it is complete, and the bytes of the CREDIT if one is due.

        Raises RemoteProtocolError where the chunk does not fit.
        """
        due = self.receiver.consumed(len(payload), last=header.start + len(payload) == header.total)
        whole = self._assembler.add(header, payload)
        if whole is not None:
            if self.delivered - self.read >= self._max_unread:
                self.forget((header.round, header.slot))
                return None, due
            self.delivered += 1
            self.traffic.payload_received += len(whole)
            self.traffic.rows_received += 1
        return whole, due

    def forget(self, step: tuple[int, int]) -> None:
        """Accept a payload once more when it is sent again: its first copy was dropped."""
        self._assembler.forget(step)

    def count_sent(self, frame: bytes, payload: int = 0) -> None:
        """Count a frame that was sent."""
        self.traffic.bytes_sent += len(frame) + FRAME_OVERHEAD
        self.traffic.payload_sent += payload
        self.traffic.messages_sent += 1

    def snapshot(self) -> Traffic:
        """Return a copy of the counters."""
        return replace(self.traffic)


def _bound(rows: deque[Outgoing], most: int, least: int, most_bytes: int) -> None:
    """Drop the oldest rows beyond ``most``, and beyond ``least`` while all have more than ``most_bytes``."""
    while len(rows) > most or (len(rows) > least and sum(memoryview(row.payload).nbytes for row in rows) > most_bytes):
        rows.popleft()
