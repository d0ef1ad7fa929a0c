"""The link to one neighbour, as the I/O thread sees it: identity, standing and stream of rows. No socket."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.errors import RemoteProtocolError
from p2pser.network.stream import Stream
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Progress

PROGRESS_INTERVAL = 0.25
"""Steps within a phase are reported to the training thread at most this often [s]; its timeouts are seconds long."""


@dataclass(frozen=True)
class Neighbour:
    """Where a neighbour listens (None: only it dials us) and the public key (Z85) that it must hold."""

    peer: int
    address: str | None
    key: str


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
        self.stream = Stream(chunk_bytes, max_row_bytes)
        self.hello: Hello | None = None
        self.closed = ""
        """Why nothing is exchanged with this neighbour any more; empty while the link is open."""
        self._progress: Progress | None = None
        self._reported: tuple[Progress, float] | None = None
        self._took_part = False
        """Whether a row of this incarnation has arrived: then a later incarnation cannot simply replace it."""

    @property
    def up(self) -> bool:
        """Whether rows may be exchanged."""
        return self.hello is not None and not self.closed

    def admit(self, hello: Hello, restarts: int) -> str | None:
        """Take a HELLO or WELCOME that fits ours; return None, or the reason why it comes too late."""
        new = self.hello is None or hello.incarnation != self.hello.incarnation
        if self.hello is not None and new:
            if hello.incarnation < self.hello.incarnation:
                return f"peer {self.peer} was started again since (incarnation {self.hello.incarnation})"
            if self._took_part:
                return (f"peer {self.peer} was started again while the run goes on; "
                        "a peer that was lost cannot come back before the next start of all peers")
        if new:
            self._progress = self._reported = None
        self.stream.greeted(restarts, new=new)
        self.hello = hello
        return None

    def reopen(self) -> None:
        """Accept a later incarnation: drop everything queued for the earlier one and wait for a new HELLO."""
        self.forget()
        self.closed = ""
        self._took_part = False
        self.stream.reset()

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

    def chunk(self, header: Header, payload: memoryview) -> tuple[memoryview | None, int | None]:
        """Take a chunk of a row, as ``Stream.chunk``.

        Raises RemoteProtocolError where it does not fit, or its incarnation is not the one of the last HELLO.
        """
        if self.hello is None or header.incarnation != self.hello.incarnation:
            raise RemoteProtocolError(f"peer {self.peer} sent a row before its HELLO", self.peer)
        whole, due = self.stream.chunk(header, payload)
        self._took_part = self._took_part or whole is not None
        return whole, due
