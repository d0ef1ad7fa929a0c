"""The bytes of a message on the wire: chunks with headers, ZMTP, CURVE, credits, and TCP."""

from __future__ import annotations

from functools import cache

import numpy as np

from p2pser.graph.sparse import Index
from p2pser.network.flow import MIN_CHUNK, WINDOW_CHUNKS
from p2pser.network.stream import FRAME_OVERHEAD
from p2pser.wire.messages import MAX_PAYLOAD, Header, Kind, Phase, Progress, encode

SEGMENT, SEGMENT_HEADERS = 1448, 66
"""Payload of a TCP segment on Ethernet, and its headers with those of IP and Ethernet [B]."""


@cache
def header_bytes(kind: Kind) -> int:
    """Return the bytes of a message without payload, as a peer counts them: with ZMTP and CURVE."""
    row = kind is Kind.ROW
    header = Header(kind, bytes(8), 3, 2**31, Progress(100, 0, Phase.EXCHANGE, 0), 100 if row else 0, 0,
                    codec="f4" if row else "", schema=bytes(8 * row), size=100_000 * row, total=0)
    return len(encode(header)) + FRAME_OVERHEAD + 5  # ``total`` and ``start`` are larger than here


def sent(payload: Index) -> Index:
    """Return the bytes of payloads (E,) with their headers, as a peer counts them in ``bytes_sent``."""
    chunks: Index = np.maximum(1, -(-payload // MAX_PAYLOAD))
    return payload + chunks * header_bytes(Kind.ROW)


def credited(payload: Index) -> Index:
    """Return the bytes of the receivers' credits for payloads (E,): one for about ``WINDOW_CHUNKS`` - 1 chunks."""
    each = (WINDOW_CHUNKS - 1) * MAX_PAYLOAD
    credits = np.where(payload >= MIN_CHUNK, np.maximum(1, payload // each), payload / MIN_CHUNK)
    whole: Index = (credits * header_bytes(Kind.CREDIT)).astype(np.int64)
    return whole


def on_the_line(message: Index) -> Index:
    """Return the bytes of messages (E,) on an Ethernet, with the headers of TCP and IP."""
    segments: Index = -(-message // SEGMENT)
    return message + segments * SEGMENT_HEADERS
