"""One neighbour, as the I/O thread sees it: what waits to be sent, what comes together, what it cost. No socket."""

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
"""Bytes that ZMTP framing and CURVE add to a message of ours on the wire."""

KEPT_ROWS = 2
"""Rows sent last that are sent again over a new connection: what the old one had not delivered."""

BEAT = 0.25
"""Seconds in which a neighbour's progress within a phase is told once. Patience counts in seconds."""

MOST_UNREAD = 12
"""Payloads of one neighbour that the training thread has not looked at; further ones are dropped."""


@dataclass(frozen=True)
class Neighbour:
    """Where a neighbour listens (None: it dials us) and the public key (Z85) that it must hold."""

    peer: int
    address: str | None
    key: str


@dataclass
class Traffic:
    """What a link sent, counted as it stood on the wire (TCP's own headers aside)."""

    bytes_sent: int = 0
    payload_sent: int = 0
    messages_sent: int = 0


@dataclass(frozen=True)
class Outgoing:
    """A payload for one neighbour; the buffer and its checksums are shared with the others."""

    header: Header
    payload: Buffer
    checksums: Sequence[int]


class Link:
    """The state of one neighbour."""

    def __init__(self, neighbour: Neighbour, chunk_bytes: int, max_row_bytes: int) -> None:
        self.peer = neighbour.peer
        self.neighbour = neighbour
        self.chunk_bytes = chunk_bytes
        self.hello: Hello | None = None
        self.closed = ""
        """Why nothing is exchanged with this neighbour any more; empty while something is."""
        self.traffic = Traffic()
        self._progress: Progress | None = None
        self._told: tuple[Progress, float] | None = None
        self.delivered = 0
        """Payloads handed over (counted by the I/O thread)."""
        self.read = 0
        """Payloads looked at (counted by the training thread)."""
        self.receiver = Receiver(chunk_bytes)
        self._max_row_bytes = max_row_bytes
        self._sender = Sender(chunk_bytes)
        self._assembler = Assembler(max_row_bytes)
        self._rows: deque[Outgoing] = deque()
        self._kept: deque[Outgoing] = deque(maxlen=KEPT_ROWS)
        self._frames: Iterator[bytes] = iter(())
        self._frame: bytes | None = None
        self._locked = False
        self.restarts = 0
        """How often what was under way to the neighbour was lost with a connection; in every HELLO, so that both
        ends count credits of the same stream."""
        self._their_restarts: int | None = None

    @property
    def up(self) -> bool:
        """True while rows may be exchanged."""
        return self.hello is not None and not self.closed

    @property
    def idle(self) -> bool:
        """True when nothing waits to be sent."""
        return self._frame is None and not self._rows

    def admit(self, hello: Hello, restarts: int) -> str | None:
        """A fitting HELLO or WELCOME has come: take it, or return why it comes too late."""
        if self.hello is not None and hello.incarnation != self.hello.incarnation:
            if hello.incarnation < self.hello.incarnation:
                return f"peer {self.peer} was started again since (incarnation {self.hello.incarnation})"
            if self._locked:
                return (f"peer {self.peer} was started again while the run goes on; "
                        "a peer that was lost cannot come back before the next start of all peers")
        if self.hello is None or hello.incarnation != self.hello.incarnation:
            self._assembler = Assembler(self._max_row_bytes)
            self._progress = self._told = None
            self._their_restarts = None
        if restarts != self._their_restarts:
            self.receiver.restart()
            self._their_restarts = restarts
        self.hello = hello
        return None

    def reopen(self) -> None:
        """The neighbour was started again: nothing that was under way to its former life is sent, and it may say HELLO.
        """
        self.forget()
        self.closed = ""
        self._locked = False
        self.broken()
        self._rows.clear()

    def forget(self) -> None:
        """The neighbour was lost before the run began: it may come back."""
        self.hello = self._progress = self._told = None

    def progressed(self, progress: Progress, now: float) -> bool:
        """A header told how far the neighbour is; True where the training thread should know.

        Mere steps within a phase are told at most every ``BEAT`` seconds: each would wake a thread that waits.
        """
        if self._progress is not None and progress <= self._progress:
            return False
        self._progress = progress
        if self._told is not None and progress[:3] == self._told[0][:3] and now < self._told[1] + BEAT:
            return False
        self._told = progress, now
        return True

    def broken(self) -> None:
        """The connection broke: what was under way may be lost; send it again, with fresh credits."""
        self.restarts += 1
        self._sender.restart()
        self._frames, self._frame = iter(()), None
        self._rows.extendleft(reversed(self._kept))
        self._kept.clear()

    def queue(self, row: Outgoing) -> None:
        """Send a payload after those that wait; a neighbour that takes none loses the oldest."""
        self._rows.append(row)
        while len(self._rows) > SETTLE_WINDOW:
            self._rows.popleft()

    def next_frame(self) -> bytes | None:
        """Return the frame to send now, or None where nothing waits or the neighbour's credit is used up."""
        if self._frame is None:
            self._frame = next(self._frames, None)
        if self._frame is None and self._rows:
            row = self._rows.popleft()
            self._kept.append(row)
            chunk_bytes = self._sender.chunk_bytes  # smaller on a slow link, where the shared checksums do not serve
            shared = row.checksums if chunk_bytes == self.chunk_bytes else None
            self._frames = split(row.header, row.payload, chunk_bytes, shared)
            self._frame = next(self._frames)
        if self._frame is None or not self._sender.can_send(payload_length(self._frame)):
            return None
        return self._frame

    def sent(self, frame: bytes, now: float) -> None:
        """The frame of ``next_frame`` has left."""
        payload = payload_length(frame)
        self._sender.sent(payload, now)
        self._frame = None
        self.count_sent(frame, payload)

    def credit(self, consumed: int, now: float) -> None:
        """The neighbour has consumed so many bytes in all (it may still count those of a connection before)."""
        self._sender.credit(min(consumed, self._sender.sent_total), now)

    def row(self, header: Header, payload: memoryview) -> tuple[memoryview | None, int | None]:
        """A chunk has come: return the whole payload if it is complete, and the CREDIT that is due if one is.

        Raises RemoteProtocolError where it does not fit, or its incarnation is not the one that said HELLO.
        """
        if self.hello is None or header.incarnation != self.hello.incarnation:
            raise RemoteProtocolError(f"peer {self.peer} sent a row before its HELLO", self.peer)
        last = header.chunk == header.chunks - 1
        due = self.receiver.consumed(len(payload), last)
        whole = self._assembler.add(header, payload)
        if whole is not None:
            self._locked = True
            if self.delivered - self.read >= MOST_UNREAD:
                return None, due
            self.delivered += 1
        return whole, due

    def count_sent(self, frame: bytes, payload: int = 0) -> None:
        """Count a frame that left."""
        self.traffic.bytes_sent += len(frame) + FRAME_OVERHEAD
        self.traffic.payload_sent += payload
        self.traffic.messages_sent += 1

    def snapshot(self) -> Traffic:
        """Return the counts as they are now."""
        return replace(self.traffic)
