"""A peer's sockets: dialled and accepted connections, their monitors, authentication. Used by the I/O thread only.

With each neighbour there are up to two connections, one dialled (DEALER) and one accepted (on the peer's one ROUTER,
listening.py), and each carries messages both ways. The state of a connection follows from the socket monitor, HELLO and
traffic; EAGAIN says nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import zmq

from p2pser.config import NetworkSettings
from p2pser.network import descriptors, handshakes, sockets
from p2pser.network.admission import Intake
from p2pser.network.handshakes import HandshakeFailures, Verdict
from p2pser.network.keys import KeyPair, may_be_older
from p2pser.network.listening import CHECK, Listener, Reporter
from p2pser.network.names import LOOK, Names
from p2pser.network.neighbour import DIALLED, Contact, Neighbour
from p2pser.network.probes import Probes
from p2pser.network.states import State

REDIAL = 1.0
"""Seconds until we dial an address again where ZeroMQ has given up: our key was refused, or the answer violated its
protocol."""

Route: TypeAlias = Callable[[bytes], bool]
"""Sends a frame over a connection; False where it cannot be sent now."""


class Handler(Reporter, Protocol):
    """Takes the messages of the connections, and reports about them."""

    def received(self, link: Neighbour, frame: zmq.Frame, route: Route, connection: bytes) -> None:
        """Handle a message; ``route`` answers over the same connection."""

    def send_hello(self, link: Neighbour, route: Route) -> bool:
        """Send HELLO over a new connection; False where it cannot be sent now."""

    def hello_sent(self, link: Neighbour) -> None:
        """Note that our HELLO was sent over a connection, which may carry rows from now on."""

    def refused(self, link: Neighbour, reason: str, by_us: bool, older: bool) -> None:
        """Report that one end does not admit the other's key; ``older``: its topology file may be older than ours."""


