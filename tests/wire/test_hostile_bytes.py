"""Every decoder with hostile bytes: a value or RemoteProtocolError, in memory that the due size bounds."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable

import msgpack
import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.gossip.agreement.flood import Distances, read_message
from p2pser.gossip.agreement.stopping import decode_trailer
from p2pser.gossip.both_ends import decode as decode_head
from p2pser.wire import hello, messages, tree_sets
from p2pser.wire.codec import DENSE, Codec, Received, compressor, magnitude

SIZE = 300
FORMS = sorted({*COMPRESSORS} - {"dense"})


def encoded(form: Codec, scale: float) -> bytes:
    row = scale * torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    return bytes(form.encode(row))


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """Return a message with some bytes replaced, cut off or appended; or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=80))
    body = bytearray(good)
    for _ in range(draw(st.integers(0, 6))):
        most = min(len(body), 40) if draw(st.booleans()) else len(body)
        at = draw(st.integers(0, most - 1))
        body[at] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body + draw(st.binary(max_size=3)))


def bounded(do: Callable[[], object], most: int = 1 << 20) -> None:
    """Do it, RemoteProtocolError allowed, and assert that it took at most so many bytes at once."""
    tracemalloc.start()
    try:
        with contextlib.suppress(RemoteProtocolError):
            do()
        assert tracemalloc.get_traced_memory()[1] <= most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scale", [1.0, 3e37])
@pytest.mark.parametrize("name", ["dense", *FORMS])
def test_a_row_in_any_form_is_read_or_refused(name: str, scale: float) -> None:
    form = DENSE if name == "dense" else compressor(name)
    wire = form.wire_name(torch.empty(0))

    @given(spoiled(encoded(form, scale)), st.sampled_from([SIZE, SIZE - 1, 0, 1, 2**32 - 1, 2**53]))
    @settings(max_examples=60, deadline=None)
    def check(body: bytes, size: int) -> None:
        def decode() -> None:
            row = Received(1, body, wire, size).row(torch.float32, SIZE, form=form, largest=1e6)
            assert row.shape == (SIZE,)
            assert magnitude(row) <= 1e6

        bounded(decode)

    check()


@pytest.mark.parametrize("name", ["dense", *FORMS])
def test_a_header_that_asks_for_much_memory_gets_none(name: str) -> None:
    form = DENSE if name == "dense" else compressor(name)
    for body in (b"", bytes(17), b"\x08" * 40, encoded(form, 1.0)):
        bounded(lambda body=body: Received(1, body, form.wire_name(torch.empty(0)), 2**32 - 1).row(
            torch.float32, SIZE, form=form), most=1 << 16)


@given(spoiled(tree_sets.encode(torch.ones(20).bool().numpy(), torch.arange(3).numpy(),
                                torch.ones(3, 2, 22).numpy(), 3)))
@settings(max_examples=100, deadline=None)
def test_tree_sets_are_read_or_refused(body: bytes) -> None:
    bounded(lambda: tree_sets.decode(body, 20, 2, 3, 1))


@given(spoiled(msgpack.packb([True, [[1, b"value"], [2, b""]], [[0, 1], [2, 3]]])))
@settings(max_examples=200, deadline=None)
def test_messages_of_a_flood_are_read_or_refused(body: bytes) -> None:
    graph = nx.cycle_graph(5)
    bounded(lambda: read_message(Received(1, body), 9, Distances(graph), graph, 16))


@given(spoiled(msgpack.packb([7, 3, [[3, 0.5, b"\x1f"], [5, 1e-9, b"\x02"]], [[0, 1]]])))
@settings(max_examples=200, deadline=None)
def test_trailers_are_read_or_refused(body: bytes) -> None:
    bounded(lambda: decode_trailer(memoryview(body), nx.cycle_graph(5), 7, 1))


@given(st.binary(max_size=40), st.integers(0, 50))
def test_heads_of_both_ends_are_read_or_refused(body: bytes, t: int) -> None:
    bounded(lambda: decode_head(Received(1, body), t, 64))


@given(spoiled(messages.encode_body({"run": "r", "peer": 1, "settings": {"a": [1, 2.5, None]}, "labels": ["x"]})))
@settings(max_examples=200, deadline=None)
def test_hello_bodies_and_reasons_are_read_or_refused(body: bytes) -> None:
    bounded(lambda: hello.parse(messages.decode_body(body), 1))
    bounded(lambda: messages.decode_reason(body))


@pytest.mark.parametrize("body", [
    b"\x91" * 60_000, b"\x81\xa1a" * 20_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc7\xff\x01" + bytes(255), b"\xd7\xff" + b"\xff" * 8,
])
def test_nesting_lengths_and_extensions_without_end_are_refused(body: bytes) -> None:
    graph = nx.cycle_graph(5)
    for do in (lambda: messages.decode_body(body), lambda: messages.decode_reason(body),
               lambda: read_message(Received(1, body), 9, Distances(graph), graph),
               lambda: decode_trailer(memoryview(body), graph, 7, 1)):
        with pytest.raises(RemoteProtocolError):
            do()
        bounded(do, most=4 << 20)
