"""The I/O thread: it owns every socket, answers while training holds the processor, and never blocks.

A link is up to two connections, one dialled (DEALER) and one accepted (on the peer's one ROUTER), each usable both
ways. Who is speaking is what the CURVE key says: our own ZAP handler, bound before the listener, turns the key into
the peer's id. State comes from the socket monitor, HELLO and traffic; EAGAIN says nothing about a peer.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import zmq

from p2pser.config import NetworkSettings
from p2pser.errors import LocalProtocolError, RemoteProtocolError
from p2pser.network import events, hello, sockets
from p2pser.network.hello import Hello
from p2pser.network.keys import KeyPair, Zap
from p2pser.network.link import Link, Neighbour, Outgoing, Traffic
from p2pser.network.liveness import Alive, Dead, Liveness, Ping, Suspect
from p2pser.wire import messages
from p2pser.wire.messages import Buffer, Header, Kind, Phase, Progress

TICK = 0.25
"""Longest sleep of the I/O thread [s]: a longer gap means that this process did not run."""
REDIAL = 1.0
"""Seconds until a neighbour that refused our key is dialled again (ZeroMQ gives up after a refusal)."""
REPEAT = 60.0
"""Seconds in which the same trouble is told once."""
DOUBTS = 3
"""Handshakes that break off without a word before we say that the key is wrong: one may be a peer that just dies."""

ALONE = 1.5
"""Seconds without a connection after which, at the end, a neighbour is taken to have ended: one that lives dials again
within a second."""
PARTED = -1
"""Stands for the nonce of a BYE that was acknowledged."""
DIALLED = b""
"""Stands for the connection that we dialled, where those that came in have their identities."""

Route = Callable[[bytes], bool]


class Links:
    """A peer's connections to its neighbours. All methods are for the training thread.

    ours: what this peer says of itself. listen: the endpoint to bind, or None where nobody can reach us.
    Events come in order through ``events``.
    """

    def __init__(self, ours: Hello, keys: KeyPair, listen: str | None, neighbours: Iterable[Neighbour],
                 settings: NetworkSettings, max_row_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.events: SimpleQueue[events.Event] = SimpleQueue()
        self.progress = Progress(-(2**31), 0, Phase.START, 0)
        """What every header says of how far we are; the training thread replaces it."""
        self.endpoint = listen
        self._ours, self._keys, self._settings, self._clock = ours, keys, settings, clock
        self._run = hello.run_id(ours.run)
        self._links = {n.peer: Link(n, settings.chunk_bytes, max_row_bytes) for n in neighbours}
        self._zap = Zap({n.key: n.peer for n in self._links_neighbours()})
        self._liveness = Liveness(self._links, settings.ping_after, settings.suspect_after, settings.dead_after)
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._ours_end, self._their_end = socket.socketpair()
        self._their_end.setblocking(False)
        self._ours_end.setblocking(False)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._router: zmq.Socket[bytes] | None = None
        self._router_monitor: zmq.Socket[bytes] | None = None
        self._dealers: dict[int, zmq.Socket[bytes]] = {}
        self._monitors: dict[int, zmq.Socket[bytes]] = {}
        self._accepted: dict[int, bytes] = {}
        self._connected: set[int] = set()
        self._carrier: dict[int, bytes] = {}
        self._doubts: dict[int, int] = {}
        self._redial: dict[int, float] = {}
        self._ungreeted: set[int] = set()
        self._owed: set[int] = set()
        self._told: dict[tuple[int | None, str], float] = {}
        self._nonce = 0
        self._farewell: str | None = None
        self._parting: dict[int, int] = {}
        self._alone_since: dict[int, float] = {}
        self._deadline = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._main, name=f"p2pser-io-{ours.peer}", daemon=True)

    # For the training thread --------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind, dial and start the thread. Raises ConfigError where the address cannot be listened on."""
        try:
            self._zap_socket = self._context.socket(zmq.ROUTER)
            self._zap_socket.linger = 0
            self._zap_socket.bind("inproc://zeromq.zap.01")
            self._poller.register(self._zap_socket, zmq.POLLIN)
            self._poller.register(self._their_end.fileno(), zmq.POLLIN)
            if self.endpoint is not None:
                self._router = sockets.listener(self._context, self.endpoint, self._keys)
                self.endpoint = _endpoint(self._router)
                self._router_monitor = sockets.watch(self._router, dials=False)
                self._poller.register(self._router, zmq.POLLIN)
                self._poller.register(self._router_monitor, zmq.POLLIN)
            for link in self._links.values():
                self._dial(link)
        except BaseException:
            self._close_sockets(0)
            raise
        self._thread.start()

    def send(self, peers: Iterable[int], step: tuple[int, int], payload: Buffer, *, codec: str = "", size: int = 0,
             schema: bytes = b"", unmixed: Callable[[int], Sequence[tuple[int, int]]] = lambda peer: ()) -> None:
        """Queue one payload for several neighbours; it is checksummed once and must not change afterwards."""
        checksums = messages.checksums(payload, self._settings.chunk_bytes)
        header = replace(self._header(Kind.ROW), round=step[0], slot=step[1], codec=codec, size=size, schema=schema)
        for peer in peers:
            row = Outgoing(replace(header, unmixed=tuple(unmixed(peer))), payload, checksums)
            self._command(self._queue_row, peer, row)

    def ping(self, peer: int, payload_bytes: int = 0) -> None:
        """Ask a neighbour for a sign of life now."""
        self._command(self._ping, peer, payload_bytes)

    def leave(self, peer: int, reason: str) -> None:
        """Have nothing more to do with a neighbour, and tell it why if it asks."""
        self._command(self._shut, peer, reason)

    def wake(self) -> None:
        """Put a Woken event into the queue (safe in a signal handler)."""
        self.events.put(events.Woken())

    def states(self) -> dict[int, str]:
        """What each neighbour is to us: waiting, alive, suspect, dead or left."""
        return {j: self._liveness.state(j).name.lower() if link.hello or link.closed else "waiting"
                for j, link in self._links.items()}

    def traffic(self) -> dict[int, Traffic]:
        """What each link carried so far."""
        return {j: link.snapshot() for j, link in self._links.items()}

    def taken(self, peer: int) -> None:
        """An Arrived event of a neighbour has been looked at."""
        self._links[peer].taken += 1

    def close(self, reason: str, flush: float) -> None:
        """Send what waits (for at most ``flush`` seconds), say BYE with the reason, close everything and join."""
        if self._thread.is_alive():
            self._command(self._begin_farewell, reason, self._clock() + flush)
            self._thread.join()
        elif not self._ended:
            self._close_sockets(0)

    # The thread ---------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not self._over():
                timeout = min(TICK, max(0.0, self._liveness.next_due(self._clock()) - self._clock()))
                ready = self._poller.poll(int(timeout * 1000) + 1)
                self._read(ready)
                self._look_around()
                for link in self._links.values():
                    self._pump(link)
            for link in self._links.values():
                if link.up and self._ours.role == "peer" and link.peer not in self._parting:
                    self._say_bye(link)
            self._close_sockets(self._settings.linger)
        except BaseException as error:
            self._close_sockets(0)
            self.events.put(events.Failed(error))

    def _over(self) -> bool:
        if self._farewell is None:
            return False
        busy = [link for link in self._links.values() if link.up and not self._parted(link)]
        return not busy or self._clock() >= self._deadline

    def _parted(self, link: Link) -> bool:
        """Whether a neighbour has read all that we sent: it has acknowledged our BYE, which goes last.

        Where a connection closes, TCP may throw away what it still holds, and ZeroMQ what the other end has not read.
        """
        if self._alone(link):
            return True
        if not link.idle or self._ours.role == "check":
            return link.idle
        if link.peer not in self._parting:
            self._say_bye(link)
        return self._parting.get(link.peer) == PARTED

    def _alone(self, link: Link) -> bool:
        """Whether there has been no connection to a neighbour for so long that it has ended, its BYE lost."""
        if link.peer in self._connected or link.peer in self._accepted:
            self._alone_since.pop(link.peer, None)
            return False
        now = self._clock()
        return now - self._alone_since.setdefault(link.peer, now) >= ALONE

    def _say_bye(self, link: Link) -> None:
        self._nonce = (self._nonce + 1) % 2**32
        if self._send(link, Kind.BYE, messages.encode_reason(self._farewell or ""), slot=self._nonce):
            self._parting[link.peer] = self._nonce

    def _read(self, ready: list[tuple[Any, int]]) -> None:
        for source, _ in ready:
            if source is self._zap_socket:
                self._answer_zap()
            elif source == self._their_end.fileno():
                self._obey()
            elif self._router is not None and source is self._router:
                for frames in sockets.received(self._router):
                    self._from_router(frames)
            elif self._router_monitor is not None and source is self._router_monitor:
                for event in sockets.happened(self._router_monitor):
                    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                        self._trouble(None, "somebody dialled with the wrong key for this peer: its topology file or "
                                            "its secret is another one")
            else:
                self._from_neighbour(source)

    def _from_neighbour(self, source: zmq.Socket[bytes]) -> None:
        for peer, monitor in list(self._monitors.items()):
            if source is monitor:
                for event in sockets.happened(monitor):
                    self._monitored(self._links[peer], event)
                    if self._monitors.get(peer) is not monitor:
                        return
                return
        for peer, dealer in list(self._dealers.items()):
            if source is dealer:
                for frames in sockets.received(dealer):
                    if len(frames) == 1:
                        self._message(self._links[peer], frames[0], self._by_dealer(dealer))
                    if self._dealers.get(peer) is not dealer:
                        return  # it was a BYE: we have hung up
                return

    def _look_around(self) -> None:
        now = self._clock()
        for peer in [peer for peer, due in self._redial.items() if due <= now]:
            del self._redial[peer]
            self._dial(self._links[peer])
        for peer in self._ungreeted & self._connected:
            self._greet(self._links[peer], self._by_dealer(self._dealers[peer]))
        paused = self._liveness.pause(now)
        if paused:
            self.events.put(events.Paused(paused))
        for event in self._liveness.tick(now):
            link = self._links[event.peer]
            if isinstance(event, Ping):
                self._ping(event.peer, 0)
            elif isinstance(event, Suspect):
                self.events.put(events.Suspected(event.peer, event.silence))
            elif isinstance(event, Alive):
                self.events.put(events.Returned(event.peer))
            elif isinstance(event, Dead):
                if self.progress.phase is Phase.START:
                    self._liveness.forget(event.peer)
                    link.forget()
                else:
                    self._shut(event.peer, f"peer {event.peer} was silent for {event.silence:.1f} s and declared DEAD")
                self.events.put(events.Died(link.peer, event.silence))

    # Messages -----------------------------------------------------------------------------------------------

    def _from_router(self, frames: list[zmq.Frame]) -> None:
        try:
            if len(frames) != 2:
                raise RemoteProtocolError(f"a message has {len(frames) - 1} frames, not one")
            peer = int(frames[1]["User-Id"])
            link = self._links[peer]
        except (RemoteProtocolError, KeyError, ValueError) as error:
            self._trouble(None, f"a message of nobody we know was dropped: {error}")
            return
        self._message(link, frames[1], self._by_router(frames[0].bytes), frames[0].bytes)

    def _message(self, link: Link, frame: zmq.Frame, route: Route, identity: bytes | None = None) -> None:
        now = self._clock()
        link.count_received(len(frame))
        try:
            header, payload = messages.decode(frame.buffer)
            if header.sender != link.peer:
                raise RemoteProtocolError(f"peer {link.peer} wrote in the name of peer {header.sender}", link.peer)
            if header.kind in (Kind.HELLO, Kind.WELCOME):
                self._greeted(link, header, payload, route, identity)
            elif header.kind is Kind.REFUSED:
                self._refused_by(link, messages.decode_reason(payload))
            elif header.kind is Kind.BYE and link.hello is not None and header.incarnation == link.hello.incarnation:
                self._send(link, Kind.PONG, route=route, slot=header.slot)
                self._left(link, messages.decode_reason(payload))
            elif header.kind is Kind.PING:
                # Also for whoever only checks (``p2pser peer --check``).
                self._send(link, Kind.PONG, route=route, slot=header.slot)
                self._sign_of_life(link, header, now)
                if link.closed and link.hello is not None and header.incarnation == link.hello.incarnation:
                    # It may have nothing else to send, and would wait for us for ever.
                    self._send(link, Kind.REFUSED, messages.encode_reason(link.closed), route=route)
            elif link.closed:
                self._send(link, Kind.REFUSED, messages.encode_reason(link.closed), route=route)
            elif link.hello is None or header.run != self._run:
                raise RemoteProtocolError(f"peer {link.peer} sent {header.kind.name} before its HELLO", link.peer)
            else:
                if identity is not None and header.incarnation == link.hello.incarnation:
                    self._accepted.setdefault(link.peer, identity)
                self._sign_of_life(link, header, now)
                self._exchanged(link, header, payload, now)
        except RemoteProtocolError as error:
            self._trouble(link.peer, str(error))

    def _sign_of_life(self, link: Link, header: Header, now: float) -> None:
        if link.hello is None or link.closed or header.incarnation != link.hello.incarnation:
            return
        self._liveness.heard(link.peer, now)
        if link.progress is None or header.progress > link.progress:
            link.progress = header.progress
            self.events.put(events.Progressed(link.peer, header.progress))

    def _exchanged(self, link: Link, header: Header, payload: memoryview, now: float) -> None:
        if header.kind is Kind.ROW:
            whole, due = link.row(header, payload)
            if due is not None:
                self._acknowledge(link)
            if whole is not None:
                self.events.put(events.Arrived(link.peer, header, whole))
        elif header.kind is Kind.CREDIT:
            link.credit(header.total, now)
        elif header.kind is Kind.PONG:
            if self._ours.role == "check":
                self.events.put(events.Ponged(link.peer))
            elif self._parting.get(link.peer) == header.slot:
                self._parting[link.peer] = PARTED

    def _left(self, link: Link, reason: str) -> None:
        """A neighbour has said BYE."""
        if link.closed:
            return
        if self.progress.phase is Phase.START:
            self._liveness.forget(link.peer)
            link.forget()
        else:
            self._shut(link.peer, f"peer {link.peer} has left: {reason}")
        self.events.put(events.Left(link.peer, reason))

    def _greeted(self, link: Link, header: Header, payload: memoryview, route: Route, identity: bytes | None) -> None:
        theirs = hello.parse(messages.decode_body(payload), link.peer)
        reason, new = hello.difference(self._ours, theirs), False
        if reason is None and link.closed:
            reason = link.closed
        elif reason is None and theirs.role == "peer" and self._ours.role == "peer":
            new = link.hello is None or link.hello.incarnation != theirs.incarnation
            reason = link.admit(theirs, header.slot)
        if reason is not None:
            self._send(link, Kind.REFUSED, messages.encode_reason(reason), route=route)
            self.events.put(events.Refused(link.peer, reason, by_us=True))
            return
        if identity is not None and theirs.role == "peer":
            self._accept(link, identity)
        if header.kind is Kind.HELLO:
            self._send(link, Kind.WELCOME, messages.encode_body(self._ours.body()), route=route, slot=link.restarts)
        if "check" in (theirs.role, self._ours.role):
            if self._ours.role == "check":
                link.hello = theirs
                self.events.put(events.Up(link.peer, theirs))
            return
        self._liveness.watch(link.peer, self._clock())
        if new:
            self.events.put(events.Up(link.peer, theirs))

    def _refused_by(self, link: Link, reason: str) -> None:
        self.events.put(events.Refused(link.peer, reason, by_us=False))

    # Sending ------------------------------------------------------------------------------------------------

    def _header(self, kind: Kind) -> Header:
        return Header(kind, self._run, self._ours.peer, self._ours.incarnation, self.progress)

    def _send(self, link: Link, kind: Kind, payload: bytes = b"", route: Route | None = None, slot: int = 0,
              total: int = 0) -> bool:
        """Send a control message now, ahead of the rows that wait; False where no connection took it."""
        frame = messages.encode(replace(self._header(kind), slot=slot, total=total), payload)
        if not (route or self._route(link))(frame):
            return False
        link.count_sent(frame)
        return True

    def _acknowledge(self, link: Link) -> None:
        """Send a CREDIT, later where the connection is full of rows: without it the neighbour may wait for ever."""
        if self._send(link, Kind.CREDIT, total=link.receiver.total):
            self._owed.discard(link.peer)
        else:
            self._owed.add(link.peer)

    def _pump(self, link: Link) -> None:
        """Send rows for as long as there is credit and a connection takes them."""
        if link.up and link.peer in self._owed:
            self._acknowledge(link)
        while link.up and (frame := link.next_frame()) is not None:
            if not self._route(link)(frame):
                return
            link.sent(frame, self._clock())

    def _route(self, link: Link) -> Route:
        """The connection that carries our rows: always the same one, for rows must not overtake each other."""
        carrier = self._carrier.get(link.peer)
        if carrier is None:
            ready = link.peer in self._connected and link.peer not in self._ungreeted
            carrier = DIALLED if ready else self._accepted.get(link.peer)
            if carrier is None:
                return lambda frame: False
            self._carrier[link.peer] = carrier
        return self._by_dealer(self._dealers[link.peer]) if carrier == DIALLED else self._by_router(carrier, link.peer)

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

    def _ping(self, peer: int, payload_bytes: int) -> None:
        self._nonce = (self._nonce + 1) % 2**32
        self._send(self._links[peer], Kind.PING, bytes(payload_bytes), slot=self._nonce)

    # Connections --------------------------------------------------------------------------------------------

    def _dial(self, link: Link) -> None:
        neighbour = link.neighbour
        if neighbour.address is None or link.closed:
            return
        dealer = sockets.dialler(self._context, neighbour.address, neighbour.key, self._keys)
        monitor = sockets.watch(dealer, dials=True)
        self._dealers[link.peer], self._monitors[link.peer] = dealer, monitor
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        sockets.connect(dealer, neighbour.address)

    def _hang_up(self, link: Link) -> None:
        """Close the connection that we dialled (what came in by the other one is still answered)."""
        self._connected.discard(link.peer)
        self._ungreeted.discard(link.peer)
        if self._carrier.get(link.peer) == DIALLED:
            del self._carrier[link.peer]
        dealer, monitor = self._dealers.pop(link.peer, None), self._monitors.pop(link.peer, None)
        if dealer is not None and monitor is not None:
            self._poller.unregister(dealer)
            self._poller.unregister(monitor)
            sockets.close(dealer, monitor, self._settings.linger)

    def _monitored(self, link: Link, event: zmq.Event) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connected.add(link.peer)
            self._doubts.pop(link.peer, None)
            self._ungreeted.add(link.peer)  # the connection may take it a moment later only
        elif event == zmq.EVENT_DISCONNECTED:
            if link.peer in self._connected:
                self._connected.discard(link.peer)
                self._broken(link, DIALLED)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refused_by(link, f"peer {link.peer} at {link.neighbour.address} does not admit the key of peer "
                                   f"{self._ours.peer}: compare the topology files and the keys")
            self._hang_up(link)
            self._redial[link.peer] = self._clock() + REDIAL
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
            doubts = self._doubts[link.peer] = self._doubts.get(link.peer, 0) + 1
            if doubts % DOUBTS == 0 and link.hello is None:
                reason = (f"whoever listens at {link.neighbour.address} does not hold the key of peer {link.peer} that "
                          f"peer {self._ours.peer} knows: compare the topology files, the keys and the secrets")
                self.events.put(events.Refused(link.peer, reason, by_us=True))

    def _accept(self, link: Link, identity: bytes) -> None:
        """A neighbour has dialled us and said HELLO: a new connection, if it is another than before."""
        before = self._accepted.get(link.peer)
        self._accepted[link.peer] = identity
        if before is not None and before != identity:
            self._broken(link, before)

    def _broken(self, link: Link, connection: bytes) -> None:
        """A connection is no more. Where it carried our rows, the other one does from now on, or the next."""
        self._parting.pop(link.peer, None)
        if self._carrier.get(link.peer) == connection:
            del self._carrier[link.peer]
            if link.up:
                link.broken()
                self._greet(link, self._route(link))

    def _greet(self, link: Link, route: Route) -> None:
        if not self._send(link, Kind.HELLO, messages.encode_body(self._ours.body()), route=route, slot=link.restarts):
            return
        self._ungreeted.discard(link.peer)
        if link.up and link.receiver.total:
            # A CREDIT may have been lost with the other connection, and the neighbour waits for it.
            self._acknowledge(link)

    def _answer_zap(self) -> None:
        for frames in sockets.received(self._zap_socket):
            reply = self._zap.reply([frame.bytes for frame in frames])
            if reply is not None:
                self._zap_socket.send_multipart(reply)
        for reason in self._zap.refusals():
            self._trouble(None, reason)

    def _trouble(self, peer: int | None, reason: str) -> None:
        """Tell it, but not the same again and again: who is refused tries every second."""
        now = self._clock()
        if self._told.get((peer, reason), -math.inf) + REPEAT <= now:
            self._told = {what: at for what, at in self._told.items() if at + REPEAT > now}
            self._told[peer, reason] = now
            self.events.put(events.Trouble(peer, reason))

    # Commands -----------------------------------------------------------------------------------------------

    def _command(self, do: Callable[..., None], *arguments: Any) -> None:
        if not self._thread.is_alive():
            raise LocalProtocolError("the I/O thread has ended")
        self._commands.append((do, arguments))
        with contextlib.suppress(BlockingIOError):  # full of wake-ups: the other end will look
            self._ours_end.send(b"!")

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._their_end.recv(4096)
        while self._commands:
            do, arguments = self._commands.popleft()
            do(*arguments)

    def _queue_row(self, peer: int, row: Outgoing) -> None:
        if not self._links[peer].closed:
            self._links[peer].queue(row)

    def _shut(self, peer: int, reason: str) -> None:
        link = self._links[peer]
        if not link.closed:
            link.closed = reason
            self._liveness.gone(peer)
            self._hang_up(link)

    def _begin_farewell(self, reason: str, deadline: float) -> None:
        self._farewell, self._deadline = reason, deadline

    def _links_neighbours(self) -> list[Neighbour]:
        return [link.neighbour for link in self._links.values()]

    def _close_sockets(self, linger: float) -> None:
        self._ended = True
        for link in self._links.values():
            if link.peer in self._dealers:
                sockets.close(self._dealers.pop(link.peer), self._monitors.pop(link.peer), linger)
        if self._router is not None:
            sockets.close(self._router, self._router_monitor, linger)
        if hasattr(self, "_zap_socket"):
            self._zap_socket.close(0)
        self._context.term()
        self._ours_end.close()
        self._their_end.close()


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.rstrip(b"\0").decode()
