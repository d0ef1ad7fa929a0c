"""Three messages of one round that belong together, and the request for them: what there is to say, sums, and a row.

So a peer that joins is sent the state of the run (join_state.py), and one that missed the end the model (handover.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgpack
import torch
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network.mixer import NetworkMixer
from p2pser.wire.codec import DENSE, codec
from p2pser.wire.messages import Header

FACTS, SUMS, ROW, ASK = range(4)
"""The slots of the messages: plain data, the statistics' sums, a row; and the request for all three."""

T = TypeVar("T")


class Parcels(Generic[T]):
    """Sends the three messages, and puts those that come together.

    Parameters
    ----------
    mixer, round : carries the messages, in this round.
    what : what the messages are together, for errors.
    sums, size : S, the length of the sums, and D, the largest length of a row.
    dtype : of a row; sums are float64.
    make : (sender, facts, sums, row) -> what the messages say. Like ``read_facts`` (payload -> facts) it raises
        KeyError, TypeError, ValueError or RemoteProtocolError for another form.
    """

    def __init__(self, mixer: NetworkMixer, round: int, what: str, *, sums: int, size: int, dtype: torch.dtype,
                 read_facts: Callable[[memoryview], Any], make: Callable[[int, Any, Tensor, Tensor], T]) -> None:
        self._mixer, self._round, self._what = mixer, round, what
        self._due = {SUMS: (torch.float64, range(sums, sums + 1)), ROW: (dtype, range(1, size + 1))}
        self._read_facts, self._make = read_facts, make
        self._asked: dict[int, int] = {}
        """The neighbours that were asked, and the incarnation of each."""
        self._came: dict[int, dict[int, Any]] = {}
        """The messages of each sender from which not all have come, by slot."""

    def ask(self, peer: int) -> None:
        """Ask a neighbour, once an incarnation."""
        if not self.was_asked(peer):
            self._asked[peer] = self._mixer.hellos[peer].incarnation
            self._mixer.send(peer, Step(self._round, ASK), b"", "", 0)

    def was_asked(self, peer: int) -> bool:
        """Whether the present incarnation of a neighbour was asked."""
        return self._asked.get(peer) == self._mixer.hellos[peer].incarnation

    def send(self, peer: int, facts: Mapping[str, Any], sums: Tensor, row: Tensor) -> None:
        """Send the messages to a neighbour."""
        self._mixer.send(peer, Step(self._round, FACTS), msgpack.packb(facts), "", 0)
        for slot, each in ((SUMS, sums), (ROW, row)):
            kept = each.detach().clone()
            self._mixer.send(peer, Step(self._round, slot), DENSE.encode(kept), DENSE.wire_name(kept), kept.numel())

    def take(self, peer: int, header: Header, payload: memoryview) -> T | None:
        """Take a message; return what all three say once they have come.

        Raises RemoteProtocolError for one of another form; what its sender sent before is forgotten then.
        """
        came = self._came.setdefault(peer, {})
        try:
            came[header.slot] = self._read(header, payload)
            if came.keys() != {FACTS, SUMS, ROW}:
                return None
            made = self._make(peer, came[FACTS], came[SUMS], came[ROW])
        except (KeyError, TypeError, ValueError, msgpack.UnpackException, RemoteProtocolError) as error:
            self.forget(peer)
            raise RemoteProtocolError(f"peer {peer} sent {self._what} of another form: {error}", peer) from None
        self.forget(peer)
        return made

    def forget(self, peer: int) -> None:
        """Forget what a neighbour has sent so far."""
        self._came.pop(peer, None)

    def _read(self, header: Header, payload: memoryview) -> Any:
        if header.slot == FACTS:
            return self._read_facts(payload)
        if header.slot not in self._due:
            raise ValueError(f"it has no part {header.slot}")
        dtype, sizes = self._due[header.slot]
        if header.codec != DENSE.wire_name(torch.empty(0, dtype=dtype)) or header.size not in sizes:
            raise ValueError(f"{header.size} numbers in the form {header.codec!r} as part {header.slot}")
        row = codec(header.codec).decode(bytes(payload), header.size)
        if not torch.isfinite(row).all():
            raise ValueError("numbers that are not finite")
        return row
