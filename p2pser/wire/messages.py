"""One message in one frame: ``u16 little-endian header length | msgpack header | payload``.

The header is a msgpack array of fixed length, so unknown fields are refused; it begins with the protocol's version.
Each received header is checked against one table of types and ranges before it is used, and every error in it raises
RemoteProtocolError, never another exception. Nothing is ever unpickled.

A payload larger than a chunk is sent in several messages, whose headers differ only in ``start`` (cut by
``assembly.Cut``, joined by ``assembly.Assembler``). A message has no checksum: CURVE authenticates each frame.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from operator import le
from typing import Any, NamedTuple, TypeAlias

import msgpack

from p2pser.base.errors import LocalProtocolError, ProtocolError, RemoteProtocolError, printable

MAJOR = 3
"""Major version of the protocol: peers with another one are refused."""
MINOR = 0
"""Minor version, for changes that all peers of the major version understand."""

MAX_HEADER = 1024
"""Largest packed header [B]."""
MAX_PAYLOAD = 524288
"""Largest payload of one message, which is one chunk [B]."""
MAX_FRAME = 2 + MAX_HEADER + MAX_PAYLOAD
"""Largest frame [B]; sockets refuse larger ones (MAXMSGSIZE)."""
MAX_BODY = 65536
"""Largest body of HELLO, WELCOME and REFUSED [B]."""
MAX_DEPTH = 6
"""Deepest nesting of maps and lists in a body, the outermost included."""
SETTLE_WINDOW = 8
"""Number of an edge's last exchanges in which a late row can still be settled; ``Header.unmixed`` lists at most so
many."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class Kind(IntEnum):
    """The kind of a message."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    ROW = 4
    CREDIT = 5
    PING = 6
    PONG = 7
    BYE = 8


class Phase(IntEnum):
    """A peer's phase in a run."""

    START = 0
    SETUP = 1
    TRAIN = 2
    EXCHANGE = 3
    CONSENSUS = 4
    END = 5


class Progress(NamedTuple):
    """A peer's progress. Every header carries it, so that neighbours can tell a slow peer from a stuck one."""

    round: int
    slot: int
    phase: int
    local_step: int


class Header(NamedTuple):
    """The header of a message; ``encode`` checks it."""

    kind: Kind
    run: bytes
    """8 bytes that identify the run (``hello.run_id``)."""
    sender: int
    incarnation: int
    """How often the sender was started before; a larger incarnation replaces a smaller one."""
    progress: Progress
    round: int = 0
    """ROW: the round of its step (below 0: set-up)."""
    slot: int = 0
    """ROW: the exchange in that round. PING, PONG, BYE: nonce. HELLO, WELCOME: restarts of the sender's stream.
    REFUSED: 1 where it only informs the receiver."""
    epoch: int = 0
    """REFUSED: the epoch of the sender's topology file. Others: 0; equal in all chunks of one row."""
    unmixed: tuple[tuple[int, int], ...] = ()
    """ROW: the steps, of the edge's last SETTLE_WINDOW exchanges, that the sender has not mixed."""
    codec: str = ""
    """ROW: wire name of the row's codec; empty for plain bytes."""
    schema: bytes = b""
    """ROW: first 8 bytes of the model schema's digest; empty where the row is not a whole row of the model."""
    size: int = 0
    """ROW: number of elements D of the row; 0 for plain bytes."""
    total: int = 0
    """ROW: bytes of the whole payload. CREDIT, PONG: total of bytes consumed. PING, HELLO, WELCOME: 1 where the sender
    goes on without the receiver."""
    start: int = 0
    """ROW: offset of this message's chunk in the whole payload."""


_Range: TypeAlias = tuple[type, int, int]
_ROUND: _Range = (int, -(2**31), 2**31 - 1)
_U32: _Range = (int, 0, 2**32 - 1)
_BYTES: _Range = (int, 0, 2**53)

