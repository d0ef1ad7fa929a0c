"""A peer's connections: dialled, accepted, watched and told apart. Only the I/O thread comes here.

A link is up to two connections, one dialled (DEALER) and one accepted (on the peer's one ROUTER), each usable both
ways. Who is speaking is what the CURVE key says: our own ZAP handler, bound before the listener, turns the key into
the peer's id. State comes from the socket monitor, HELLO and traffic; EAGAIN says nothing about a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import zmq

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import NetworkSettings
from p2pser.network import sockets
from p2pser.network.keys import KeyPair, Zap
from p2pser.network.link import Link

REDIAL = 1.0
"""Seconds until an address is dialled again at which ZeroMQ has given up: our key was refused, or what answered breaks
its protocol."""
HANDSHAKE_FAILURES = 3
"""Handshakes that break off without a word before we say so: one may be a peer that just dies."""
DIALLED = b""
"""Stands for the connection that we dialled, where those that came in have their identities."""

Route: TypeAlias = Callable[[bytes], bool]
"""Takes a frame; False where no connection takes it now."""


class Owner(Protocol):
    """What becomes of what the connections see."""

    def received(self, link: Link, frame: zmq.Frame, route: Route, identity: bytes | None) -> None:
        """A message came; ``route`` answers over the same connection, ``identity`` is an accepted one's."""

    def send_hello(self, link: Link, route: Route) -> bool:
        """Say HELLO over a connection; False where it did not take it."""

    def hello_sent(self, link: Link) -> None:
        """Our HELLO has left over a connection, which may carry rows from now on."""

    def connection_lost(self, link: Link, carrier: bool) -> None:
        """A connection is no more; ``carrier``: it carried our rows."""

    def refused(self, link: Link, reason: str, by_us: bool) -> None:
        """The two ends do not admit each other's keys."""

    def trouble(self, peer: int | None, reason: str) -> None:
        """Something happened that somebody should know."""


