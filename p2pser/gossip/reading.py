"""Reading what a neighbour sent: checked against what is due, before any arithmetic and any allocation.

The receiver knows the form that is due, for it posts the same form itself. A message of another form raises
RemoteProtocolError; the mixer, which reads, counts a strike against its sender and treats the message as missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgpack
import torch
from torch import Tensor

from p2pser.base.errors import P2PSERError, RemoteProtocolError
from p2pser.wire.codec import DENSE, Codec, codec
from p2pser.wire.messages import Buffer

T = TypeVar("T")

Edge: TypeAlias = tuple[int, int]
"""(hosted peer, its neighbour)."""

LARGEST = 1e6
"""A number of a row may be so many times larger than the largest of our own row (or than 1): honest peers train the
same model, and sums and squares of such numbers stay finite."""

ROUNDING = 1e-9
"""The rounding, relative to a cumulative sum, of what is new in it."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came, unread.

    sender : the neighbour. body : bytes, or a row of a peer in this process. form : the wire name of an encoded row's
    codec; empty for bytes that are no row. size : the numbers that an encoded row is said to have.
    """

    sender: int
    body: Tensor | Buffer
    form: str = ""
    size: int = 0

    def row(self, dtype: torch.dtype, *sizes: int, form: Codec = DENSE, largest: float = math.inf,
            beside: Tensor | None = None) -> Tensor:
        """Return the row (D,).

        Parameters
        ----------
        dtype : that is due.
        sizes : the values of D that are due.
        form : the codec that is due.
        largest : the largest magnitude that a number may have; every number must be finite.
        beside : our own row (D,): every number must be plausible beside it.

        Raises RemoteProtocolError where the message is no such row. Nothing is decoded before its size is known to fit.
        """
        size = self.body.numel() if isinstance(self.body, Tensor) else self.size
        if not isinstance(self.body, Tensor) and not self.form:
            raise self.refused("bytes where a row is due")
        if size not in sizes:
            due = " or ".join(map(str, sizes))
            raise self.refused(f"a row of {size} numbers where {due} are due; the peers run different models or "
                               "algorithms")
        if isinstance(self.body, Tensor):
            value = self.body
        else:
            due = form.wire_name(torch.empty(0, dtype=dtype))
            if self.form != due:
                raise self.refused(f"a row in the form {self.form!r} where {due!r} is due")
            value = self._decoded(self.body, size)
        if form is DENSE and value.dtype != dtype:
            raise self.refused(f"a row of {value.dtype} where {dtype} is due")
        if largest >= LARGEST and _surely_plausible(value):
            return value
        peak = magnitude(value)
        largest = largest if beside is None else min(largest, plausible(magnitude(beside)))
        if not peak <= largest or peak == math.inf:
            raise self.refused(f"a row whose largest number is {peak:g}, beyond what is plausible here"
                               if math.isfinite(peak) else "a row with numbers that are not finite")
        return value

    def octets(self, most: int) -> Buffer:
        """Return the bytes, at most ``most``; RemoteProtocolError for a row, or for more."""
        if isinstance(self.body, Tensor) or self.form:
            raise self.refused("a row where bytes are due")
        if len(self.body) > most:
            raise self.refused(f"{len(self.body)} bytes where at most {most} are due")
        return self.body

    def refused(self, what: str) -> RemoteProtocolError:
        """Return the error for a message that is ``what``."""
        return RemoteProtocolError(f"peer {self.sender} sent {what}", self.sender)

    def _decoded(self, body: Buffer, size: int) -> Tensor:
        try:
            value = codec(self.form).decode(body, size)
        except P2PSERError as error:
            raise self.refused(f"a row that cannot be read: {error}") from None
        except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            # A codec of an installed package may raise anything.
            raise self.refused(f"a row that its codec cannot read ({type(error).__name__})") from None
        if value.shape != (size,):
            raise self.refused(f"a row that its codec reads as {tuple(value.shape)} numbers instead of {size}")
        return value


Read: TypeAlias = Callable[[Edge, Received], T]
"""Reads the message over an edge (dst, src), or raises RemoteProtocolError."""


def magnitude(row: Tensor) -> float:
    """Return the largest absolute value of a row; NaN where it holds one."""
    if not row.numel():
        return 0.0
    least, most = torch.aminmax(row)  # ten times as fast as the maximum norm; both are NaN where one number is
    return max(-float(least), float(most))


def finite(row: Tensor) -> bool:
    """Whether all numbers of a row (D,) are finite."""
    return math.isfinite(float(torch.dot(row, row))) or math.isfinite(magnitude(row))


def _surely_plausible(row: Tensor) -> bool:
    """Whether a row (D,) is finite and plausible beside any, as its norm shows, which costs a quarter of ``magnitude``.
    """
    return float(torch.dot(row, row)) <= (LARGEST / 2) ** 2


def plausible(own: float) -> float:
    """Return the largest magnitude that a neighbour's row may have beside our own row of magnitude ``own``."""
    return LARGEST * max(1.0, own)


def plausible_mass(total: Tensor, before: Tensor | None, own: float, sender: int, heaviest: float = 1.0) -> Tensor:
    """Return what is new in a cumulative sum [z, w] (D + 1,) of mass.

    total, before : the sum that came, and the one before. own : the magnitude of our model. heaviest : the weight that
    a peer begins with. Raises RemoteProtocolError where the new weight is negative, or the new mass is no plausible
    model of that weight.
    """
    new = total if before is None else total - before
    slack, weight = ROUNDING * magnitude(total), float(new[-1])
    most = plausible(own) * max(0.0, weight) + slack
    if not (-slack <= weight <= LARGEST * heaviest and magnitude(new[:-1]) <= most):
        raise RemoteProtocolError(f"peer {sender} sent a sum whose new part weighs {weight:g} and is not plausible "
                                  "here", sender)
    return new


def read_all(messages: Mapping[Edge, Received], read: Read[T], strike: Callable[[Edge, str], None],
             ) -> tuple[dict[Edge, T], tuple[Edge, ...]]:
    """Return what ``read`` returns for each message, and the edges whose message it refused; each costs a strike."""
    values: dict[Edge, T] = {}
    refused: list[Edge] = []
    for edge, message in messages.items():
        try:
            values[edge] = read(edge, message)
        except RemoteProtocolError as error:
            strike(edge, str(error))
            refused.append(edge)
    return values, tuple(refused)


def unpacked(buffer: Buffer, what: str, sender: int) -> Any:
    """Return the document in msgpack bytes of a neighbour, lists as tuples; RemoteProtocolError where it is none."""
    try:
        return msgpack.unpackb(buffer, use_list=False, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"peer {sender} sent {what} that cannot be read ({type(error).__name__})",
                                  sender) from None
