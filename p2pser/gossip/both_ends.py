"""Edges over which both ends apply an exchange's flow, or neither: for messages that the mixer does not settle late.

Where each end applies flows that are opposite to the other's, the sum of the rows is kept. A message that comes one
way only would break that. So each end tells in its next message which flow it applied last, and takes back its own
last one where the other end did not apply it. No flow is left one-sided but in a run's last exchange.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.codec import Codec

START = -1
"""The exchange before the first: what both ends know without a message."""
LOST = -2
"""What the other end has is no longer known here, or it no longer fits."""

_LAYOUT = struct.Struct("<4i")
_WHOLE, _MARKED = 1, 2


@dataclass
class Marks:
    """What one end of an edge knows, as exchange indices t = round * slots + slot.

    have: up to which exchange it knows what the other end keeps (an estimate, a vector). pending: the last exchange
    whose flow it applied. confirmed: the last one applied at both ends.
    """

    have: int = START
    pending: int = START
    confirmed: int = START

    @classmethod
    def of(cls, kept: Tensor) -> Marks:
        """Return the marks of ``tensor``."""
        return cls(*kept.tolist())

    def tensor(self) -> Tensor:
        """Return the marks (3,) int64, as edge state."""
        return torch.tensor([self.have, self.pending, self.confirmed])

    def lost(self) -> Tensor:
        """Return the marks as edge state after a gap: what is pending is still to be settled."""
        return Marks(LOST, self.pending, self.confirmed).tensor()

    def settle(self, theirs: Marks) -> bool:
        """Learn from a message whether the other end applied the pending flow; True: it did not, take it back."""
        if self.pending == self.confirmed or self.pending in (theirs.pending, theirs.confirmed):
            self.confirmed = self.pending
            return False
        self.pending = self.confirmed
        return True


@dataclass(frozen=True)
class Head:
    """What stands before a message's payload.

    marks: the sender's, before this exchange. base: the sender's exchange before this one. whole: the payload is all
    that the sender keeps, not what changed since ``base``.
    """

    marks: Marks
    base: int
    whole: bool = False

    def encode(self, t: int) -> bytes:
        """Return the bytes at exchange ``t``: one where the exchanges before went well, else 17."""
        flags = _WHOLE if self.whole else 0
        if (self.marks, self.base) == _usual(t):
            return bytes([flags])
        return bytes([flags | _MARKED]) + _LAYOUT.pack(
            self.base, self.marks.have, self.marks.pending, self.marks.confirmed)


def decode(message: Tensor | bytes, t: int, peer: int) -> tuple[Head, memoryview]:
    """Return (head, payload) of a message of ``peer`` at exchange ``t``; RemoteProtocolError where there is none."""
    view = memoryview(b"" if isinstance(message, Tensor) else message)
    if not view.nbytes or view[0] > _WHOLE | _MARKED or (view[0] & _MARKED and view.nbytes < 1 + _LAYOUT.size):
        raise RemoteProtocolError(f"peer {peer} sent no message of this algorithm in exchange {t}", peer)
    whole = bool(view[0] & _WHOLE)
    if not view[0] & _MARKED:
        marks, base = _usual(t)
        return Head(marks, base, whole), view[1:]
    base, *marked = _LAYOUT.unpack_from(view, 1)
    return Head(Marks(*marked), base, whole), view[1 + _LAYOUT.size :]


def numbers(form: Codec, payload: memoryview, size: int, t: int, peer: int) -> Tensor:
    """Return the row (size,) that ``peer`` sent at exchange ``t``; RemoteProtocolError names both where it is none."""
    try:
        return form.decode(payload, size)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"peer {peer} in exchange {t}: {error}", peer) from None


def _usual(t: int) -> tuple[Marks, int]:
    return Marks(t - 1, t - 1, max(t - 2, START)), t - 1
