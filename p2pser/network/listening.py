"""A peer's listener: one ROUTER socket, and the connections that it has accepted. Used by the I/O thread only.

The CURVE key identifies the other end: our own ZAP handler, bound before the listener, maps the key to the peer's id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import zmq

from p2pser.network import descriptors, sockets
from p2pser.network.admission import GUESTS, Admission, Intake
from p2pser.network.keys import KeyPair, Zap

Watch = Callable[[Any, Callable[[], None]], None]
"""Lets the I/O thread call a function whenever a socket can be read."""

CHECK = 0.1
"""Seconds between two checks of how many bytes the connections have received."""
PAUSE = 0.25
"""Shortest time for which the listener accepts no connections after it had too many guests [s]."""

AUTHENTICATING = 450
"""Bytes that a connection has received when ZeroMQ asks whether its key is admitted; before that, 266."""
AT_ONCE = 16
"""Guests cut in one turn after which the listener stops accepting for a while."""


class Reporter(Protocol):
    """Takes reports about connections."""

    def strike(self, peer: int, reason: str) -> None:
        """Count a message of a neighbour that violates the protocol."""

    def trouble(self, peer: int | None, reason: str, kind: str = "") -> None:
        """Report a problem that an operator may have to mend; the reports of one kind share one limit."""


class Listener:
    """The listener of one peer.

    Parameters
    ----------
    context, keys : ZeroMQ's context, and our key pair.
    admitted : the neighbours' ids, by public key.
    watch : lets the I/O thread read a socket.
    message : called with a message's sender, its frame, and the ROUTER's identity of the connection.
    handler : takes reports.
    epoch : the epoch of our topology file.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair, admitted: Mapping[str, int],
                 watch: Watch, message: Callable[[int, zmq.Frame, bytes], None], handler: Reporter, epoch: int) -> None:
        self._context, self._keys, self._watch = context, keys, watch
        self._message, self._handler = message, handler
        self.admission = Admission(max(GUESTS, 2 * len(admitted)), received=descriptors.received)
        self._most_guests = self.admission.limit
        self._zap = Zap(admitted, epoch)
        self._intake = Intake()
        self._keys_of_guests: dict[int, int] = {}
        """The neighbour whose key a guest holds, where that is certain."""
        self._sockets: list[zmq.Socket[bytes]] = []
        self.router: zmq.Socket[bytes] | None = None
        """The socket of all accepted connections, from ``open`` on."""
        self._monitor: zmq.Socket[bytes] | None = None
        self._endpoint, self._port = "", 0
        self._descriptor: int | None = None
        """File descriptor of the listening TCP socket."""
        self._paused_since: float | None = None
        self._overrun = False
        """Whether no descriptor was left for a new connection, or too many guests connected at once."""
        self._reported = 0
        """Number of guests turned away at the last report."""
        self._checked = 0.0

    def open(self, address: str) -> str:
        """Bind; return the endpoint that was bound. Raises ConfigError where the address cannot be listened on."""
        zap = self._context.socket(zmq.ROUTER)
        self._sockets.append(zap)
        zap.linger = 0
        zap.bind("inproc://zeromq.zap.01")
        self._watch(zap, lambda: self._answer_zap(zap))
        router = self.router = sockets.listener(self._context, address, self._keys)
        monitor = self._monitor = sockets.watch(router, dials=False)
        sockets.bind(router, address)
        self._endpoint = sockets.endpoint(router)
        self._port = int(self._endpoint.rpartition(":")[2])
        # The monitor first: it reports a connection before its first message.
        self._watch(monitor, lambda: self._read_monitor(monitor))
        self._watch(router, lambda: self._read(router))
        return self._endpoint

    def close(self, linger: float) -> None:
        """Close everything; the ROUTER may take ``linger`` seconds to send what it holds."""
        if self._descriptor is not None:
            descriptors.stop_accepting(self._descriptor)  # a flood of connections could keep ZeroMQ from ending
        if self.router is not None:
            sockets.close(self.router, self._monitor, linger)
        for socket in self._sockets:
            socket.close(0)

    def replace_key(self, peer: int, key: str) -> None:
        """Admit a neighbour with this key only, and end its present connections."""
        self._zap.replace(peer, key)
        self._cut_all(peer)

    def bar(self, peer: int) -> None:
        """Admit a neighbour no longer, and end its connections."""
        self._zap.bar(peer)
        self._cut_all(peer)

    def maintain(self, now: float) -> None:
        """Cut connections with endless messages, accept connections again when it is time, and report cut guests."""
        if now >= self._checked + CHECK:
            self._checked = now
            self._cut_endless()
            # The process's limit of descriptors may be lowered while it runs.
            self.admission.limit = max(8, min(self._most_guests, descriptors.limit() // 8))
            self._cut_surplus()
        if self._overrun and self._descriptor is not None:
            self._overrun = False
            if self._paused_since is None:
                descriptors.stop_accepting(self._descriptor)
            self._paused_since = now
        elif self._paused_since is not None and self._descriptor is not None and now >= self._paused_since + PAUSE:
            self._paused_since = None
            descriptors.resume_accepting(self._descriptor)
        if self.admission.turned_away > self._reported:
            self._reported = self.admission.turned_away
            self._handler.trouble(None, (
                f"more than {self.admission.limit} connections to {self._endpoint} send nothing, most of them from "
                f"{self.admission.crowd() or 'hosts that have gone'}: strangers, not neighbours; the surplus is cut, "
                "and the run goes on (let a firewall admit the neighbours' addresses only)"), "strangers")

    # Reading ------------------------------------------------------------------------------------------------

    def _read(self, router: zmq.Socket[bytes]) -> None:
        for frames in sockets.received(router):
            try:
                frame = frames[-1]
                peer, connection = int(frame["User-Id"]), int(frame["__fd"])
            except (KeyError, ValueError) as error:
                self._handler.trouble(None, f"a message whose sender is no neighbour was dropped: {error}", "sender")
                continue
            for other in self.admission.spoke(connection, peer):
                self._cut(other)
            for part in frames[1:]:
                self._intake.read(connection, len(part))
            if len(frames) == 2:
                self._message(peer, frame, frames[0].bytes)
            else:
                self._handler.strike(peer, f"a message has {len(frames) - 1} frames, not one")

    def _read_monitor(self, monitor: zmq.Socket[bytes]) -> None:
        before = self.admission.turned_away
        for event, value in sockets.happened(monitor, most=4 * sockets.AT_ONCE):
            if event == zmq.EVENT_ACCEPTED:
                self._intake.begins(value)
                self.admission.accepted(value, descriptors.host(value))
            elif event == zmq.EVENT_DISCONNECTED:
                self._intake.ended(value)
                self.admission.ended(value)
                self._keys_of_guests.pop(value, None)
            elif event == zmq.EVENT_ACCEPT_FAILED:
                self._overrun = True
            elif event == zmq.EVENT_LISTENING:
                self._descriptor = value
            elif value != zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                self._handler.trouble(None, "a peer dialled with the wrong public key for this peer: its topology file "
                                            "or its secret differs from ours", "key")
        self._cut_surplus()
        self._overrun = self._overrun or self.admission.turned_away > before + AT_ONCE

    def _answer_zap(self, socket: zmq.Socket[bytes]) -> None:
        if self._monitor is not None:
            self._read_monitor(self._monitor)  # the connection that asks is known first
        for frames in sockets.received(socket):
            request = [frame.bytes for frame in frames]
            reply = self._zap.reply(request)
            if reply is not None:
                self._note_key(request[-4].decode("ascii", errors="replace"), reply[-2])
                socket.send_multipart(reply)
        for reason in self._zap.refusals():
            self._handler.trouble(None, reason, "unlisted")

    def _note_key(self, address: str, peer: bytes) -> None:
        """Find out which guest holds a key that was just admitted: ZeroMQ gives its address only."""
        waiting = [guest for guest in self.admission.guests_of(address) if guest not in self._keys_of_guests
                   and descriptors.received(guest) >= AUTHENTICATING]
        if peer and len(waiting) == 1:
            self._keys_of_guests[waiting[0]] = int(peer)

    # Cutting ------------------------------------------------------------------------------------------------

    def _cut(self, connection: int) -> None:
        descriptors.cut(connection, self._port)

    def _cut_all(self, peer: int) -> None:
        for connection in self.admission.of(peer):
            self._cut(connection)

    def _cut_surplus(self) -> None:
        for connection in self.admission.surplus():
            self._cut(connection)

    def _cut_endless(self) -> None:
        for connection in self._intake.connections():
            if self._intake.too_far(connection, descriptors.received(connection)):
                self._cut(connection)
                self._intake.ended(connection)
                peer = self.admission.peer(connection)
                peer = self._keys_of_guests.get(connection) if peer is None else peer
                reason = "a message of ever more parts: the connection was cut"
                if peer is None:
                    self._handler.trouble(None, f"a neighbour began its connection with {reason}", "endless")
                else:
                    self._handler.strike(peer, reason)
