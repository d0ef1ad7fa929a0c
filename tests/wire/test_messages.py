"""Frames: what goes in comes out, and anything else is refused with one kind of error."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.wire import messages
from p2pser.wire.messages import SETTLE_WINDOW, Header, Kind, Phase, Progress

ROW = Header(
    kind=Kind.ROW, run=b"run-0001", sender=3, incarnation=2, progress=Progress(12, 0, Phase.EXCHANGE, 5), round=12,
    codec="f4", schema=b"schema-8", size=100_000,
)  # fmt: skip

u32 = st.integers(0, 2**32 - 1)
rounds = st.integers(-(2**31), 2**31 - 1)
count = st.integers(0, 2**53)
payloads = st.binary(max_size=300)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    kind = draw(st.sampled_from(Kind))
    return Header(
        kind=kind,
        run=draw(st.binary(min_size=8, max_size=8)),
        sender=draw(st.integers(0, 2**31 - 1)),
        incarnation=draw(u32),
        progress=Progress(draw(rounds), draw(u32), draw(st.integers(0, 5)), draw(u32)),
        round=draw(rounds),
        slot=draw(u32),
        epoch=draw(u32),
        unmixed=tuple(draw(st.lists(st.tuples(rounds, u32), max_size=8))),
        codec=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=16)),
        schema=draw(st.binary(max_size=8)),
        size=draw(count),
        total=draw(count.filter(lambda total: total >= 300)),
    )


def frame_of(packed: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<H", len(packed)) + packed + payload


def fields_of(frame: bytes) -> list[object]:
    (length,) = struct.unpack_from("<H", frame)
    fields: list[object] = msgpack.unpackb(frame[2 : 2 + length])
    return fields


@given(headers(), payloads)
def test_what_is_encoded_is_decoded(header: Header, payload: bytes) -> None:
    header = header._replace(start=header.total - len(payload)) if payload else header._replace(total=0)
    got, data = messages.decode(messages.encode(header, payload))
    assert got == header
    assert type(got.kind) is Kind
    assert type(got.progress) is Progress
    assert data == payload
    assert data.readonly


def check_any_frame(frame: bytes) -> None:
    try:
        header, payload = messages.decode(frame)
    except RemoteProtocolError:
        return
    assert messages.decode(messages.encode(header, payload)) == (header, payload)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(frame: bytes) -> None:
    check_any_frame(frame)


@given(st.binary(max_size=200), payloads)
def test_any_header_bytes_are_a_message_or_refused(packed: bytes, payload: bytes) -> None:
    check_any_frame(frame_of(packed, payload))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(headers(), st.integers(0, 18), values)
def test_any_value_in_any_field_is_a_message_or_refused(header: Header, at: int, value: object) -> None:
    fields = fields_of(messages.encode(header._replace(kind=Kind.PING)))
    fields[at] = value
    check_any_frame(frame_of(msgpack.packb(fields)))


@given(headers(), payloads, st.data())
def test_flipped_bits_and_cuts_are_a_message_or_refused(header: Header, payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(messages.encode(header._replace(kind=Kind.CREDIT), payload))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=4)):
        frame[bit // 8] ^= 1 << bit % 8
    check_any_frame(bytes(frame))
    check_any_frame(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@given(payloads.filter(bool), st.data())
def test_a_cut_row_is_refused_or_a_part_of_one(payload: bytes, data: st.DataObject) -> None:
    frame = messages.encode(ROW._replace(total=len(payload)), payload)
    cut = data.draw(st.integers(0, len(frame) - 1))
    if cut <= len(frame) - len(payload):
        with pytest.raises(RemoteProtocolError):
            messages.decode(frame[:cut])
        return
    header, part = messages.decode(frame[:cut])
    assert header.start + len(part) < header.total


def test_a_typical_row_header_is_small() -> None:
    assert len(messages.encode(ROW._replace(total=400_000), bytes(400_000))) - 400_000 <= 56


def test_the_largest_header_fits() -> None:
    u = 2**32 - 1
    big = Header(
        kind=Kind.ROW, run=b"\xff" * 8, sender=2**31 - 1, incarnation=u, progress=Progress(-(2**31), u, 5, u),
        round=-(2**31), slot=u, epoch=u, unmixed=((-(2**31), u),) * 8, codec="\U0001f600" * 16, schema=b"\xff" * 8,
        size=2**53, total=2**53, start=2**52,
    )  # fmt: skip
    frame = messages.encode(big, bytes(messages.MAX_PAYLOAD))
    assert len(frame) <= messages.MAX_FRAME
    assert messages.decode(frame)[0] == big


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"run": b"short"}, "run"),
        ({"sender": -1}, "sender"),
        ({"sender": True}, "sender"),
        ({"sender": "3"}, "sender"),
        ({"incarnation": 2**32}, "incarnation"),
        ({"round": 2**31}, "round"),
        ({"progress": Progress(0, 0, 6, 0)}, "phase"),
        ({"codec": "seventeen letters"}, "codec"),
        ({"codec": b"f4"}, "codec"),
        ({"schema": b"nine byte"}, "schema"),
        ({"unmixed": ((0, 0),) * 9}, "unmixed"),
        ({"unmixed": ((0, -1),)}, "unmixed"),
        ({"size": -1}, "size"),
        ({"start": 1}, "from byte 1 on"),
        ({"total": 7}, "row of 7 bytes"),
    ],
)
def test_our_own_mistakes_are_ours(change: dict[str, object], name: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        messages.encode(ROW._replace(**change))


def test_another_major_version_is_refused_with_both_numbers() -> None:
    fields = fields_of(messages.encode(ROW))
    fields[0] = 1
    with pytest.raises(RemoteProtocolError, match=r"protocol 1\.0, this peer 3\.0"):
        messages.decode(frame_of(msgpack.packb(fields)))
    # Whatever a later version adds: its number is understood.
    with pytest.raises(RemoteProtocolError, match=r"protocol 4\.1"):
        messages.decode(frame_of(msgpack.packb([4, 1, {"all": "new"}])))


def test_a_later_minor_version_is_understood() -> None:
    fields = fields_of(messages.encode(ROW))
    fields[1] = 7
    assert messages.decode(frame_of(msgpack.packb(fields)))[0].sender == 3


def test_an_unknown_field_is_refused() -> None:
    fields = fields_of(messages.encode(ROW))
    with pytest.raises(RemoteProtocolError, match="18 fields, not 17"):
        messages.decode(frame_of(msgpack.packb([*fields, 0])))


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"\x91" * 1024, id="nested lists"),
        pytest.param(b"\x81\xa1a" * 300 + b"\xc0", id="nested maps"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="list of 4 G items announced"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map of 4 G items announced"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="4 GiB of bytes announced"),
        pytest.param(b"\xd4\x2a\x00", id="extension"),
        pytest.param(b"\xd6\xff\x00\x00\x00\x00", id="timestamp"),
        pytest.param(b"\xc1", id="reserved byte"),
        pytest.param(b"\x93\x01\x00\xa1\xff", id="no UTF-8"),
        pytest.param(b"\x81\x90\x01", id="a list as key"),
        pytest.param(b"", id="empty"),
    ],
)
def test_hostile_msgpack_is_refused(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        messages.decode(frame_of(packed))
    with pytest.raises(RemoteProtocolError):
        messages.decode_body(packed)


def test_oversized_frames_are_refused_unread() -> None:
    frame = messages.encode(ROW._replace(total=524288), bytes(524288))
    with pytest.raises(RemoteProtocolError):
        messages.decode(frame + b"x")
    with pytest.raises(RemoteProtocolError, match="not a message"):
        messages.decode(bytes(messages.MAX_FRAME + 1))
    with pytest.raises(RemoteProtocolError, match="cannot have a header of 1025"):
        messages.decode(frame_of(bytes(1025)))
    with pytest.raises(LocalProtocolError, match="524289"):
        messages.encode(ROW, bytes(524289))


def plain(value: object) -> object:
    """NaN is not equal to itself: compare texts."""
    return repr(value)


bodies = st.dictionaries(
    st.text(max_size=10),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
        | st.binary(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=10,
    ),
    max_size=6,
)  # fmt: skip


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(bodies)
def test_bodies_come_back_or_are_too_deep(body: dict[str, object]) -> None:
    if depth(body) <= messages.MAX_DEPTH:
        assert plain(messages.decode_body(messages.encode_body(body))) == plain(body)
    else:
        with pytest.raises(LocalProtocolError, match="levels"):
            messages.encode_body(body)
        with pytest.raises(RemoteProtocolError, match="levels"):
            messages.decode_body(msgpack.packb(body))


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_a_body_of_six_levels_is_read_and_one_of_seven_is_not(wrap: Callable[[object], object]) -> None:
    body: object = 1
    for _ in range(5):
        body = wrap(body)
    assert messages.decode_body(messages.encode_body({"a": body})) == {"a": body}
    with pytest.raises(RemoteProtocolError, match="more than 6 levels"):
        messages.decode_body(msgpack.packb({"a": wrap(body)}))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_refused(data: bytes) -> None:
    try:
        body = messages.decode_body(data)
    except RemoteProtocolError:
        return
    assert plain(messages.decode_body(messages.encode_body(body))) == plain(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({1: 2}, id="number as key"),
        pytest.param({"a": {b"b": 1}}, id="bytes as key, inside"),
        pytest.param({"a": msgpack.ExtType(1, b"x")}, id="extension"),
        pytest.param([1, 2], id="list"),
        pytest.param({"a": "x" * messages.MAX_BODY}, id="too large"),
    ],
)
def test_other_bodies_are_refused_at_both_ends(body: object) -> None:
    with pytest.raises(RemoteProtocolError):
        messages.decode_body(msgpack.packb(body))
    with pytest.raises(LocalProtocolError):
        messages.encode_body(body)  # type: ignore[arg-type]


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="twice"):
        messages.decode_body(b"\x82\xa1a\x01\xa1a\x02")


def test_an_object_is_no_body() -> None:
    with pytest.raises(LocalProtocolError, match="may not hold a object"):
        messages.encode_body({"a": object()})
    with pytest.raises(LocalProtocolError, match="packed"):
        messages.encode_body({"a": 2**70})


def test_reasons_are_safe_to_print() -> None:
    body = messages.encode_body({"reason": "labels differ\x1b[2J\nnext" + "x" * 5000})
    reason = messages.decode_reason(body)
    assert reason.startswith("labels differ [2J next")
    assert len(reason) == 1000
    assert reason.isprintable()
    assert messages.decode_reason(messages.encode_reason("keys differ")) == "keys differ"


@pytest.mark.parametrize("body", [{}, {"reason": 1}, {"reason": "a", "more": 1}])
def test_other_refusals_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match="reason"):
        messages.decode_reason(messages.encode_body(body))


def test_the_settle_window_is_part_of_the_wire_format() -> None:
    assert SETTLE_WINDOW == 8
