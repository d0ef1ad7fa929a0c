"""Reading the messages of an exchange: one of the wrong form counts as missing, and as a strike against its sender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgpack
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.codec import LARGEST, Received, magnitude, plausible
from p2pser.wire.messages import Buffer

T = TypeVar("T")

Edge: TypeAlias = tuple[int, int]
"""(hosted peer, its neighbour)."""

ROUNDING = 1e-9
"""The rounding, relative to a cumulative sum, of what is new in it."""


Read: TypeAlias = Callable[[Edge, Received], T]
"""Reads the message over an edge (dst, src), or raises RemoteProtocolError."""


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
