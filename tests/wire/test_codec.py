"""The dense form of a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.wire.codec import DENSE, Codec, codec

DTYPES = {"f4": torch.float32, "f8": torch.float64}


def bits(row: torch.Tensor) -> bytes:
    return row.numpy().tobytes()


@given(st.sampled_from(["f4", "f8"]), st.integers(0, 40), st.data())
def test_rows_come_back_bit_for_bit(name: str, size: int, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=size * int(name[1]), max_size=size * int(name[1])))
    row = torch.from_numpy(np.frombuffer(raw, dtype=f"={name}").copy())
    assert DENSE.wire_name(row) == name
    encoded = bytes(DENSE.encode(row))
    assert np.frombuffer(encoded, dtype=f"<{name}").tobytes() == bits(row)
    for one in (DENSE, codec(name)):
        back = one.decode(encoded, size)
        assert bits(back) == bits(row)
        assert back.dtype == row.dtype or size == 0


def test_encoding_copies_nothing_and_decoding_only_what_belongs_to_others() -> None:
    row = torch.arange(8.0)
    view = DENSE.encode(row)
    row[0] = 7.0
    assert bytes(view[:4]) == np.float32(7).tobytes()
    buffer = bytearray(view)
    back, given = DENSE.decode(memoryview(buffer).toreadonly(), 8), DENSE.decode(buffer, 8)
    buffer[:4] = bytes(4)
    assert back[0] == 7.0
    assert given[0] == 0.0
    own = DENSE.decode(DENSE.encode(row), 8)
    row[0] = 0.0
    assert own[0] == 7.0
    back.add_(1)


def test_rows_of_a_matrix_and_those_with_gradients_are_sent() -> None:
    matrix = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    assert torch.equal(DENSE.decode(DENSE.encode(matrix[1]), 4), matrix[1])
    assert torch.equal(DENSE.decode(DENSE.encode(matrix[:, 2]), 3), matrix[:, 2])
    parameter = torch.nn.Parameter(torch.ones(3))
    assert torch.equal(DENSE.decode(DENSE.encode(parameter), 3), torch.ones(3))


def test_a_fixed_form_converts() -> None:
    fixed = codec("f4")
    row = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert fixed.wire_name(row) == "f4"
    assert torch.equal(fixed.decode(fixed.encode(row), 2), row.float())


def test_not_finite_numbers_pass() -> None:
    row = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    assert bits(DENSE.decode(DENSE.encode(row), 4)) == bits(row)


@pytest.mark.parametrize("size", [-1, 0, 1, 3, 5])
@pytest.mark.parametrize("one", [DENSE, codec("f4"), codec("f8")], ids=["dense", "f4", "f8"])
def test_another_size_is_refused(one: Codec, size: int) -> None:
    data = bytes(17)
    with pytest.raises(RemoteProtocolError, match=f"of {size} numbers"):
        one.decode(data, size)


def test_a_fixed_form_refuses_the_bytes_of_the_other() -> None:
    with pytest.raises(RemoteProtocolError, match="16 bytes"):
        codec("f4").decode(bytes(16), 2)
    with pytest.raises(RemoteProtocolError, match="8 bytes"):
        codec("f8").decode(bytes(8), 2)


def test_rows_that_have_no_dense_form_are_our_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="float16"):
        DENSE.encode(torch.ones(2, dtype=torch.float16))
    with pytest.raises(LocalProtocolError, match=r"\(2, 2\)"):
        DENSE.encode(torch.ones(2, 2))


def test_an_unknown_name_is_the_neighbours_mistake() -> None:
    with pytest.raises(RemoteProtocolError, match=r"'q8'.*f4, f8"):
        codec("q8")
