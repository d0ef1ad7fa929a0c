"""Payloads in chunks: cut, and put together where chunks come twice, late and cut otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.assembly import MAX_DONE, Assembler, Cut
from p2pser.wire.messages import Header, Kind, Progress, decode

ROW = Header(Kind.ROW, b"run-0001", 3, 1, Progress(0, 0, 3, 0), codec="f4", size=1)


def chunks(payload: bytes, chunk_bytes: int, **change: int | str | bytes) -> list[tuple[Header, memoryview]]:
    cut, parts = Cut(ROW._replace(**change), payload), []
    while cut.left:
        parts.append(decode(cut.frame(chunk_bytes)))
    return parts


def feed(assembler: Assembler, parts: list[tuple[Header, memoryview]]) -> list[bytes]:
    return [bytes(whole) for header, data in parts if (whole := assembler.add(header, data)) is not None]


@given(st.binary(max_size=500), st.integers(1, 90), st.integers(1, 90), st.randoms())
def test_a_row_over_several_connections_comes_out_once(payload, first, second, random) -> None:  # type: ignore[no-untyped-def]
    connections = [chunks(payload, first), chunks(payload, second), chunks(payload, first)]
    parts = []
    while connections:  # interleaved, each in its order
        connection = random.choice(connections)
        parts.append(connection.pop(0))
        connections = [other for other in connections if other]
    assembler = Assembler(500)
    assert feed(assembler, parts) == [payload]
    assert len(assembler) == 0


@given(st.binary(max_size=3000), st.lists(st.integers(1, 700), min_size=1))
def test_a_payload_is_cut_as_asked(payload, lengths) -> None:  # type: ignore[no-untyped-def]
    cut, parts = Cut(ROW, payload), []
    while cut.left:
        asked = lengths[len(parts) % len(lengths)]
        due = cut.length(asked)
        header, data = decode(cut.frame(asked))
        assert (len(data), header.start) == (due, sum(len(part) for part in parts))
        assert (header.total, header.codec, header.size) == (len(payload), "f4", 1)
        parts.append(bytes(data))
    assert b"".join(parts) == payload
    assert len(parts) >= 1


def test_a_row_without_its_middle_never_comes_out() -> None:
    parts = chunks(bytes(40), 9)
    assembler = Assembler(100)
    assert feed(assembler, parts[:2] + parts[3:]) == []
    assert feed(assembler, parts[2:3] + parts[4:]) == []
    assert feed(assembler, chunks(bytes(40), 40)) == [bytes(40)]
    again = Assembler(100)
    assert feed(again, parts[:1] + parts[2:] + parts[3:]) == []  # as many bytes as the row has, but not its own


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4), st.randoms())
def test_rows_of_several_steps_interleave(payloads, random) -> None:  # type: ignore[no-untyped-def]
    rows = [chunks(payload, 7, round=round) for round, payload in enumerate(payloads)]
    parts = []
    while rows:
        parts.append(random.choice(rows).pop(0))
        rows = [row for row in rows if row]
    assembler = Assembler(60)
    assert sorted(feed(assembler, parts)) == sorted(payloads)
    assert len(assembler) == 0


def test_one_chunk_again_and_again_is_no_row() -> None:
    first, *rest = chunks(bytes(range(40)), 9)
    assembler = Assembler(100)
    assert feed(assembler, [first] * 20) == []
    assert len(assembler) == 1
    assert feed(assembler, rest) == [bytes(range(40))]


def test_the_payload_is_one_buffer_and_writable_where_it_belongs_to_nobody_else() -> None:
    assembler = Assembler(100)
    whole = None
    for header, data in chunks(bytes(range(100)), 9):
        whole = assembler.add(header, data)
    assert whole is not None
    assert not whole.readonly
    assert whole.nbytes == 100
    ((header, data),) = chunks(b"alone", 9, round=1)
    alone = assembler.add(header, data)
    assert alone is not None
    assert alone == b"alone"
    assert alone.readonly


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"codec": "f8"}, id="codec"),
        pytest.param({"size": 2}, id="size"),
        pytest.param({"schema": b"other"}, id="schema"),
        pytest.param({"epoch": 2}, id="epoch"),
        pytest.param({"total": 41}, id="total"),
    ],
)
def test_chunks_that_do_not_fit_are_refused(change: dict[str, int | str | bytes]) -> None:
    first, second, *rest = chunks(bytes(range(40)), 9)
    assembler = Assembler(100)
    assembler.add(*first)
    with pytest.raises(RemoteProtocolError, match="row of peer 3 for round 0, slot 0") as caught:
        assembler.add(second[0]._replace(**change), second[1])
    assert caught.value.peer == 3
    assert feed(assembler, [second, *rest]) == [bytes(range(40))]


def test_a_row_that_is_too_large_is_refused_before_memory_is_taken() -> None:
    header, data = chunks(bytes(20), 9)[0]
    assembler = Assembler(max_bytes=1000)
    with pytest.raises(RemoteProtocolError, match="1001 bytes"):
        assembler.add(header._replace(total=1001), data)
    assert len(assembler) == 0


def test_only_so_many_rows_are_in_assembly() -> None:
    assembler = Assembler(100)
    for round in range(10):
        assembler.add(*chunks(bytes(20), 9, round=round)[0])
    assert len(assembler) == 4
    # The newest are those that stayed.
    assert feed(assembler, chunks(bytes(20), 9, round=9)[1:]) == [bytes(20)]


def test_a_new_incarnation_makes_the_old_void() -> None:
    assembler = Assembler(100)
    old, new = chunks(bytes(20), 9), chunks(bytes(range(20)), 9, incarnation=2)
    assert feed(assembler, chunks(bytes(20), 9, round=5)) == [bytes(20)]
    assembler.add(*old[0])
    assert feed(assembler, new[:1] + old[1:] + new[1:]) == [bytes(range(20))]
    assert feed(assembler, chunks(bytes(20), 9, round=5, incarnation=2)) == [bytes(20)]
    assert feed(assembler, chunks(bytes(20), 9, round=6)) == []


def test_memory_of_what_is_done_is_bounded() -> None:
    assembler = Assembler(100)
    for round in range(2 * MAX_DONE):
        assert feed(assembler, chunks(b"x", 9, round=round)) == [b"x"]
    assert feed(assembler, chunks(b"x", 9, round=2 * MAX_DONE - 1)) == []
    assert len(assembler._done) == MAX_DONE