class Connections:
    """The sockets of one peer. me: its id. links: its neighbours. clock: gives the time [s]."""

    def __init__(self, me: int, keys: KeyPair, links: Mapping[int, Link], settings: NetworkSettings,
                 clock: Callable[[], float], owner: Owner) -> None:
        self._me, self._keys, self._links, self._settings = me, keys, links, settings
        self._clock, self._owner = clock, owner
        self._zap = Zap({link.neighbour.key: link.peer for link in links.values()})
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._zap_socket: zmq.Socket[bytes] | None = None
        self._router: zmq.Socket[bytes] | None = None
        self._router_monitor: zmq.Socket[bytes] | None = None
        self._dealers: dict[int, zmq.Socket[bytes]] = {}
        self._monitors: dict[int, zmq.Socket[bytes]] = {}
        self._accepted: dict[int, bytes] = {}
        self._connected: set[int] = set()
        self._carrier: dict[int, bytes] = {}
        self._handshake_failures: dict[int, int] = {}
        self._speaks_zmtp: set[int] = set()
        """Neighbours at whose address something speaks our protocol, since the last doubt."""
        self._probes: dict[int, tuple[zmq.Socket[bytes], zmq.Socket[bytes]]] = {}
        self._redial: dict[int, float] = {}
        self._handshake_failed_now: set[int] = set()
        """Neighbours with whom a handshake has failed, on a connection that is about to end."""
        self._hello_due: set[int] = set()

    def open(self, listen: str | None, wake: int) -> str | None:
        """Bind, dial, and return the endpoint that was bound. wake: a file descriptor that ends a ``poll``, too.

        Raises ConfigError where the address cannot be listened on.
        """
        self._zap_socket = self._context.socket(zmq.ROUTER)
        self._zap_socket.linger = 0
        self._zap_socket.bind("inproc://zeromq.zap.01")
        self._poller.register(self._zap_socket, zmq.POLLIN)
        self._poller.register(wake, zmq.POLLIN)
        if listen is not None:
            self._router = sockets.listener(self._context, listen, self._keys)
            listen = sockets.endpoint(self._router)
            self._router_monitor = sockets.watch(self._router, dials=False)
            self._poller.register(self._router, zmq.POLLIN)
            self._poller.register(self._router_monitor, zmq.POLLIN)
        for link in self._links.values():
            self.dial(link)
        return listen

    def close(self, linger: float) -> None:
        """Close everything; what sockets still hold may take ``linger`` seconds to leave."""
        for peer in list(self._dealers):
            sockets.close(self._dealers.pop(peer), self._monitors.pop(peer), linger)
        for peer in list(self._probes):
            self._end_probe(peer)
        if self._router is not None:
            sockets.close(self._router, self._router_monitor, linger)
        if self._zap_socket is not None:
            self._zap_socket.close(0)
        self._context.term()

    def poll(self, seconds: float) -> list[Any]:
        """Wait for something to read; return what is ready (``read`` takes it), the wake descriptor among it."""
        return [source for source, _ in self._poller.poll(int(seconds * 1000) + 1)]

    def read(self, source: Any) -> None:
        """Hand over what waits at a socket that is ready."""
        if source is self._zap_socket:
            self._answer_zap()
        elif self._router is not None and source is self._router:
            for frames in sockets.received(self._router):
                self._from_router(frames)
        elif self._router_monitor is not None and source is self._router_monitor:
            for event, why in sockets.happened(self._router_monitor):
                probed = why == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH  # by a neighbour that has its own failures
                if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and not probed:
                    self._owner.trouble(None, "somebody dialled with the wrong key for this peer: its topology file or "
                                              "its secret is another one")
        else:
            self._from_neighbour(source)

    def maintain(self) -> None:
        """Dial whom it is time to dial again, greet whom no HELLO has reached yet."""
        now = self._clock()
        for peer in [peer for peer, due in self._redial.items() if due <= now]:
            self.dial(self._links[peer])
        for peer in self._hello_due & self._connected:
            self._greet(self._links[peer], self._by_dealer(self._dealers[peer]))

    def connected(self, peer: int) -> bool:
        """Whether there is any connection to a neighbour."""
        return peer in self._connected or peer in self._accepted

    def route(self, link: Link) -> Route:
        """The connection that carries our rows: always the same one, for rows must not overtake each other."""
        carrier = self._carrier.get(link.peer)
        if carrier is None:
            ready = link.peer in self._connected and link.peer not in self._hello_due
            carrier = DIALLED if ready else self._accepted.get(link.peer)
            if carrier is None:
                return lambda frame: False
            self._carrier[link.peer] = carrier
        return self._by_dealer(self._dealers[link.peer]) if carrier == DIALLED else self._by_router(carrier, link.peer)

    def dial(self, link: Link) -> None:
        """Dial a neighbour, anew where it was dialled, if it can be reached and something is exchanged with it."""
        self.hang_up(link)
        neighbour = link.neighbour
        if neighbour.address is None or link.closed:
            return
        dealer = sockets.dialler(self._context, neighbour.address, neighbour.key, self._keys)
        monitor = sockets.watch(dealer, dials=True)
        self._dealers[link.peer], self._monitors[link.peer] = dealer, monitor
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        sockets.connect(dealer, neighbour.address)

    def hang_up(self, link: Link) -> None:
        """Close the connection that we dialled (what came in by the other one is still answered)."""
        self._connected.discard(link.peer)
        self._hello_due.discard(link.peer)
        self._handshake_failed_now.discard(link.peer)
        self._redial.pop(link.peer, None)
        self._end_probe(link.peer)
        if self._carrier.get(link.peer) == DIALLED:
            del self._carrier[link.peer]
        dealer, monitor = self._dealers.pop(link.peer, None), self._monitors.pop(link.peer, None)
        if dealer is not None and monitor is not None:
            self._poller.unregister(dealer)
            self._poller.unregister(monitor)
            sockets.close(dealer, monitor, self._settings.linger)

    def accept(self, link: Link, identity: bytes) -> None:
        """A neighbour has dialled us and said HELLO: a new connection, if it is another than before."""
        before = self._accepted.get(link.peer)
        self._accepted[link.peer] = identity
        if before is not None and before != identity:
            self._broken(link, before)

    def still_accepted(self, link: Link, identity: bytes) -> None:
        """An accepted connection carried a message: it can be answered over again."""
        self._accepted.setdefault(link.peer, identity)

    # Reading ------------------------------------------------------------------------------------------------

    def _from_neighbour(self, source: zmq.Socket[bytes]) -> None:
        for peer, monitor in list(self._monitors.items()):
            if source is monitor:
                for event, _ in sockets.happened(monitor):
                    self._monitored(self._links[peer], event)
                    if self._monitors.get(peer) is not monitor:
                        return
                return
        for peer, (_, monitor) in list(self._probes.items()):
            if source is monitor:
                if any(event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL for event, _ in sockets.happened(monitor)):
                    self._speaks_zmtp.add(peer)
                    self._handshake_failures[peer] = 1  # the rest must follow: nobody may have been there before
                return
        for peer, dealer in list(self._dealers.items()):
            if source is dealer:
                for frames in sockets.received(dealer):
                    if len(frames) == 1:
                        self._owner.received(self._links[peer], frames[0], self._by_dealer(dealer), None)
                    if self._dealers.get(peer) is not dealer:
                        return  # it was a BYE: we have hung up
                return

    def _from_router(self, frames: list[zmq.Frame]) -> None:
        try:
            if len(frames) != 2:
                raise RemoteProtocolError(f"a message has {len(frames) - 1} frames, not one")
            link = self._links[int(frames[1]["User-Id"])]
        except (RemoteProtocolError, KeyError, ValueError) as error:
            self._owner.trouble(None, f"a message of nobody we know was dropped: {error}")
            return
        identity = frames[0].bytes
        self._owner.received(link, frames[1], self._by_router(identity), identity)

    def _answer_zap(self) -> None:
        assert self._zap_socket is not None
        for frames in sockets.received(self._zap_socket):
            reply = self._zap.reply([frame.bytes for frame in frames])
            if reply is not None:
                self._zap_socket.send_multipart(reply)
        for reason in self._zap.refusals():
            self._owner.trouble(None, reason)

    # Sending ------------------------------------------------------------------------------------------------

    def _by_dealer(self, dealer: zmq.Socket[bytes]) -> Route:
        def send(frame: bytes) -> bool:
            try:
                dealer.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                return False
            return True

        return send

    def _by_router(self, identity: bytes, peer: int | None = None) -> Route:
        def send(frame: bytes) -> bool:
            assert self._router is not None
            try:
                self._router.send_multipart([identity, frame], zmq.NOBLOCK)
            except zmq.Again:
                return False
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                if peer is not None and self._accepted.get(peer) == identity:
                    del self._accepted[peer]
                    self._broken(self._links[peer], identity)
                return False
            return True

        return send

    # What happens to them -----------------------------------------------------------------------------------

    def _monitored(self, link: Link, event: zmq.Event) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connected.add(link.peer)
            self._forget_handshake_failures(link)
            self._hello_due.add(link.peer)  # the connection may take it a moment later only
        elif event == zmq.EVENT_DISCONNECTED:
            # ZeroMQ dials again, and says so at once, unless what it read broke its protocol.
            self._redial[link.peer] = self._clock() + REDIAL
            if link.peer in self._connected:
                self._connected.discard(link.peer)
                self._broken(link, DIALLED)
            elif link.peer not in self._handshake_failed_now:
                self._owner.trouble(link.peer, f"{link.neighbour.address} answers for peer {link.peer}, but in another "
                                               "protocol: another program listens there (check the address)")
            self._handshake_failed_now.discard(link.peer)
        elif event == zmq.EVENT_CONNECT_RETRIED:
            self._redial.pop(link.peer, None)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._owner.refused(link, f"peer {link.peer} at {link.neighbour.address} does not admit the key of peer "
                                      f"{self._me}: compare the topology files and the keys", False)
            self.hang_up(link)
            self._redial[link.peer] = self._clock() + REDIAL
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
            self._handshake_failed_now.add(link.peer)
            self._handshake_failed(link, event)

    def _handshake_failed(self, link: Link, event: zmq.Event) -> None:
        """A handshake that we began broke off: the key may be wrong, or nobody be there behind a tunnel.

        To ZeroMQ's monitor both are alike, so we dial once more without a key. The key is wrong only where something
        at the address speaks our protocol and handshakes begun *after* that was known break off too.
        """
        if link.hello is not None:
            return
        peer, address = link.peer, link.neighbour.address
        failures = self._handshake_failures[peer] = self._handshake_failures.get(peer, 0) + 1
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._speaks_zmtp.add(peer)  # that takes a greeting
        if failures % HANDSHAKE_FAILURES:
            if peer not in self._speaks_zmtp:
                self._probe(link)
        elif peer in self._speaks_zmtp:
            self._forget_handshake_failures(link)  # the next time, too, somebody else may listen there
            self._owner.refused(link, f"whoever listens at {address} does not hold the key of peer {peer} that peer "
                                      f"{self._me} knows: compare the topology files, the keys and the secrets", True)
        else:
            self._owner.trouble(peer, f"{address} takes connections for peer {peer} and closes them without a word: a "
                                      "tunnel or proxy whose far end is not reached (start the peer, check the "
                                      "tunnel), or another program listens there (check the address)")

    def _forget_handshake_failures(self, link: Link) -> None:
        self._handshake_failures.pop(link.peer, None)
        self._speaks_zmtp.discard(link.peer)
        self._end_probe(link.peer)

    def _probe(self, link: Link) -> None:
        self._end_probe(link.peer)
        assert link.neighbour.address is not None
        socket = sockets.prober(self._context, link.neighbour.address)
        monitor = sockets.watch(socket, dials=True)
        self._probes[link.peer] = socket, monitor
        self._poller.register(monitor, zmq.POLLIN)
        sockets.connect(socket, link.neighbour.address)

    def _end_probe(self, peer: int) -> None:
        socket, monitor = self._probes.pop(peer, (None, None))
        if socket is not None and monitor is not None:
            self._poller.unregister(monitor)
            sockets.close(socket, monitor, 0)

    def _broken(self, link: Link, connection: bytes) -> None:
        """A connection is no more. Where it carried our rows, the other one does from now on, or the next."""
        carried = self._carrier.get(link.peer) == connection
        if carried:
            del self._carrier[link.peer]
        self._owner.connection_lost(link, carried)
        if carried and link.up:
            self._greet(link, self.route(link))

    def _greet(self, link: Link, route: Route) -> None:
        if self._owner.send_hello(link, route):
            self._hello_due.discard(link.peer)  # first: what the owner sends now may go this way
            self._owner.hello_sent(link)
