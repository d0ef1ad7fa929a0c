"""Credits over a link of the test's own: rate, delay and clock are simulated."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.network.flow import MAX_WINDOW, MIN_CHUNK, Receiver, Sender

CHUNK = 524288
"""The largest chunk."""

MBIT = 125_000.0


@dataclass
class Wire:
    """A link that carries ``rate`` bytes per second in order, after ``delay`` seconds, and CREDITs back as fast."""

    sender: Sender
    rate: float
    delay: float = 0.01
    now: float = 0.0
    free: float = 0.0
    queue: float = 0.0
    credits: int = 0
    arriving: deque[tuple[float, int, bool]] = field(default_factory=deque)
    coming_back: deque[tuple[float, int]] = field(default_factory=deque)
    receiver: Receiver = field(default_factory=lambda: Receiver(CHUNK))

    def send_row(self, total: int, chunk_bytes: int | None = None) -> float:
        """Send a row as credits allow, wait until it has come, return how long that took."""
        start, pending = self.now, total
        while pending or self.arriving:
            while pending:
                n = min(pending, chunk_bytes or self.sender.chunk_bytes)
                if not self.sender.can_send(n):
                    break
                pending -= n
                self.sender.sent(n, self.now)
                self.free = max(self.now, self.free) + n / self.rate
                self.arriving.append((self.free + self.delay, n, not pending))
                # How long a PING sent now would wait behind what was sent before it.
                self.queue = max(self.queue, self.free - self.now)
            self.advance()
        return self.now - start

    def advance(self) -> None:
        """Go to the next thing that happens."""
        times = [queue[0][0] for queue in (self.arriving, self.coming_back) if queue]
        assert times, "nothing is on its way and the sender may not send: the link is stuck"
        self.now = min(times)
        if self.coming_back and self.coming_back[0][0] <= self.now:
            self.sender.credit(self.coming_back.popleft()[1], self.now)
            return
        _, n, last = self.arriving.popleft()
        told = self.receiver.consumed(n, last)
        if told is not None:
            self.credits += 1
            self.coming_back.append((self.now + self.delay, told))

    def idle(self, seconds: float) -> None:
        """Let everything on its way arrive, then do nothing."""
        end = self.now + seconds
        while self.arriving or self.coming_back:
            self.advance()
        self.now = max(end, self.now)


@pytest.mark.parametrize("delay", [0.0005, 0.02, 0.1])
def test_a_ping_waits_half_a_second_at_1_mbit(delay: float) -> None:
    wire = Wire(Sender(CHUNK), MBIT, delay)
    for _ in range(5):
        took = wire.send_row(400_000)
        assert took == pytest.approx(400_000 / MBIT + delay, rel=0.1 if delay < 0.1 else 0.6)
        wire.idle(3.0)
    assert wire.queue <= 0.55
    assert wire.sender.rate == pytest.approx(MBIT, rel=0.15 if delay < 0.1 else 0.5)


def test_a_fast_link_is_filled() -> None:
    wire = Wire(Sender(CHUNK), 1000 * MBIT, 0.0002)
    wire.send_row(400_000)
    assert wire.sender.chunk_bytes == CHUNK
    assert wire.sender.window >= 1 << 20
    assert wire.send_row(4_000_000) == pytest.approx(4_000_000 / (1000 * MBIT), rel=0.05)
    assert wire.sender.window <= MAX_WINDOW
    assert wire.queue <= 0.5


def test_a_long_fat_link_is_filled_after_a_few_rows() -> None:
    wire = Wire(Sender(CHUNK), 100 * MBIT, 0.05)
    for _ in range(6):
        took = wire.send_row(4_000_000)
    assert took <= 1.25 * (4_000_000 / (100 * MBIT) + 0.05)
    assert wire.queue <= 0.55


def test_a_link_that_becomes_slow_is_noticed() -> None:
    wire = Wire(Sender(CHUNK), 100 * MBIT)
    for _ in range(3):
        wire.send_row(4_000_000)
    wire.idle(1.0)
    wire.rate = MBIT
    wire.send_row(1_000_000)
    wire.idle(1.0)
    wire.queue = 0.0
    wire.send_row(400_000)
    assert wire.queue <= 0.6


def test_in_the_middle_of_a_row_the_chunks_follow_the_rate() -> None:
    wire = Wire(Sender(CHUNK), 1000 * MBIT, 0.0002)
    wire.send_row(4_000_000)
    assert wire.sender.chunk_bytes == CHUNK
    wire.rate = MBIT
    wire.send_row(16_000_000)
    assert wire.sender.chunk_bytes <= 16384
    assert wire.sender.window <= 65536
    wire.rate = 1000 * MBIT
    wire.send_row(16_000_000)
    assert wire.sender.chunk_bytes == CHUNK


def test_idle_gaps_and_tiny_rows_say_nothing_about_the_rate() -> None:
    wire = Wire(Sender(CHUNK), 100 * MBIT, 0.05)
    for _ in range(4):
        wire.send_row(4_000_000)
    wire.idle(60.0)
    rate = wire.sender.rate
    for _ in range(200):
        wire.send_row(100)
        wire.idle(0.3)
    assert wire.sender.rate == rate
    wire.idle(600.0)
    assert wire.send_row(4_000_000) <= 1.3 * (4_000_000 / (100 * MBIT) + 0.05)


def test_credits_cost_little() -> None:
    wire = Wire(Sender(CHUNK), 1000 * MBIT, 0.0002)
    wire.send_row(400_000)
    wire.idle(1.0)
    wire.credits = 0
    for _ in range(50):
        wire.send_row(400_000)
        wire.idle(0.1)
    # 52 bytes of header a row of one chunk, about 40 a CREDIT, 42 of framing and encryption each.
    spent = 50 * (52 + 42) + wire.credits * (40 + 42)
    assert spent / (50 * 400_000) <= 0.0005
    tiny = Wire(Sender(CHUNK), 1000 * MBIT)
    for _ in range(1000):
        tiny.send_row(100)
    assert tiny.credits <= 1000 * 100 / MIN_CHUNK + 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300_000), st.sampled_from([None, 1024, 5000, CHUNK])), max_size=12),
    st.sampled_from([1000.0, MBIT, 1000 * MBIT]),
    st.sampled_from([0.0, 0.001, 0.5]),
)
def test_nothing_ever_gets_stuck(rows: list[tuple[int, int | None]], rate: float, delay: float) -> None:
    wire = Wire(Sender(CHUNK), rate, delay)
    for total, chunk_bytes in rows:
        wire.send_row(total, chunk_bytes)
        assert 4 * MIN_CHUNK <= wire.sender.window <= MAX_WINDOW
        assert 0 <= wire.sender.outstanding <= max(wire.sender.window, 4 * CHUNK)
    wire.idle(1.0)
    assert wire.receiver.total == sum(total for total, _ in rows)
    assert wire.sender.outstanding < 2 * MIN_CHUNK


def test_full_chunks_behind_a_smaller_one_do_not_wait_for_a_credit_that_is_not_due() -> None:
    """The window is between four and five chunks: a fifth does not fit, and what has come is less than four."""
    sender, receiver = Sender(CHUNK), Receiver(CHUNK)
    sender.rate = 5_024_328.0
    assert sender.chunk_bytes == CHUNK
    told = []
    for n in (461_824, CHUNK, CHUNK, CHUNK):
        assert sender.can_send(n)
        sender.sent(n, 0.0)
        told.append(receiver.consumed(n))
    assert not sender.can_send(CHUNK)
    assert told[-1] == 2_034_688
    sender.credit(2_034_688, 1.0)
    assert sender.can_send(CHUNK)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_measured_rate_does_all_chunks_get_through(seed: int) -> None:
    draw, sender, receiver, told = random.Random(seed), Sender(CHUNK), Receiver(CHUNK), 0
    for _ in range(500):
        sender.rate = 10 ** draw.uniform(4, 8)
        n = draw.choice([sender.chunk_bytes, draw.randint(1, sender.chunk_bytes)])  # the end of a row is short
        if not sender.can_send(n):
            sender.credit(told, 0.0)  # all has come, and its last CREDIT too
        assert sender.can_send(n)
        sender.sent(n, 0.0)
        told = receiver.consumed(n, last=n < sender.chunk_bytes) or told


def test_words_are_cumulative() -> None:
    sender = Sender(CHUNK)
    for _ in range(4):
        assert sender.can_send(16384)
        sender.sent(16384, 0.0)
    assert not sender.can_send(16384)
    sender.credit(3 * 16384, 1.0)  # the one for 2 chunks was lost
    assert sender.outstanding == 16384
    sender.credit(2 * 16384, 1.1)  # and comes late
    assert sender.outstanding == 16384
    with pytest.raises(RemoteProtocolError, match="65537 bytes where 65536"):
        sender.credit(65537, 1.2)


def test_an_acknowledgement_that_was_held_back_makes_no_link_fast() -> None:
    sender = Sender(CHUNK)
    sender.sent(8000, 0.0)
    # Ten idle seconds later a tiny row brings the receiver to acknowledge both.
    sender.sent(200, 10.0)
    sender.credit(8200, 10.01)
    assert sender.rate == 131072


def test_a_new_connection_starts_again_with_what_was_learnt() -> None:
    wire = Wire(Sender(CHUNK), 100 * MBIT)
    wire.send_row(4_000_000)
    rate = wire.sender.rate
    wire.sender.sent(65536, wire.now)
    wire.sender.restart()
    wire.receiver.restart()
    assert wire.sender.outstanding == 0
    assert wire.sender.rate == rate
    assert wire.receiver.total == 0


def test_a_receiver_tells_every_third_full_chunk_every_second_smaller_one_and_the_end_of_a_row() -> None:
    receiver = Receiver(65536)
    assert [receiver.consumed(65536) for _ in range(4)] == [None, None, 196608, None]
    assert receiver.consumed(5000, last=True) == 267144
    assert [receiver.consumed(16384) for _ in range(4)] == [None, 299912, None, 332680]
    assert receiver.consumed(100, last=True) is None
    assert [receiver.consumed(1000) for _ in range(9)].count(None) == 8
