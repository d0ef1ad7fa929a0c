"""Edges over which both ends apply an exchange's flow, or neither, for messages that the mixer cannot settle late.

The sum of the rows is conserved where the two ends of an edge apply opposite flows. A message that arrives in one
direction only would break that. So the next message of each end states which flow it applied last, and an end takes
its last flow back where the other end did not apply it. Only in a run's last exchange can a flow stay one-sided.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Mixer, Step
from p2pser.wire.codec import Codec, Received

START = -1
"""The exchange before the first, whose values both ends know without a message."""
LOST = -2
"""This end no longer knows the other end's value, or it no longer fits."""

_LAYOUT = struct.Struct("<4i")
_WHOLE, _MARKED = 1, 2


@dataclass
class Marks:
    """The knowledge of one end of an edge, as exchange indices t = round * slots + slot.

    have: the last exchange of which this end knows the other end's value (a copy, a vector). pending: the last
    exchange whose flow this end applied. confirmed: the last exchange whose flow both ends applied.
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
        """Return the marks as edge state after a gap; the pending flow is still to be settled."""
        return Marks(LOST, self.pending, self.confirmed).tensor()

    def settle(self, theirs: Marks) -> bool:
        """Read from a message whether the other end applied the pending flow; True: it did not, take the flow back."""
        if self.pending == self.confirmed or self.pending in (theirs.pending, theirs.confirmed):
            self.confirmed = self.pending
            return False
        self.pending = self.confirmed
        return True


def mark(state: State, mixer: Mixer) -> None:
    """Add marks without knowledge to every edge that has none."""
    edges = mixer.edges(Step(0, 0))
    for edge in zip(edges.dst.tolist(), edges.src.tolist()):
        state.edges.setdefault(edge, {"marks": Marks().tensor()})


@dataclass(frozen=True)
class Head:
    """The head of a message, before its payload.

    marks: the sender's, before this exchange. base: the sender's previous exchange. whole: the payload is the sender's
    whole value, not its change since ``base``.
    """

    marks: Marks
    base: int
    whole: bool = False

    def encode(self, t: int) -> bytes:
        """Return the bytes at exchange ``t``: one if the previous exchanges succeeded, else 17."""
        flags = _WHOLE if self.whole else 0
        if (self.marks, self.base) == _usual(t):
            return bytes([flags])
        return bytes([flags | _MARKED]) + _LAYOUT.pack(
            self.base, self.marks.have, self.marks.pending, self.marks.confirmed)


def decode(message: Received, t: int, most: int) -> tuple[Head, memoryview]:
    """Return (head, payload) of a message at exchange ``t``, whose payload has at most ``most`` bytes.

    Raises RemoteProtocolError for another form, and for marks of exchanges that have not been.
    """
    view = memoryview(message.octets(1 + _LAYOUT.size + most))
    if not view.nbytes or view[0] > _WHOLE | _MARKED or (view[0] & _MARKED and view.nbytes < 1 + _LAYOUT.size):
        raise message.refused(f"a message of another form in exchange {t}")
    whole = bool(view[0] & _WHOLE)
    if not view[0] & _MARKED:
        marks, base = _usual(t)
        return Head(marks, base, whole), view[1:]
    base, *marked = _LAYOUT.unpack_from(view, 1)
    if not (START <= base < t and min(marked) >= LOST and max(marked) < t):
        raise message.refused(f"marks of exchanges that are not before exchange {t}")
    return Head(Marks(*marked), base, whole), view[1 + _LAYOUT.size :]


def numbers(form: Codec, payload: memoryview, like: Tensor, sender: int, size: int | None = None) -> Tensor:
    """Return the row in the payload of a message, of ``like``'s dtype and of ``size`` numbers (default: as many).

    Raises RemoteProtocolError for another form, and for numbers that are not finite.
    """
    size = like.numel() if size is None else size
    return Received(sender, payload, form.wire_name(like), size).row(like.dtype, size, form=form).to(like.dtype)


def _usual(t: int) -> tuple[Marks, int]:
    return Marks(t - 1, t - 1, max(t - 2, START)), t - 1
