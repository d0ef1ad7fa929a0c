"""Byte credits: how much may be on its way to a neighbour. Pure: the time is passed in.

A PING waits behind everything that was sent before it. So a sender keeps about half a second of the link's
measured rate unacknowledged, and no more. The receiver tells the bytes that it has consumed in all; a lost
CREDIT is made good by the next.

Both ends speak of payload bytes of one connection; after a new connection both restart.
"""

from __future__ import annotations

from collections import deque

from p2pser.base.errors import RemoteProtocolError

HORIZON = 0.5
"""Seconds of the link's rate that may be on their way."""
WINDOW_CHUNKS = 4
"""Least window in chunks: the receiver acknowledges every second one, so the link never runs dry."""
MAX_WINDOW = 8 << 20
"""Most bytes on their way."""
MIN_CHUNK = 4096
"""Least chunk [B]; below it headers would cost more than the shorter queue is worth."""
MEASURE = 65536
"""A lower rate is believed after so many bytes, and HORIZON seconds."""
START_RATE = 131072.0
"""What a link is thought to carry until it has shown more [B/s]: about 1 Mbit/s."""

_HELD = 2 * MIN_CHUNK
"""A receiver may hold back the acknowledgement of fewer bytes than this."""


class Sender:
    """Says when the next chunk may leave.

    The window is HORIZON seconds of the measured rate, between 4 chunks and 8 MiB. Chunks are cut so that
    four of them fit: ``chunk_bytes`` is the size for the *next* row (between MIN_CHUNK and the given size);
    all chunks of one row must be equally long. Larger ones are taken too, with a window of four of them.

    The rate is what was acknowledged over the time of a busy stretch (from the first byte on an idle link),
    so idle gaps do not count. A higher rate is believed at once: acknowledgements never come faster than the
    link carries. A lower one is believed after HORIZON seconds and MEASURE bytes: a short row on a long link
    says nothing about the rate.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.max_chunk = chunk_bytes
        self.rate = START_RATE
        """Measured rate [B/s]."""
        self.restart()

    def restart(self) -> None:
        """A new connection: nothing is on its way; the rate stays."""
        self.sent_total = 0
        self.consumed_total = 0
        self._largest = 0
        self._points: deque[tuple[float, int]] = deque()

    @property
    def chunk_bytes(self) -> int:
        """Size of the next row's chunks [B]."""
        aim = int(self.rate * HORIZON / WINDOW_CHUNKS) // 1024 * 1024
        return min(self.max_chunk, max(MIN_CHUNK, aim))

    @property
    def window(self) -> int:
        """Most bytes that may be on their way now [B]."""
        least = WINDOW_CHUNKS * max(self.chunk_bytes, self._largest, MIN_CHUNK)
        return max(least, min(int(self.rate * HORIZON), MAX_WINDOW))

    @property
    def outstanding(self) -> int:
        """Bytes sent and not yet acknowledged."""
        return self.sent_total - self.consumed_total

    def can_send(self, n: int) -> bool:
        """Whether ``n`` bytes may leave now: as one chunk."""
        outstanding = self.outstanding
        return outstanding == 0 or outstanding + n <= max(self.window, WINDOW_CHUNKS * n)

    def sent(self, n: int, now: float) -> None:
        """``n`` bytes have left."""
        outstanding = self.outstanding
        if outstanding < _HELD:
            # Idle until now (what is still open the receiver may be holding back): a stretch begins.
            self._points.clear()
            self._points.append((now, self.sent_total))
        self._largest = max(n, self._largest) if outstanding else n
        self.sent_total += n

    def credit(self, consumed_total: int, now: float) -> None:
        """The receiver has consumed so many bytes of this connection in all; an older word changes nothing.

        Raises RemoteProtocolError where that is more than was sent.
        """
        if consumed_total > self.sent_total:
            raise RemoteProtocolError(
                f"a neighbour acknowledges {consumed_total} bytes where {self.sent_total} were sent"
            )
        if consumed_total <= self.consumed_total:
            return
        self.consumed_total = consumed_total
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
    """Says when a CREDIT is due: every second chunk, every fourth of full size, and at the end of a row (tiny rows
    are put together).
    """

    def __init__(self, chunk_bytes: int = MEASURE) -> None:
        self.max_chunk = chunk_bytes
        self.restart()

    def restart(self) -> None:
        """A new connection: nothing was consumed."""
        self.total = 0
        """Bytes consumed in all."""
        self._told = 0

    def consumed(self, n: int, last: bool = False) -> int | None:
        """A chunk of ``n`` bytes was consumed, the ``last`` of its row or not.

        Returns the cumulative bytes to tell in a CREDIT now, or None where none is due.
        """
        self.total += n
        open_bytes = self.total - self._told
        # Four full chunks fit any window; on a slower link, whose chunks are smaller, the queue must not run dry.
        due = WINDOW_CHUNKS * n if n >= self.max_chunk else max(_HELD, 2 * n)
        if open_bytes >= (MIN_CHUNK if last else due):
            self._told = self.total
            return self.total
        return None
