"""Three messages of one round that belong together (facts, sums, and a row), and the request for them.

They carry the join state of a peer that joins (join_state.py) and the model for one that missed the end (handover.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

import msgpack
import torch
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network.mixer import NetworkMixer
from p2pser.wire.codec import DENSE, codec, finite
from p2pser.wire.messages import Header

FACTS, SUMS, ROW, ASK = range(4)
"""Kinds of messages: plain data, the statistics' sums, a row; and the request for all three. A message's slot is its
kind, plus KINDS for each earlier request: a second message of one step would be taken for a copy of the first."""
KINDS = 4

T = TypeVar("T")


class Parcels(Generic[T]):
    """Sends the three messages, and assembles those that arrive.

    Parameters
    ----------
    mixer, round : carries the messages, in this round.
    what : name of the three messages in errors.
    sums, size : the possible lengths of the sums, and D, the largest length of a row.
    dtype : of a row; sums are float64.
    make : (sender, facts, sums, row) -> the object of the three messages. Like ``read_facts`` (payload -> facts) it
        raises KeyError, TypeError, ValueError or RemoteProtocolError for another form.
    most : most requests to one incarnation of a neighbour.
    """

    def __init__(self, mixer: NetworkMixer, round: int, what: str, *, sums: Collection[int], size: int,
                 dtype: torch.dtype, read_facts: Callable[[memoryview], Any],
                 make: Callable[[int, Any, Tensor, Tensor], T], most: int = 1 << 20) -> None:
        self._mixer, self._round, self._what = mixer, round, what
        self._dtype = dtype
        self.expect(sums, size)
        self._read_facts, self._make, self._most = read_facts, make, most
        self._asked: dict[int, tuple[int, int]] = {}
        """The neighbours that were asked -> the incarnation of each, and the number of the last request, from 0."""
        self._lost: set[int] = set()
        """The neighbours whose answer may be lost: the next ``ask`` sends another request."""
        self._requests: dict[int, int] = {}
        """The number of each neighbour's latest request."""
        self._came: dict[int, dict[int, Any]] = {}
        """Sender -> its messages by kind, until all three have come."""

    def expect(self, sums: Collection[int], size: int) -> None:
        """Expect other lengths; call it before any neighbour is asked."""
        self._due = {SUMS: (torch.float64, sums), ROW: (self._dtype, range(1, size + 1))}

    def ask(self, peer: int) -> bool:
        """Ask a neighbour, once per incarnation and once more after each ``lose``; return whether it was asked now."""
        number = 0
        if self.was_asked(peer):
            number = self._asked[peer][1] + 1
            if peer not in self._lost or number >= self._most:
                return False
        self._lost.discard(peer)
        self._asked[peer] = self._mixer.hellos[peer].incarnation, number
        self._mixer.send(peer, Step(self._round, KINDS * number + ASK), b"", "", 0)
        return True

    def lose(self, peer: int) -> None:
        """Note that the answer of a neighbour may be lost."""
        self._lost.add(peer)

    def was_asked(self, peer: int) -> bool:
        """Whether the present incarnation of a neighbour was asked."""
        return peer in self._asked and self._asked[peer][0] == self._mixer.hellos[peer].incarnation

    def coming(self, peer: int) -> bool:
        """Whether a part of a neighbour's answer has come, and the rest has not."""
        return bool(self._came.get(peer))

    def requested(self, peer: int, header: Header) -> bool:
        """Whether a message is a request; ``send`` answers the latest one of each neighbour."""
        number, kind = divmod(header.slot, KINDS)
        if kind != ASK:
            return False
        self._requests[peer] = number
        return True

    def request(self, peer: int) -> int:
        """Return the number of a neighbour's latest request; 0 if it has made none."""
        return self._requests.get(peer, 0)

    def send(self, peer: int, facts: Mapping[str, Any], sums: Tensor, row: Tensor) -> None:
        """Send the messages to a neighbour."""
        first = KINDS * self.request(peer)
        self._mixer.send(peer, Step(self._round, first + FACTS), msgpack.packb(facts), "", 0)
        for kind, each in ((SUMS, sums), (ROW, row)):
            kept = each.detach().clone()
            self._mixer.send(peer, Step(self._round, first + kind), DENSE.encode(kept), DENSE.wire_name(kept),
                             kept.numel())

    def take(self, peer: int, header: Header, payload: memoryview) -> T | None:
        """Take a message; return the object of all three once they have come, else None.

        Raises RemoteProtocolError for a message of another form, and discards its sender's earlier messages.
        """
        came = self._came.setdefault(peer, {})
        try:
            came[header.slot % KINDS] = self._read(header, payload)
            if came.keys() != {FACTS, SUMS, ROW}:
                return None
            made = self._make(peer, came[FACTS], came[SUMS], came[ROW])
        except (KeyError, TypeError, ValueError, msgpack.UnpackException, RemoteProtocolError) as error:
            self.forget(peer)
            raise RemoteProtocolError(f"peer {peer} sent {self._what} of another form: {error}", peer) from None
        self.forget(peer)
        return made

    def forget(self, peer: int) -> None:
        """Discard the messages that a neighbour has sent so far."""
        self._came.pop(peer, None)

    def _read(self, header: Header, payload: memoryview) -> Any:
        kind = header.slot % KINDS
        if kind == FACTS:
            return self._read_facts(payload)
        if kind not in self._due:
            raise ValueError(f"it has no part {kind}")
        dtype, sizes = self._due[kind]
        if header.codec != DENSE.wire_name(torch.empty(0, dtype=dtype)) or header.size not in sizes:
            raise ValueError(f"{header.size} numbers in the form {header.codec!r} as part {kind}")
        row = codec(header.codec).decode(payload, header.size)
        if not finite(row):
            raise ValueError("numbers that are not finite")
        return row
