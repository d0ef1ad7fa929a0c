"""One neighbour as the I/O thread sees it, without a socket."""

from __future__ import annotations

from dataclasses import replace

from p2pser.network.link import PROGRESS_INTERVAL, Link, Neighbour, Outgoing, Traffic
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Kind, Phase, Progress, checksums, decode, encode, split


def at(round: int, phase: Phase, beat: int, slot: int = 0) -> Progress:
    return Progress(round, slot, phase, beat)


def test_steps_within_a_phase_are_told_now_and_then_and_everything_else_at_once() -> None:
    link = Link(Neighbour(1, None, "k" * 40), 65536, 1 << 20)
    assert link.note_progress(at(0, Phase.TRAIN, 1), 10.0)
    assert not link.note_progress(at(0, Phase.TRAIN, 2), 10.1)
    assert link.note_progress(at(0, Phase.EXCHANGE, 0), 10.1)
    assert link.note_progress(at(0, Phase.TRAIN, 0, slot=1), 10.1)
    assert link.note_progress(at(1, Phase.TRAIN, 1), 10.1)
    assert not link.note_progress(at(1, Phase.TRAIN, 1), 20.0), "nothing new"
    assert not link.note_progress(at(0, Phase.TRAIN, 9), 20.0), "a chunk tells how far its sender was when it posted"
    assert link.note_progress(at(1, Phase.TRAIN, 2), 10.1 + PROGRESS_INTERVAL)
    link.forget()
    assert link.note_progress(at(0, Phase.TRAIN, 1), 10.4)


HELLO = Hello("run", 1, 0, {}, "t", "s", "i", ("a", "b"), 7)
ROW = Header(Kind.ROW, b"run-0001", 1, 0, Progress(0, 0, Phase.TRAIN, 0))


def open_link() -> Link:
    link = Link(Neighbour(1, None, "k" * 40), 4096, 1 << 20)
    assert link.admit(HELLO, restarts=0) is None
    return link


def receive(link: Link, payload: bytes, **change: int) -> list[int | None]:
    """Take a row of the neighbour; return the CREDITs that were due."""
    return [link.row(header, part)[1] for header, part in map(decode, split(replace(ROW, **change), payload, 4096))]


def test_traffic_counts_what_was_sent_and_nothing_that_was_received() -> None:
    link = open_link()
    receive(link, bytes(10_000))
    assert link.snapshot() == Traffic(0, 0, 0)
    row = bytes(5000)
    link.queue(Outgoing(replace(ROW, sender=0), row, checksums(row, 4096)))
    frames = []
    while (frame := link.next_frame()) is not None:
        frames.append(frame)
        link.sent(frame, 0.0)
    control = encode(replace(ROW, kind=Kind.CREDIT))
    link.count_sent(control)
    assert len(frames) == 2
    assert link.snapshot() == Traffic(sum(map(len, frames)) + len(control) + 3 * 42, 5000, 3)


def test_credits_count_the_bytes_of_one_stream() -> None:
    link = open_link()
    assert receive(link, bytes(10_000)) == [None, None, 10_000]
    assert link.receiver.total == 10_000
    assert link.admit(HELLO, restarts=0) is None  # over a second connection: the same stream
    assert link.receiver.total == 10_000
    assert link.admit(HELLO, restarts=1) is None  # their stream broke, and they count from 0
    assert link.receiver.total == 0


def test_the_last_two_rows_are_sent_again_after_a_break_and_received_once() -> None:
    here, there = open_link(), open_link()
    for slot in range(3):
        here.queue(Outgoing(replace(ROW, slot=slot), b"%d" % slot, checksums(b"%d" % slot, 4096)))
    arrived = []
    for connection in range(2):
        while (frame := here.next_frame()) is not None:
            here.sent(frame, 0.0)
            header, payload = decode(frame)
            whole, _ = there.row(header, payload)
            arrived.append((connection, header.slot, whole is not None))
        here.restart_stream()
    assert arrived == [(0, 0, True), (0, 1, True), (0, 2, True), (1, 1, False), (1, 2, False)]
    assert here.restarts == 2
    assert there.delivered == 3


def test_a_credit_of_an_earlier_connection_acknowledges_no_more_than_was_sent() -> None:
    link = open_link()
    link.queue(Outgoing(ROW, b"abc", checksums(b"abc", 4096)))
    frame = link.next_frame()
    assert frame is not None
    link.sent(frame, 0.0)
    link.credit(5000, 1.0)
    assert link._sender.outstanding == 0
