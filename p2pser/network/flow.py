"""Flow control by byte credits: how many bytes may be in flight to a neighbour. Pure: the caller passes the time in.

A PING waits behind all data sent before it. So a sender keeps at most about half a second of the link's measured rate
unacknowledged. A CREDIT carries the total of bytes that the receiver has consumed, so that the next one makes up for a
lost one.

Both ends count the payload bytes of one connection, and start at 0 with a new connection.
"""

from __future__ import annotations

from collections import deque

from p2pser.base.errors import RemoteProtocolError

HORIZON = 0.5
"""Seconds of the link's rate that may be in flight."""
WINDOW_CHUNKS = 4
"""Smallest window, in chunks: the receiver acknowledges every second chunk, so the link never runs dry."""
MAX_WINDOW = 8 << 20
"""Largest window [B]."""
MIN_CHUNK = 4096
"""Smallest chunk [B]; with a smaller one headers would cost more than the shorter queue gains."""
MEASURE = 65536
"""A lower rate is adopted after this many bytes and HORIZON seconds."""
START_RATE = 131072.0
"""Assumed rate of a link that has not been measured [B/s]: about 1 Mbit/s."""

_HELD = 2 * MIN_CHUNK
"""A receiver may leave fewer bytes than this unacknowledged [B]."""


class Sender:
    """The sending end: decides when the next chunk may leave.

    The window is HORIZON seconds of the measured rate, between 4 chunks and 8 MiB. Chunks are cut so that four of them
    fit: ``chunk_bytes`` is the size of the *next* chunk (between MIN_CHUNK and the given size). While larger ones are
    in flight the window has room for four of them, since the receiver may hold back the acknowledgement of three.

    The rate is the number of acknowledged bytes over the length of a busy period (which begins with the first byte on
    an idle link), so idle time does not count. A higher rate is adopted at once: acknowledgements never arrive faster
    than the link carries data. A lower one is adopted after HORIZON seconds and MEASURE bytes: a short row on a link
    with a long delay does not show its rate.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.max_chunk = chunk_bytes
        self.rate = START_RATE
        """Measured rate [B/s]."""
        self.sent_total = 0
        self.consumed_total = 0
        self._flying: deque[tuple[int, int]] = deque()
        """(total of bytes sent after it, its size) of each chunk in flight."""
        self._points: deque[tuple[float, int]] = deque()
        """(time, total of acknowledged bytes) in the present busy period."""

    def restart(self) -> None:
        """Start counting for a new connection: nothing is in flight; the measured rate stays."""
        self.sent_total = self.consumed_total = 0
        self._flying.clear()
        self._points.clear()

    @property
    def chunk_bytes(self) -> int:
        """Size of the next chunk [B]."""
        aim = int(self.rate * HORIZON / WINDOW_CHUNKS) // 1024 * 1024
        return min(self.max_chunk, max(MIN_CHUNK, aim))

    @property
    def window(self) -> int:
        """How many bytes may be in flight now."""
        least = WINDOW_CHUNKS * max(self.chunk_bytes, MIN_CHUNK, *(size for _, size in self._flying))
        return max(least, min(int(self.rate * HORIZON), MAX_WINDOW))

    @property
    def outstanding(self) -> int:
        """Bytes in flight: sent and not yet acknowledged."""
        return self.sent_total - self.consumed_total

    def can_send(self, n: int) -> bool:
        """Whether a chunk of ``n`` bytes may be sent now."""
        outstanding = self.outstanding
        return outstanding == 0 or outstanding + n <= max(self.window, WINDOW_CHUNKS * n)

    def sent(self, n: int, now: float) -> None:
        """Note that a chunk of ``n`` bytes was sent."""
        if self.outstanding < _HELD:
            # Idle until now (the receiver may be holding back the acknowledgement of the rest): a busy period begins.
            self._points.clear()
            self._points.append((now, self.sent_total))
        self.sent_total += n
        self._flying.append((self.sent_total, n))

    def credit(self, consumed_total: int, now: float) -> None:
        """Take a CREDIT: the receiver has consumed ``consumed_total`` bytes of this connection.

        An older CREDIT changes nothing. Raises RemoteProtocolError where it names more bytes than were sent.
        """
        if consumed_total > self.sent_total:
            raise RemoteProtocolError(
                f"a neighbour acknowledges {consumed_total} bytes where {self.sent_total} were sent"
            )
        if consumed_total <= self.consumed_total:
            return
        self.consumed_total = consumed_total
        while self._flying and self._flying[0][0] <= consumed_total:
            self._flying.popleft()
        self._measure(now)

    def _measure(self, now: float) -> None:
        points = self._points
        while len(points) > 1 and self._long(points[1], now):
            points.popleft()
        if not points:
            return
        since, before = points[0]
        span, acknowledged = now - since, self.consumed_total - before
        if span > 0 and acknowledged > 0:
            rate = acknowledged / span
            if rate > self.rate or self._long(points[0], now):
                self.rate = rate
            points.append((now, self.consumed_total))

    def _long(self, point: tuple[float, int], now: float) -> bool:
        return now - point[0] >= HORIZON and self.consumed_total - point[1] >= MEASURE


class Receiver:
    """The receiving end: decides when a CREDIT is due.

    A CREDIT is due every second chunk, every third chunk of full size, and at the end of a row (tiny rows share one).

    A sender that may not send has more than three of its largest chunks in flight, since four fit its window. So fewer
    than three of them may stay unacknowledged, or both ends would wait for each other forever.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.max_chunk = chunk_bytes
        self.total = 0
        """Total of bytes consumed."""
        self._acknowledged = 0

    def restart(self) -> None:
        """Start counting for a new connection: nothing was consumed."""
        self.total = self._acknowledged = 0

    def consumed(self, n: int, last: bool = False) -> int | None:
        """Count a consumed chunk of ``n`` bytes, the ``last`` of its row or not.

        Returns the total of bytes consumed where a CREDIT is due now, else None.
        """
        self.total += n
        open_bytes = self.total - self._acknowledged
        # A slower link has smaller chunks, and its queue must not become empty.
        due = (WINDOW_CHUNKS - 1) * n if n >= self.max_chunk else max(_HELD, 2 * n)
        if open_bytes >= (MIN_CHUNK if last else due):
            self._acknowledged = self.total
            return self.total
        return None
