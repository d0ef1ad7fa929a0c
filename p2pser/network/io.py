"""The I/O thread: it owns every socket, answers while training holds the processor, and never blocks."""

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

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.config import NetworkSettings
from p2pser.network import events
from p2pser.network.connections import Connections, Route
from p2pser.network.keys import KeyPair
from p2pser.network.link import Link, Neighbour, Outgoing, Traffic
from p2pser.network.liveness import Alive, Dead, Liveness, Ping, Suspect
from p2pser.wire import hello, messages
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Buffer, Header, Kind, Phase, Progress

TICK = 0.25
"""Longest sleep of the I/O thread [s]: a longer gap means that this process did not run."""
REPEAT = 60.0
"""Seconds in which the same trouble is told once."""
ALONE = 1.5
"""Seconds without a connection after which, at the end, a neighbour has ended: who lives dials again before."""
PARTED = -1
"""Stands for the nonce of a BYE that was acknowledged."""


class IOThread:
    """A peer's connections to its neighbours. All methods are for the training thread.

    ours: what this peer says of itself. listen: the endpoint to bind, or None where nobody can reach us.
    Events come in order through ``events``.
    """

    def __init__(self, ours: Hello, keys: KeyPair, listen: str | None, neighbours: Iterable[Neighbour],
                 settings: NetworkSettings, max_row_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.events: SimpleQueue[events.Event] = SimpleQueue()
        self.progress = Progress(-(2**31), 0, Phase.START, 0)
        """What every header says of how far we are; the training thread replaces it."""
        self.accepts_rejoining = False
        """Whether a neighbour that was lost or never came may take part while we train; the training thread sets it."""
        self.endpoint = listen
        self._ours, self._keys, self._settings, self._clock = ours, keys, settings, clock
        self._run = hello.run_id(ours.run)
        self._links = {n.peer: Link(n, settings.chunk_bytes, max_row_bytes) for n in neighbours}
        self._liveness = Liveness(self._links, settings.ping_after, settings.suspect_after, settings.dead_after)
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._ours_end, self._their_end = socket.socketpair()
        self._their_end.setblocking(False)
        self._ours_end.setblocking(False)
        self._connections = Connections(ours.peer, keys, self._links, settings, clock, self)
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
            self.endpoint = self._connections.open(self.endpoint, self._their_end.fileno())
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

    def announce_progress(self, peers: Iterable[int]) -> None:
        """Let neighbours know now how far we are: a PONG that nobody asked for."""
        for peer in peers:
            self._command(self._say_how_far, peer)

    def drop(self, peer: int, reason: str, incarnation: int | None = None) -> None:
        """Have nothing more to do with a neighbour (in that life of it), and tell it why if it asks."""
        self._command(self._shut, peer, reason, incarnation)

    def wake(self) -> None:
        """Put a Woken event into the queue (safe in a signal handler)."""
        self.events.put(events.Woken())

    def states(self) -> dict[int, str]:
        """What each neighbour is to us: waiting, alive, suspect, dead or left."""
        return {j: self._liveness.state(j).name.lower() if link.hello or link.closed else "waiting"
                for j, link in self._links.items()}

    def traffic(self) -> dict[int, Traffic]:
        """What each link sent so far."""
        return {j: link.snapshot() for j, link in self._links.items()}

    def mark_read(self, peer: int) -> None:
        """An Arrived event of a neighbour has been looked at."""
        self._links[peer].read += 1

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
                for source in self._connections.poll(timeout):
                    if source == self._their_end.fileno():
                        self._obey()
                    else:
                        self._connections.read(source)
                self._tick()
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
        if self._connections.connected(link.peer):
            self._alone_since.pop(link.peer, None)
            return False
        now = self._clock()
        return now - self._alone_since.setdefault(link.peer, now) >= ALONE

    def _say_bye(self, link: Link) -> None:
        self._nonce = (self._nonce + 1) % 2**32
        if self._send(link, Kind.BYE, messages.encode_reason(self._farewell or ""), slot=self._nonce):
            self._parting[link.peer] = self._nonce

    def _tick(self) -> None:
        now = self._clock()
        self._connections.maintain()
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
                self.events.put(events.Recovered(event.peer))
            elif isinstance(event, Dead):
                if self.progress.phase is Phase.START:
                    self._liveness.forget(event.peer)
                    link.forget()
                else:
                    self._shut(event.peer, f"peer {event.peer} was silent for {event.silence:.1f} s and declared DEAD")
                self.events.put(events.Died(link.peer, event.silence))

    # Messages -----------------------------------------------------------------------------------------------

    def received(self, link: Link, frame: zmq.Frame, route: Route, identity: bytes | None) -> None:
        """A message of a neighbour came (connections.Owner)."""
        now = self._clock()
        try:
            header, payload = messages.decode(frame.buffer)
            if header.sender != link.peer:
                raise RemoteProtocolError(f"peer {link.peer} wrote in the name of peer {header.sender}", link.peer)
            if header.kind in (Kind.HELLO, Kind.WELCOME):
                self._greeted(link, header, payload, route, identity)
            elif header.kind is Kind.REFUSED:
                self.refused(link, messages.decode_reason(payload), by_us=False)
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
                    self._connections.still_accepted(link, identity)
                self._sign_of_life(link, header, now)
                self._exchanged(link, header, payload, now)
        except RemoteProtocolError as error:
            self.trouble(link.peer, str(error))

    def _sign_of_life(self, link: Link, header: Header, now: float) -> None:
        if link.hello is None or link.closed or header.incarnation != link.hello.incarnation:
            return
        self._liveness.heard(link.peer, now)
        if link.progressed(header.progress, now):
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
        if reason is None and self._comes_back(link, theirs):
            self._reopen(link)
        if reason is None and link.closed:
            reason = link.closed
        elif reason is None and theirs.role == "peer" and self._ours.role == "peer":
            new = link.hello is None or link.hello.incarnation != theirs.incarnation
            reason = link.admit(theirs, header.slot)
        if reason is not None:
            self._send(link, Kind.REFUSED, messages.encode_reason(reason), route=route)
            self.refused(link, reason, by_us=True)
            return
        if identity is not None and theirs.role == "peer":
            self._connections.accept(link, identity)
        if header.kind is Kind.HELLO:
            self._send(link, Kind.WELCOME, messages.encode_body(self._ours.body()), route=route, slot=link.restarts)
        if "check" in (theirs.role, self._ours.role):
            if self._ours.role == "check":
                link.hello = theirs
                self.events.put(events.Up(link.peer, theirs, header.progress))
            return
        self._liveness.watch(link.peer, self._clock())
        if new:
            self.events.put(events.Up(link.peer, theirs, header.progress))

    def _comes_back(self, link: Link, theirs: Hello) -> bool:
        """Whether a neighbour that had no part in the run, or lost it, may have one now."""
        training = self.progress.phase in (Phase.TRAIN, Phase.EXCHANGE)
        return self.accepts_rejoining and training and {theirs.role, self._ours.role} == {"peer"} and \
            (bool(link.closed) if link.hello is None else theirs.incarnation > link.hello.incarnation)

    def _reopen(self, link: Link) -> None:
        if not link.closed:
            self.events.put(events.Left(link.peer, "it was started again"))
        link.reopen()
        self._liveness.forget(link.peer)
        self._owed.discard(link.peer)
        self._connections.dial(link)

    def refused(self, link: Link, reason: str, by_us: bool) -> None:
        """We do not fit together, or the keys do not (connections.Owner)."""
        self.events.put(events.Refused(link.peer, reason, by_us))

    # Sending ------------------------------------------------------------------------------------------------

    def _header(self, kind: Kind) -> Header:
        return Header(kind, self._run, self._ours.peer, self._ours.incarnation, self.progress)

    def _send(self, link: Link, kind: Kind, payload: bytes = b"", route: Route | None = None, slot: int = 0,
              total: int = 0) -> bool:
        """Send a control message now, ahead of the rows that wait; False where no connection took it."""
        frame = messages.encode(replace(self._header(kind), slot=slot, total=total), payload)
        if not (route or self._connections.route(link))(frame):
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
            if not self._connections.route(link)(frame):
                return
            link.sent(frame, self._clock())

    def _ping(self, peer: int, payload_bytes: int) -> None:
        self._nonce = (self._nonce + 1) % 2**32
        self._send(self._links[peer], Kind.PING, bytes(payload_bytes), slot=self._nonce)

    def _say_how_far(self, peer: int) -> None:
        if self._links[peer].up:
            self._send(self._links[peer], Kind.PONG)

    # What the connections tell ------------------------------------------------------------------------------

    def send_hello(self, link: Link, route: Route) -> bool:
        """Say HELLO over a connection (connections.Owner)."""
        return self._send(link, Kind.HELLO, messages.encode_body(self._ours.body()), route=route, slot=link.restarts)

    def hello_sent(self, link: Link) -> None:
        """Our HELLO has left over a new connection (connections.Owner)."""
        if link.up and link.receiver.total:
            # A CREDIT may have been lost with the other connection, and the neighbour waits for it.
            self._acknowledge(link)

    def connection_lost(self, link: Link, carrier: bool) -> None:
        """A connection is no more (connections.Owner)."""
        self._parting.pop(link.peer, None)
        if carrier and link.up:
            link.broken()

    def trouble(self, peer: int | None, reason: str) -> None:
        """Tell it, but not the same again and again: who is refused tries every second (connections.Owner)."""
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

    def _shut(self, peer: int, reason: str, incarnation: int | None = None) -> None:
        link = self._links[peer]
        again = incarnation is not None and link.hello is not None and link.hello.incarnation != incarnation
        if not link.closed and not again:
            link.closed = reason
            self._liveness.gone(peer)
            self._connections.hang_up(link)

    def _begin_farewell(self, reason: str, deadline: float) -> None:
        self._farewell, self._deadline = reason, deadline

    def _close_sockets(self, linger: float) -> None:
        self._ended = True
        self._connections.close(linger)
        self._ours_end.close()
        self._their_end.close()
