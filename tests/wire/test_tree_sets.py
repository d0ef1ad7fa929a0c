"""Tree sets in bytes: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.tree_sets import decode, encode

CLASSES, DEPTH = 3, 2
NUMBERS = 3 * 2**DEPTH - 2


def sets(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(count, CLASSES, NUMBERS)).astype(np.float32)
    found[..., : 2**DEPTH - 1] = draw.integers(0, 1 << 16, found[..., : 2**DEPTH - 1].shape)
    return found


def message(held: list[int], places: list[int], size: int = 20) -> bytes:
    mask = np.zeros(size, dtype=bool)
    mask[held] = True
    return encode(mask, np.array(places, dtype=np.int64), sets(len(places)), DEPTH)


@given(st.data(), st.integers(1, 40), st.integers(1, 4), st.integers(0, 99))
def test_round_trip(data: st.DataObject, size: int, depth: int, seed: int) -> None:
    held = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    places = np.array(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=np.int64)
    draw = np.random.default_rng(seed)
    inner = 2**depth - 1
    values = draw.normal(size=(len(places), CLASSES, 3 * inner + 1)).astype(np.float32)
    values[..., :inner] = draw.integers(0, 1 << 16, values[..., :inner].shape)
    told = decode(encode(held, places, values, depth), size, CLASSES, depth, 7)
    assert np.array_equal(told[0], held)
    assert np.array_equal(told[1], places)
    assert np.array_equal(told[2], values)
    assert told[2].dtype == np.float32


def test_a_message_is_no_longer_than_its_trees() -> None:
    tree = CLASSES * (6 * (2**DEPTH - 1) + 4 * 2**DEPTH)
    assert len(message([], [])) == 12
    assert len(message(list(range(20)), [])) == 12  # all that is held up to a place is one number
    assert len(message([0, 1, 9], [3, 4])) == 12 + 1 + 2 * (4 + tree)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_fit(noise: bytes) -> None:
    try:
        held, places, values = decode(noise, 20, CLASSES, DEPTH, 7)
    except RemoteProtocolError:
        return
    assert held.shape == (20,)
    assert values.shape == (len(places), CLASSES, NUMBERS)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_stays_within_bounds(place: int, value: int) -> None:
    changed = bytearray(message([0, 1, 5], [0, 5]))
    changed[place % len(changed)] = value
    try:
        held, places, values = decode(bytes(changed), 20, CLASSES, DEPTH, 7)
    except RemoteProtocolError:
        return
    assert len(held) == 20
    assert (places < 20).all()
    assert np.isfinite(values).all()


@pytest.mark.parametrize(("wrong", "says"), [
    (message([0], [0])[:-1], "1 tree sets and 0 bytes of places in 117 bytes"),
    (message([0], [0]) + b"\0", "bytes, for 20 places"),
    (struct.pack("<III", 21, 0, 0), "named places that an ensemble of 20"),
    (struct.pack("<II", 20, 1) + b"\1" + struct.pack("<I", 0), "1 bytes of places in 13 bytes"),
    (struct.pack("<II", 0, 1 << 31), "which are too few"),
    (struct.pack("<III", 0, 0, 1 << 30), "sent 1073741824 tree sets"),
    (b"", "which are too few"),
    (message([0], [4, 4]), "named places"),
    (message([0], [5, 4]), "named places"),
    (message([0], [20]), "named places"),
])
def test_what_is_refused(wrong: bytes, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        decode(wrong, 20, CLASSES, DEPTH, 7)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    spoilt = sets(1)
    spoilt[0, 1, -1] = number
    with pytest.raises(RemoteProtocolError, match="not finite"):
        decode(encode(np.zeros(20, dtype=bool), np.array([3]), spoilt, DEPTH), 20, CLASSES, DEPTH, 7)


def test_leaves_that_would_drown_all_others_are_refused() -> None:
    spoilt = sets(1)
    spoilt[0, 1, -1] = -1e5
    with pytest.raises(RemoteProtocolError, match="leaves beyond 10000"):
        decode(encode(np.zeros(20, dtype=bool), np.array([3]), spoilt, DEPTH), 20, CLASSES, DEPTH, 7)
