"""The stream of rows to and from a neighbour, without a socket."""

from __future__ import annotations

import pytest

from p2pser.network.stream import MAX_UNREAD, Outgoing, Stream, Traffic
from p2pser.wire.assembly import Cut
from p2pser.wire.messages import Header, Kind, Phase, Progress, decode, encode

ROW = Header(Kind.ROW, b"run-0001", 1, 0, Progress(0, 0, Phase.TRAIN, 0))


def open_stream() -> Stream:
    stream = Stream(4096, 1 << 20)
    stream.greeted(0, new=True)
    return stream


def receive(stream: Stream, payload: bytes, **change: int) -> list[int | None]:
    """Take a row of the neighbour; return the CREDITs that were due."""
    cut, due = Cut(ROW._replace(**change), payload), []
    while cut.left:
        due.append(stream.chunk(*decode(cut.frame(4096)))[1])
    return due


def test_traffic_counts_what_was_sent_apart_from_the_payload_that_was_received() -> None:
    stream = open_stream()
    receive(stream, bytes(10_000))
    assert stream.snapshot() == Traffic(payload_received=10_000, rows_received=1)
    row = bytes(5000)
    stream.queue(Outgoing(ROW._replace(sender=0), row))
    frames = []
    while (frame := stream.next_frame()) is not None:
        frames.append(frame)
        stream.sent(frame, 0.0)
    control = encode(ROW._replace(kind=Kind.CREDIT))
    stream.count_sent(control)
    assert len(frames) == 2
    assert stream.snapshot() == Traffic(sum(map(len, frames)) + len(control) + 3 * 42, 5000, 3,
                                        payload_received=10_000, rows_received=1)


def test_credits_count_the_bytes_of_one_stream() -> None:
    stream = open_stream()
    assert receive(stream, bytes(10_000)) == [None, None, 10_000]
    assert stream.receiver.total == 10_000
    stream.greeted(0, new=False)  # over a second connection: the same stream
    assert stream.receiver.total == 10_000
    stream.greeted(1, new=False)  # their stream broke, and they count from 0
    assert stream.receiver.total == 0
    receive(stream, bytes(9000), slot=1)
    stream.greeted(0, new=False)  # sent before the break, over the other connection
    assert stream.receiver.total == 9000
    stream.greeted(0, new=True)
    assert stream.receiver.total == 0


@pytest.mark.parametrize(("size", "again"), [(1, (0, 1, 2)), (40_000, (1, 2))])
def test_the_last_two_rows_are_sent_again_after_a_break_and_small_ones_of_before_and_received_once(
        size: int, again: tuple[int, ...]) -> None:
    here, there = Stream(65536, 1 << 20), open_stream()
    for slot in range(3):
        here.queue(Outgoing(ROW._replace(slot=slot), bytes(size)))
    arrived = []
    for connection in range(2):
        while (frame := here.next_frame()) is not None:
            here.sent(frame, 0.0)
            header, payload = decode(frame)
            whole, _ = there.chunk(header, payload)
            here.credit(1 << 30, 0.1)
            if header.start + len(payload) == header.total:
                arrived.append((connection, header.slot, whole is not None))
        here.restart()
    assert arrived == [(0, 0, True), (0, 1, True), (0, 2, True), *((1, slot, False) for slot in again)]
    assert here.restarts == 2
    assert there.delivered == 3


def test_a_credit_of_an_earlier_connection_acknowledges_no_more_than_was_sent() -> None:
    stream = open_stream()
    stream.queue(Outgoing(ROW, b"abc"))
    frame = stream.next_frame()
    assert frame is not None
    stream.sent(frame, 0.0)
    stream.credit(5000, 1.0)
    assert stream._sender.outstanding == 0


def test_a_row_that_was_begun_is_cut_smaller_where_the_link_becomes_slow() -> None:
    stream = Stream(1 << 19, 1 << 23)
    stream.greeted(0, new=True)
    stream.queue(Outgoing(ROW, bytes(4_000_000)))
    now, sizes = 0.0, []
    while (frame := stream.next_frame()) is not None:
        stream.sent(frame, now)
        sizes.append(len(decode(frame)[1]))
        now += len(frame) / (100_000_000 if len(sizes) < 4 else 20_000)
        stream.credit(sum(sizes), now)
    assert sizes[:4] == [16384, 1 << 19, 1 << 19, 1 << 19]
    assert sizes[-2] == 4096
    assert sum(sizes) == 4_000_000
    assert stream.idle


def test_large_rows_that_wait_or_are_kept_are_few() -> None:
    large = bytes(150 << 20)
    stream = Stream(1 << 19, 160 << 20)
    stream.greeted(0, new=True)
    for slot in range(4):
        stream.queue(Outgoing(ROW._replace(slot=slot), large))
    assert [row.header.slot for row in stream._rows] == [2, 3]
    for slot in (2, 3):
        while (frame := stream.next_frame()) is not None and decode(frame)[0].slot == slot:
            stream.sent(frame, 0.0)
            stream.credit(stream._sender.sent_total, 0.001)
    assert [row.header.slot for row in stream._kept] == [3]


def test_a_row_that_was_dropped_is_taken_when_it_comes_again() -> None:
    stream = Stream(4096, 1 << 20)
    stream.greeted(0, new=True)
    frame = Cut(ROW, b"row").frame(4096)
    assert stream.chunk(*decode(frame))[0] == b"row"
    assert stream.chunk(*decode(frame))[0] is None  # a second copy
    stream.forget((0, 0))
    assert stream.chunk(*decode(frame))[0] == b"row"


def test_a_row_for_which_there_was_no_room_is_taken_when_it_comes_again() -> None:
    stream = open_stream()
    for slot in range(MAX_UNREAD):
        assert stream.chunk(*decode(Cut(ROW._replace(slot=slot), b"row").frame(4096)))[0] is not None
    one_more = Cut(ROW._replace(slot=MAX_UNREAD), b"more").frame(4096)
    assert stream.chunk(*decode(one_more))[0] is None
    stream.read = 1
    assert stream.chunk(*decode(one_more))[0] == b"more"
