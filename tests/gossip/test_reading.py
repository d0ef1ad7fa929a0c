"""What a message is read as, and what of it is refused before anything is computed with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from p2pser.base.errors import RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.gossip.reading import plausible_mass, unpacked
from p2pser.wire.codec import DENSE, Form, Received, codec, finite

ROW = torch.tensor([1.0, -2.0, 4.0])
F4, F8 = bytes(DENSE.encode(ROW)), bytes(DENSE.encode(ROW.double()))


def test_what_is_due_is_read() -> None:
    assert torch.equal(Received(5, F4, "f4", 3).row(torch.float32, 2, 3), ROW)
    assert torch.equal(Received(5, ROW).row(torch.float32, 3, largest=4.0), ROW)
    assert Received(5, b"abc").octets(3) == b"abc"


@pytest.mark.parametrize(("own", "numbers", "fits"), [
    (0.5, [9e5, -9e5], True), (0.5, [1.1e6, 0.0], False), (2.0, [1.1e6, 0.0], True), (1e20, [1e25, 0.0], True),
    (1e20, [1e27, 0.0], False), (0.5, [math.nan, 0.0], False), (1e20, [0.0, -math.inf], False)])
def test_a_row_is_read_up_to_what_is_plausible_beside_our_own(own: float, numbers: list[float], fits: bool) -> None:
    message, beside = Received(5, torch.tensor(numbers)), torch.tensor([0.0, -own])
    if fits:
        assert message.row(torch.float32, 2, beside=beside).tolist() == pytest.approx(numbers)
    else:
        with pytest.raises(RemoteProtocolError, match=r"plausible here|not finite"):
            message.row(torch.float32, 2, beside=beside)


def test_numbers_whose_squares_are_infinite_are_finite() -> None:
    assert [finite(torch.tensor(row)) for row in ([], [1e30, 1.0], [math.nan, 1.0], [1.0, -math.inf])] == [
        True, True, False, False]


@pytest.mark.parametrize(("message", "says"), [
    (Received(5, F4, "f4", 4), "4 numbers where 2 or 3 are due"), (Received(5, F4, "f4", 2), "cannot be read"),
    (Received(5, F8, "f8", 3), "in the form 'f8' where 'f4' is due"), (Received(5, F4), "bytes where a row is due"),
    (Received(5, bytes(7), "top-k", 3), "in the form 'top-k'"), (Received(5, ROW.double()), "float64 where"),
    (Received(5, torch.zeros(4)), "4 numbers"), (Received(5, torch.tensor([0.0, 11.0])), "largest number is 11"),
    (Received(5, torch.tensor([math.nan, 0.0])), "not finite"), (Received(5, torch.tensor([0.0, math.inf])), "finite"),
])
def test_another_row_than_is_due_is_refused_by_its_senders_name(message: Received, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        message.row(torch.float32, 2, 3, largest=10.0)
    assert caught.value.peer == 5


@pytest.mark.parametrize("message", [Received(5, b"abcd"), Received(5, ROW), Received(5, b"ab", "f4", 1)])
def test_other_bytes_than_are_due_are_refused(message: Received) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        message.octets(3)
    assert caught.value.peer == 5


@pytest.mark.parametrize("error", [IndexError, MemoryError, RuntimeError, TypeError, ValueError, ZeroDivisionError])
def test_whatever_a_codec_of_a_package_raises_is_its_senders_mistake(error: type[Exception],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Broken(Form):
        name = "8-bit"

        def contraction(self, size: int) -> float:
            return 1.0

        def encode(self, row: torch.Tensor) -> bytes:
            return b"x"

        def decode(self, buffer: bytes | bytearray | memoryview, size: int) -> torch.Tensor:
            raise error("a mistake")

    assert "8-bit" in COMPRESSORS
    monkeypatch.setattr("p2pser.wire.codec.codec", lambda name: Broken())
    with pytest.raises(RemoteProtocolError, match=error.__name__):
        Received(5, b"x", "8-bit", 3).row(torch.float32, 3, form=codec("8-bit"))


def mass(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_new_mass_is_what_came_since_and_weighs_no_less_than_nothing() -> None:
    assert plausible_mass(mass(3.0, 4.0, 0.5), mass(1.0, 1.0, 0.25), 2.0, 5).tolist() == [2.0, 3.0, 0.25]
    assert plausible_mass(mass(3.0, 4.0, 0.5), None, 2.0, 5).tolist() == [3.0, 4.0, 0.5]


@pytest.mark.parametrize("total", [mass(0.0, 0.0, -0.5), mass(0.0, 0.0, 2e6), mass(0.0, 3e6, 0.5), mass(1.0, 0.0, 0.0),
                                   mass(0.0, 0.0, math.nan), mass(math.nan, 0.0, 0.5)])
def test_mass_that_is_not_plausible_is_refused(total: torch.Tensor) -> None:
    with pytest.raises(RemoteProtocolError, match="not plausible"):
        plausible_mass(total, None, 2.0, 5)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\xd4\x2a\x00"])
def test_a_document_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="peer 5 sent a letter"):
        unpacked(body, "a letter", 5)