class Connections:
    """The sockets of one peer.

    Parameters
    ----------
    me : the peer's id.
    keys : its CURVE key pair.
    links : its neighbours, by id.
    settings : the network settings.
    clock : returns the time [s].
    handler : takes messages and reports.
    epoch : the epoch of our topology file.
    """

    def __init__(self, me: int, keys: KeyPair, links: Mapping[int, Neighbour], settings: NetworkSettings,
                 clock: Callable[[], float], handler: Handler, epoch: int) -> None:
        self._me, self._keys, self._links, self._settings, self._epoch = me, keys, links, settings, epoch
        self._clock, self._handler = clock, handler
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        """The function that reads each registered socket or file descriptor."""
        self._listener = Listener(self._context, keys, {link.contact.key: link.peer for link in links.values()},
                                  self.watch, self._accepted_message, handler, epoch)
        self._dealers: dict[int, zmq.Socket[bytes]] = {}
        self._monitors: dict[int, zmq.Socket[bytes]] = {}
        self._accepted: dict[int, bytes] = {}
        """ROUTER identity of each neighbour's accepted connection."""
        self._dialled: set[int] = set()
        """Neighbours to which the dialled connection is up."""
        self._carrier: dict[int, bytes] = {}
        """The connection that carries our rows: DIALLED or a ROUTER identity."""
        self._hello_due: set[int] = set()
        """Neighbours whose dialled connection has not carried our HELLO yet."""
        self._redial_at: dict[int, float] = {}
        self._handshakes = HandshakeFailures()
        self._failed_handshake: set[int] = set()
        """Neighbours whose last handshake has failed, on a connection that is about to end."""
        self._names = Names(clock)
        self._dialled_to: dict[int, Contact] = {}
        """The numeric address that was dialled last for each neighbour."""
        self._probes = Probes(self._context, self.watch, self._forget, self._handshakes.probe_greeted)
        self._descriptors: dict[int, int] = {}
        """The file descriptor of each dialled connection."""
        self._intake = Intake()
        self._checked = 0.0

    def open(self, listen: str | None) -> str | None:
        """Bind and dial; return the bound endpoint.

        Raises ConfigError where the address cannot be listened on.
        """
        if listen is not None:
            listen = self._listener.open(listen)
        for link in self._links.values():
            self.dial(link)
        return listen

    def watch(self, source: Any, reader: Callable[[], None]) -> None:
        """Let ``poll`` call ``reader`` whenever a socket or file descriptor can be read."""
        self._poller.register(source, zmq.POLLIN)
        self._readers[source] = reader

    def poll(self, seconds: float) -> None:
        """Wait at most so long until a socket can be read, and read all that can be read."""
        for source, _ in self._poller.poll(int(seconds * 1000) + 1):
            reader = self._readers.get(source)  # None where an earlier reader has closed the socket
            if reader is not None:
                reader()

    def close(self, linger: float) -> None:
        """Close everything; sockets may take ``linger`` seconds to send what they hold."""
        for peer in list(self._dealers):
            sockets.close(self._dealers.pop(peer), self._monitors.pop(peer), linger)
        self._probes.close()
        self._listener.close(linger)
        self._context.term()

    def maintain(self) -> None:
        """Dial again when it is time, and send the HELLOs that could not be sent before."""
        now = self._clock()
        for peer in [peer for peer, at in self._redial_at.items() if at <= now]:
            self.dial(self._links[peer])
        for peer in self._hello_due & self._dialled:
            self._send_hello(self._links[peer], _by_dealer(self._dealers[peer]))
        self._listener.maintain(now)
        if now >= self._checked + CHECK:
            self._checked = now
            self._cut_endless()
            for peer, used in list(self._dialled_to.items()):  # a name may have another number by now
                if not self.connected(peer) and self._names.numeric(self._links[peer].contact) not in (None, used):
                    self.dial(self._links[peer])

    def replace_contact(self, link: Neighbour, contact: Contact) -> None:
        """Dial a neighbour at another address, and admit it with another key."""
        if contact.key != link.contact.key:
            self._listener.replace_key(link.peer, contact.key)
        link.contact = contact
        self.dial(link)

    def bar(self, peer: int) -> None:
        """End the connections of a banned neighbour, and admit its key no longer."""
        self.hang_up(self._links[peer])
        self._listener.bar(peer)

    def connected(self, peer: int) -> bool:
        """Whether there is any connection to a neighbour."""
        return peer in self._dialled or peer in self._accepted

    def route(self, link: Neighbour) -> Route:
        """Return the connection that carries our rows: always the same one, so that rows cannot overtake each other."""
        carrier = self._carrier.get(link.peer)
        if carrier is None:
            ready = link.peer in self._dialled and link.peer not in self._hello_due
            carrier = DIALLED if ready else self._accepted.get(link.peer)
            if carrier is None:
                return _no_connection
            self._carrier[link.peer] = carrier
        return _by_dealer(self._dealers[link.peer]) if carrier == DIALLED else self._by_router(carrier, link.peer)

    def dial(self, link: Neighbour) -> None:
        """Dial a neighbour that has an address and is not BANNED; close the earlier dialled connection."""
        self.hang_up(link)
        self._dialled_to.pop(link.peer, None)
        if link.contact.address is None or link.state is State.BANNED:
            return
        contact = self._names.numeric(link.contact)
        if contact is None:
            self._redial_at[link.peer] = self._clock() + LOOK
            if (problem := self._names.problem(link.contact)) is not None:
                self._handler.trouble(link.peer, problem, "name")
            return
        self._dialled_to[link.peer] = contact
        try:
            dealer = sockets.dialler(self._context, contact, self._keys)
            monitor = sockets.watch(dealer, dials=True)
        except zmq.ZMQError as error:
            self._redial_at[link.peer] = self._clock() + REDIAL
            self._handler.trouble(link.peer, f"cannot dial peer {link.peer} now: {error}", "dial")
            return
        self._dealers[link.peer], self._monitors[link.peer] = dealer, monitor
        self.watch(dealer, lambda: self._read_dealer(link, dealer))
        self.watch(monitor, lambda: self._read_monitor(link, monitor))
        sockets.connect(dealer, str(contact.address))

    def hang_up(self, link: Neighbour) -> None:
        """Close the dialled connection; messages over the accepted one are still answered."""
        self._dialled.discard(link.peer)
        self._hello_due.discard(link.peer)
        self._failed_handshake.discard(link.peer)
        self._redial_at.pop(link.peer, None)
        self._forget_descriptor(link.peer)
        self._probes.end(link.peer)
        dealer, monitor = self._dealers.pop(link.peer, None), self._monitors.pop(link.peer, None)
        if dealer is not None and monitor is not None:
            self._forget(dealer)
            self._forget(monitor)
            sockets.close(dealer, monitor, self._settings.linger)
            self._lost(link, DIALLED)

    def accept(self, link: Neighbour, connection: bytes) -> None:
        """Note the connection that carried a neighbour's HELLO; an accepted one replaces an earlier accepted one."""
        if connection == DIALLED:
            return
        before = self._accepted.get(link.peer)
        self._accepted[link.peer] = connection
        if before is not None and before != connection:
            self._lost(link, before)

    def still_accepted(self, link: Neighbour, connection: bytes) -> None:
        """Note that a connection has carried a message: if it is an accepted one, answers can be sent over it again."""
        if connection != DIALLED:
            self._accepted.setdefault(link.peer, connection)

    # Reading ------------------------------------------------------------------------------------------------

    def _read_dealer(self, link: Neighbour, dealer: zmq.Socket[bytes]) -> None:
        for frames in sockets.received(dealer):
            if link.peer in self._descriptors:
                for frame in frames:
                    self._intake.read(self._descriptors[link.peer], len(frame))
            if len(frames) == 1:
                self._handler.received(link, frames[0], _by_dealer(dealer), DIALLED)
            else:
                self._handler.strike(link.peer, f"a message has {len(frames)} frames, not one")
            if self._dealers.get(link.peer) is not dealer:
                return  # the message made us hang up

    def _read_monitor(self, link: Neighbour, monitor: zmq.Socket[bytes]) -> None:
        for event, value in sockets.happened(monitor):
            if event == zmq.EVENT_CONNECTED:
                self._descriptors[link.peer] = value
                self._intake.begins(value)
            self._monitored(link, event, value)
            if self._monitors.get(link.peer) is not monitor:
                return

    def _accepted_message(self, peer: int, frame: zmq.Frame, identity: bytes) -> None:
        self._handler.received(self._links[peer], frame, self._by_router(identity), identity)

    # Sending ------------------------------------------------------------------------------------------------

    def _by_router(self, identity: bytes, peer: int | None = None) -> Route:
        def send(frame: bytes) -> bool:
            sent = _transmit(self._listener.router, [identity, frame])
            if sent is None and peer is not None and self._accepted.get(peer) == identity:
                del self._accepted[peer]
                self._lost(self._links[peer], identity)
            return bool(sent)

        return send

    def _send_hello(self, link: Neighbour, route: Route) -> None:
        if self._handler.send_hello(link, route):
            self._hello_due.discard(link.peer)  # first: the handler may now send over this connection
            self._handler.hello_sent(link)

    # Beginning and end of connections ------------------------------------------------------------------------

    def _cut_endless(self) -> None:
        """Cut the dialled connections that carry a message of ever more parts."""
        for peer, descriptor in list(self._descriptors.items()):
            if self._intake.too_far(descriptor, descriptors.received(descriptor)):
                self._forget_descriptor(peer)
                descriptors.cut(descriptor)
                self._handler.strike(peer, "a message of ever more parts: the connection was cut")

    def _forget_descriptor(self, peer: int) -> None:
        if (descriptor := self._descriptors.pop(peer, None)) is not None:
            self._intake.ended(descriptor)

    def _monitored(self, link: Neighbour, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._dialled.add(link.peer)
            self._handshakes.forget(link.peer)
            self._probes.end(link.peer)
            self._hello_due.add(link.peer)  # sent by ``maintain``: the connection may not take it yet
        elif event == zmq.EVENT_DISCONNECTED:
            self._forget_descriptor(link.peer)
            # ZeroMQ dials again, and reports that at once, unless the data that it read violated its protocol.
            self._redial_at[link.peer] = self._clock() + REDIAL
            if link.peer in self._dialled:
                self._dialled.discard(link.peer)
                self._lost(link, DIALLED)
            elif link.peer not in self._failed_handshake:
                self._handler.trouble(link.peer, handshakes.another_program(link.contact))
            self._failed_handshake.discard(link.peer)
        elif event == zmq.EVENT_CONNECT_RETRIED:
            self._redial_at.pop(link.peer, None)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            later = self._epoch if may_be_older(self._epoch, value) else None
            self._handler.refused(link, handshakes.not_admitted(link.contact, self._me, later), by_us=False,
                                  older=bool(later))
            self.hang_up(link)
            self._redial_at[link.peer] = self._clock() + REDIAL
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
            self._failed_handshake.add(link.peer)
            self._handshake_failed(link, event)

    def _handshake_failed(self, link: Neighbour, event: int) -> None:
        peer = link.peer
        if link.hello is not None or link.contact.address is None:
            return
        self._probes.read(peer)  # the greeting may have arrived since this thread last read it
        verdict = self._handshakes.failed(peer, greeted=event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        if verdict is Verdict.PROBE:
            self._probes.begin(self._dialled_to[peer])
        elif verdict is Verdict.WRONG_KEY:
            self._probes.end(peer)
            self._handler.refused(link, handshakes.wrong_key(link.contact, self._me), by_us=True,
                                  older=self._epoch > 0 and not link.contact.derived)
        elif verdict is Verdict.NO_PEER:
            self._handler.trouble(peer, handshakes.no_peer(link.contact))

    def _lost(self, link: Neighbour, connection: bytes) -> None:
        """Handle the end of a connection; if it carried our rows, the other one or the next one does from now on."""
        carrier = self._carrier.get(link.peer) == connection
        if carrier:
            del self._carrier[link.peer]
        link.connection_lost(carrier)
        if carrier and link.state not in (State.BANNED, State.DONE):
            self._send_hello(link, self.route(link))

    def _forget(self, source: zmq.Socket[bytes]) -> None:
        self._poller.unregister(source)
        del self._readers[source]


def _no_connection(frame: bytes) -> bool:
    return False


def _by_dealer(dealer: zmq.Socket[bytes]) -> Route:
    def send(frame: bytes) -> bool:
        return bool(_transmit(dealer, [frame]))

    return send


def _transmit(socket: zmq.Socket[bytes] | None, parts: list[bytes]) -> bool | None:
    """Send a message; False where it cannot be sent now, None where its connection has ended."""
    if socket is None:
        return False
    try:
        socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return None
    return True
