"""Into a run that goes on: what a peer that comes back, or comes late, is told by a neighbour.

A neighbour that takes it in sends, at the start of its next round: that round and the roll call, the features'
statistics, its parameters. With these the newcomer takes the round's local steps and its place in the exchanges.
Nothing that carries mass is handed over: optimiser and algorithm begin afresh, and what the newcomer's rows were before
is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network.mixer import NetworkMixer
from p2pser.run.setup import RollCall
from p2pser.wire.codec import DENSE, codec
from p2pser.wire.messages import Header

WELCOME = -1
"""The set-up round of these messages; their slots: what was called, the statistics' sums, the parameters."""
CALL, SUMS, ROW = range(3)


class Welcome(NamedTuple):
    """What neighbour ``host`` told. round: which begins. sums: of the features. x: parameters (D,)."""

    host: int
    round: int
    call: RollCall
    sums: Tensor
    x: Tensor


def welcome(mixer: NetworkMixer, peer: int, round: int, call: RollCall, sums: Tensor, x: Tensor) -> None:
    """Tell a neighbour that has come back where we are, and wait for its rows from this round on.

    sums: as ``statistics`` found them. x: our parameters (D,).
    """
    told = {"round": round, "resume": call.resume, "clips": dict(call.clips), "widths": dict(call.widths),
            "cut": sorted(map(list, call.cut)), "shape": list(sums.shape)}
    mixer.send(peer, Step(WELCOME, CALL), msgpack.packb(told), "", 0)
    for slot, row in ((SUMS, sums.reshape(-1)), (ROW, x)):
        kept = row.detach().clone()
        mixer.send(peer, Step(WELCOME, slot), DENSE.encode(kept), DENSE.wire_name(kept), kept.numel())
    mixer.exchange.expect(peer)


def welcomed(mixer: NetworkMixer, size: int) -> Welcome | None:
    """Wait until a neighbour that trains has told us; None where none is left that could.

    size: D. Raises RemoteProtocolError where it told something of another form.
    """
    parts: dict[int, dict[int, Any]] = {}

    def take(peer: int, header: Header, payload: memoryview) -> bool:
        if header.round == WELCOME:
            kept = bytes(payload)
            value = codec(header.codec).decode(kept, header.size) if header.codec else kept
            parts.setdefault(peer, {})[header.slot] = value
        return header.round == WELCOME

    mixer.interceptor = take
    try:
        while mixer.training():
            for peer, told in parts.items():
                if set(told) >= {CALL, SUMS, ROW}:
                    return _read(peer, told, size)
            mixer.listen(None)
        return None
    finally:
        mixer.interceptor = None


def _read(peer: int, told: dict[int, Any], size: int) -> Welcome:
    try:
        call = msgpack.unpackb(told[CALL], strict_map_key=False)
        cut = frozenset((int(i), int(j)) for i, j in call["cut"])
        found = RollCall(int(call["resume"]), _counts(call["clips"], int), cut, _counts(call["widths"], float))
        sums = told[SUMS].reshape(call["shape"])
        if told[ROW].numel() != size or not isinstance(call["round"], int) or call["round"] < 0:
            raise ValueError("its parameters or its round are no such")
        return Welcome(peer, call["round"], found, sums, told[ROW])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"peer {peer} told where the run is in another form: {error}", peer) from None


def _counts(mapping: dict[Any, Any], kind: Callable[[Any], Any]) -> dict[int, Any]:
    return {int(peer): kind(value) for peer, value in mapping.items()}
