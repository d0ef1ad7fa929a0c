"""What a peer needs that joins a run under way, or comes back into it: a neighbour sends it.

A neighbour that lets a peer join sends, at the start of its next round, that round and the roll call, the statistics'
sums, and its parameters. With these the peer takes the round's local steps and its place in the exchanges. Nothing that
carries mass is handed over: optimiser and algorithm begin afresh, and the peer's former rows are discarded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network.mixer import NetworkMixer
from p2pser.run.setup import JOIN, RollCall
from p2pser.wire.codec import DENSE, codec
from p2pser.wire.messages import Header

CALL, SUMS, ROW = range(3)
"""The slots of the messages: the roll call, the statistics' sums, the parameters."""


class JoinState(NamedTuple):
    """The state that neighbour ``sender`` sent.

    round : the round that begins. call : what every peer brings. sums : (S,) of the statistics. x : (D,), parameters.
    """

    sender: int
    round: int
    call: RollCall
    sums: Tensor
    x: Tensor


def send(mixer: NetworkMixer, peer: int, round: int, call: RollCall, sums: Tensor, x: Tensor) -> None:
    """Send the join state to a neighbour, and wait for its rows from this round on.

    Parameters
    ----------
    mixer : carries the messages.
    peer : the neighbour that joins.
    round : the round that begins.
    call : what every peer brings.
    sums : (S,) float64, as ``Session.statistics`` returned them.
    x : this peer's parameters (D,).
    """
    fields = {"round": round, "resume": call.resume, "clips": dict(call.clips), "widths": dict(call.widths),
              "cut": sorted(map(list, call.cut)), "shape": [1, sums.numel()]}
    mixer.send(peer, Step(JOIN, CALL), msgpack.packb(fields), "", 0)
    for slot, row in ((SUMS, sums), (ROW, x)):
        kept = row.detach().clone()
        mixer.send(peer, Step(JOIN, slot), DENSE.encode(kept), DENSE.wire_name(kept), kept.numel())
    mixer.exchange.expect(peer)


class Receiver:
    """Takes the join states that neighbours send. Make it before the peer meets them: they may send at once.

    mixer : carries the messages. size : D.
    """

    def __init__(self, mixer: NetworkMixer, size: int) -> None:
        self._mixer, self._size = mixer, size
        self._parts: dict[int, dict[int, Any]] = {}
        """The messages of each sender, by slot."""
        mixer.on(JOIN, self._take)

    def receive(self) -> JoinState | None:
        """Wait for a training neighbour's join state; None where no neighbour is left that could send it.

        Raises RemoteProtocolError for a join state of another form.
        """
        while self._mixer.training():
            for peer, messages in self._parts.items():
                if messages.keys() >= {CALL, SUMS, ROW}:
                    return _read(peer, messages, self._size)
            self._mixer.listen(None)
        return None

    def _take(self, peer: int, header: Header, payload: memoryview) -> None:
        if header.slot not in (CALL, SUMS, ROW):
            raise RemoteProtocolError(f"peer {peer} sent part {header.slot} of a join state, which has 3", peer)
        kept = bytes(payload)
        value = codec(header.codec).decode(kept, header.size) if header.codec else kept
        self._parts.setdefault(peer, {})[header.slot] = value


def _read(peer: int, messages: dict[int, Any], size: int) -> JoinState:
    try:
        fields = msgpack.unpackb(messages[CALL], strict_map_key=False)
        cut = frozenset((int(i), int(j)) for i, j in fields["cut"])
        call = RollCall(int(fields["resume"]), _by_peer(fields["clips"], int), cut, _by_peer(fields["widths"], float))
        sums = messages[SUMS].reshape(fields["shape"]).reshape(-1)
        if messages[ROW].numel() != size or not isinstance(fields["round"], int) or fields["round"] < 0:
            raise ValueError("its parameters or its round do not fit")
        return JoinState(peer, fields["round"], call, sums, messages[ROW])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"peer {peer} sent a join state of another form: {error}", peer) from None


def _by_peer(mapping: dict[Any, Any], kind: Callable[[Any], Any]) -> dict[int, Any]:
    return {int(peer): kind(value) for peer, value in mapping.items()}