# (field, type, least, most), in wire order; least and most bound an integer, or the length of other types.
_FIELDS: tuple[tuple[str, type, int, int], ...] = (
    ("kind", int, min(Kind), max(Kind)),
    ("run", bytes, 8, 8),
    ("sender", int, 0, 2**31 - 1),
    ("incarnation", *_U32),
    ("progress.round", *_ROUND),
    ("progress.slot", *_U32),
    ("progress.phase", int, min(Phase), max(Phase)),
    ("progress.local_step", *_U32),
    ("round", *_ROUND),
    ("slot", *_U32),
    ("epoch", *_U32),
    ("unmixed", list, 0, 2 * SETTLE_WINDOW),
    ("codec", str, 0, 16),
    ("schema", bytes, 0, 8),
    ("size", *_BYTES),
    ("total", *_BYTES),
    ("start", *_BYTES),
)
_KINDS = [kind for _, kind, _, _ in _FIELDS]
_LEAST = [least for _, _, least, _ in _FIELDS]
_MOST = [most for _, _, _, most in _FIELDS]
_KIND = {int(kind): kind for kind in Kind}
_LENGTH = struct.Struct("<H")


def encode(header: Header, payload: Buffer = b"") -> bytes:
    """Return the frame of a message.

    Raises LocalProtocolError where a field has a wrong type or is out of range, or the payload is too large.
    """
    return frame(pack_header(header, len(payload)), payload)


def frame(packed: bytes, payload: Buffer) -> bytes:
    """Return the frame of a packed header and a payload."""
    return b"".join((_LENGTH.pack(len(packed)), packed, payload))


def decode(frame: Buffer) -> tuple[Header, memoryview]:
    """Return the header and the payload of a frame; the payload is a view of the frame.

    Raises RemoteProtocolError for every frame that ``encode`` cannot produce.
    """
    view = memoryview(frame).cast("B") if len(frame) else memoryview(b"")
    if len(view) < _LENGTH.size or len(view) > MAX_FRAME:
        raise RemoteProtocolError(f"a frame of {len(view)} bytes is not a message (3 to {MAX_FRAME})")
    (length,) = _LENGTH.unpack_from(view)
    end = _LENGTH.size + length
    if length > MAX_HEADER or end > len(view) or len(view) - end > MAX_PAYLOAD:
        raise RemoteProtocolError(f"a frame of {len(view)} bytes cannot have a header of {length} bytes")
    header = _unpack(_unpackb(view[_LENGTH.size : end], "header"))
    payload = view[end:].toreadonly()
    _check_part(header, len(payload), RemoteProtocolError)
    return header, payload


def encode_body(mapping: Mapping[str, Any]) -> bytes:
    """Return the msgpack map of a HELLO, WELCOME or REFUSED body.

    Values are None, bool, int, float, str, bytes, lists (tuples become lists) and maps with str keys, nested at most
    MAX_DEPTH deep. Raises LocalProtocolError where the map holds another value or is larger than MAX_BODY.
    """
    _check_body(mapping, LocalProtocolError)
    try:
        packed: bytes = msgpack.packb(dict(mapping), use_bin_type=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise LocalProtocolError(f"a body cannot be packed: {error}") from None
    if len(packed) > MAX_BODY:
        raise LocalProtocolError(f"a body of {len(packed)} bytes is too large (at most {MAX_BODY})")
    return packed


def decode_body(payload: Buffer) -> dict[str, Any]:
    """Return the map of a body. Raises RemoteProtocolError for every body that ``encode_body`` cannot produce."""
    if len(payload) > MAX_BODY:
        raise RemoteProtocolError(f"a body of {len(payload)} bytes is too large (at most {MAX_BODY})")
    body: dict[str, Any] = _unpackb(payload, "body")
    _check_body(body, RemoteProtocolError)
    return body


def encode_reason(reason: str) -> bytes:
    """Return the body of REFUSED or BYE; the reason is cut to 1000 characters."""
    return encode_body({"reason": printable(reason)})


def decode_reason(payload: Buffer) -> str:
    """Return the reason in a body of REFUSED or BYE, safe to print. Raises RemoteProtocolError for any other body."""
    body = decode_body(payload)
    reason = body.get("reason")
    if set(body) != {"reason"} or not isinstance(reason, str):
        raise RemoteProtocolError("a REFUSED or BYE must hold a reason and nothing else")
    return printable(reason)


def pack_header(header: Header, length: int) -> bytes:
    """Return the packed header of a message with a payload of ``length`` bytes; its last byte is a ``start`` of 0.

    Raises LocalProtocolError where a field has a wrong type or is out of range, or the payload is too large.
    """
    _check_part(header, length, LocalProtocolError)
    kind, run, sender, incarnation, progress, round, slot, epoch, unmixed, *others = header
    values: list[Any] = [int(kind), run, sender, incarnation, *map(int, progress), round, slot, epoch,
                         [number for step in unmixed for number in step], *others]
    _check_fields(values, LocalProtocolError)
    try:
        packed: bytes = msgpack.packb([MAJOR, MINOR, *values], use_bin_type=True)
    except (ValueError, TypeError) as error:
        raise LocalProtocolError(f"a header cannot be packed: {error}") from None
    return packed


def _unpack(fields: Any) -> Header:
    if type(fields) is not list or [type(field) for field in fields[:2]] != [int, int]:
        raise RemoteProtocolError("a header is not a list that begins with the protocol's version")
    if fields[0] != MAJOR:
        raise RemoteProtocolError(
            f"the other peer uses protocol {fields[0]}.{fields[1]}, this peer {MAJOR}.{MINOR}; install the same "
            "version of p2pser at both"
        )
    values = fields[2:]
    _check_fields(values, RemoteProtocolError)
    flat = iter(values[11])
    return Header._make((_KIND[values[0]], *values[1:4], Progress._make(values[4:8]), *values[8:11],
                         tuple(zip(flat, flat)), *values[12:]))


def _check_fields(values: Sequence[Any], error: type[ProtocolError]) -> None:
    """Check the fields of a header, in wire order, against the table."""
    # Fast path for correct headers; for others the loop below finds the error.
    if [*map(type, values)] == _KINDS and not values[11]:
        measures = [value if type(value) is int else len(value) for value in values]
        if all(map(le, _LEAST, measures)) and all(map(le, measures, _MOST)):
            return
    if len(values) != len(_FIELDS):
        raise error(f"a header has {len(values)} fields, not {len(_FIELDS)}")
    for value, (name, kind, least, most) in zip(values, _FIELDS):
        actual = type(value)
        if actual is not kind:  # exact types: True is no integer here
            raise error(f"the header's field {name} is a {actual.__name__}, not a {kind.__name__}")
        measure: int = value if kind is int else len(value)
        if not least <= measure <= most:
            what = "is" if kind is int else "has a length"
            raise error(f"the header's field {name} {what} outside {least} to {most}")
    for at, number in enumerate(values[11]):
        _, least, most = _U32 if at % 2 else _ROUND
        if type(number) is not int or not least <= number <= most:
            raise error("the header's field unmixed holds a value that is not a step")
    if len(values[11]) % 2:
        raise error("the header's field unmixed holds half a step")


def _check_part(header: Header, length: int, error: type[ProtocolError]) -> None:
    """Check the payload's length against the header, which the table cannot."""
    if length > MAX_PAYLOAD:
        raise error(f"a payload of {length} bytes is too large for one message (at most {MAX_PAYLOAD})")
    if header.kind == Kind.ROW and (header.start + length > header.total or (length == 0 and header.total > 0)):
        raise error(f"{length} bytes from byte {header.start} on do not fit a row of {header.total} bytes")


def _unpackb(data: Buffer, what: str) -> Any:
    try:
        return msgpack.unpackb(
            data, raw=False, strict_map_key=False, use_list=True, object_pairs_hook=_mapping, max_ext_len=0,
            ext_hook=_no_extension,
        )  # fmt: skip
    except RemoteProtocolError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        raise RemoteProtocolError(f"a {what} of {len(data)} bytes is not valid msgpack") from None


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    mapping = {key: value for key, value in pairs if type(key) is str}
    if len(mapping) != len(pairs):
        raise RemoteProtocolError("a map has a key that is not text, or the same key twice")
    return mapping


def _no_extension(code: int, data: bytes) -> Any:
    raise RemoteProtocolError(f"msgpack extension {code} is not allowed in a message")


_SCALARS = (type(None), bool, int, float, str, bytes)


def _check_body(value: Any, error: type[ProtocolError], depth: int = 1) -> None:
    if depth == 1 and not isinstance(value, Mapping):
        raise error(f"a body must be a map, not a {type(value).__name__}")
    if depth > MAX_DEPTH:
        raise error(f"a body has more than {MAX_DEPTH} levels")
    items: Sequence[Any] = ()
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise error("a body has a key that is not text")
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        if isinstance(item, (Mapping, list, tuple)) and not isinstance(item, msgpack.ExtType):
            _check_body(item, error, depth + 1)
        elif type(item) not in _SCALARS:
            raise error(f"a body may not hold a {type(item).__name__}")
