"""The protocol between neighbours: how a peer answers each message, and what it sends on its own.

Used by the I/O thread only; ``progress`` and ``accepts_rejoining`` are set by the training thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import NamedTuple

import zmq

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import NetworkSettings
from p2pser.network import events
from p2pser.network.closing import Closing
from p2pser.network.complaints import Complaints
from p2pser.network.connections import Connections, Route
from p2pser.network.keys import KeyPair
from p2pser.network.link import Link
from p2pser.network.liveness import Alive, Dead, Liveness, Ping, Suspect
from p2pser.network.stream import Outgoing
from p2pser.wire import hello, messages
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Kind, Phase, Progress

ANSWERED = frozenset({Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.PING, Kind.BYE})
"""Messages that cost an answer or an event each: a neighbour has a quota of them."""


class Message(NamedTuple):
    """A message of a neighbour. ``route`` answers it; ``identity`` is that of an accepted connection."""

    link: Link
    header: Header
    payload: memoryview
    route: Route
    identity: bytes | None

    @property
    def of_this_incarnation(self) -> bool:
        """Whether it comes from the incarnation that said HELLO last."""
        known = self.link.hello
        return known is not None and self.header.incarnation == known.incarnation


class PeerProtocol:
    """One peer's side of the protocol, over all its links (connections.Handler).

    Parameters
    ----------
    ours, keys, links : our HELLO and CURVE key pair, and the neighbours' links, by id.
    settings, queue, clock : the network settings; what takes events for the training thread; what tells the time [s].
    """

    def __init__(self, ours: Hello, keys: KeyPair, links: Mapping[int, Link], settings: NetworkSettings,
                 queue: SimpleQueue[events.Event], clock: Callable[[], float] = time.monotonic,
                 connections: type[Connections] = Connections) -> None:
        self.progress = Progress(-(2**31), 0, Phase.START, 0)
        """How far we are; every header carries it."""
        self.accepts_rejoining = False
        """Whether a neighbour that was lost, or never came, may join while we train."""
        self.ours = ours
        self.liveness = Liveness(links, settings.ping_after, settings.suspect_after, settings.dead_after)
        self.connections = connections(ours.peer, keys, links, settings, clock, self)
        self.closing = Closing()
        self._links, self._clock, self._queue = links, clock, queue
        self._run, self._nonce = hello.run_id(ours.run), 0
        self._credit_due: set[int] = set()
        """Neighbours to which a CREDIT could not be sent yet."""
        self._complaints = Complaints(links, queue, clock)
        self._handlers: dict[Kind, Callable[[Message], None]] = {
            Kind.HELLO: self._on_hello, Kind.WELCOME: self._on_hello, Kind.REFUSED: self._on_refused,
            Kind.PING: self._on_ping, Kind.PONG: self._on_pong, Kind.BYE: self._on_bye,
            Kind.ROW: self._on_row, Kind.CREDIT: self._on_credit}

    # What the I/O thread asks for ----------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due by the clock: dial again, ping the silent, report the suspected and the dead."""
        now = self._clock()
        self.connections.maintain()
        paused = self.liveness.pause(now)
        if paused:
            self._queue.put(events.Paused(paused))
        for event in self.liveness.tick(now):
            match event:
                case Ping(peer):
                    self.ping(peer, 0)
                case Suspect(peer, silence):
                    self._queue.put(events.Suspected(peer, silence))
                case Alive(peer):
                    self._queue.put(events.Recovered(peer))
                case Dead(peer, silence):
                    self._end(self._links[peer], f"peer {peer} was silent for {silence:.1f} s and declared DEAD")
                    self._queue.put(events.Died(peer, silence))

    def pump(self, link: Link) -> None:
        """Send rows for as long as there is credit and the connection accepts them."""
        if link.up and link.peer in self._credit_due:
            self._acknowledge(link)
        while link.up and (frame := link.stream.next_frame()) is not None:
            if not self.connections.route(link)(frame):
                return
            link.stream.sent(frame, self._clock())

    def header(self, kind: Kind) -> Header:
        """Return the header of a message that leaves now."""
        return Header(kind, self._run, self.ours.peer, self.ours.incarnation, self.progress)

    def queue_row(self, peer: int, row: Outgoing) -> None:
        """Queue a row for a neighbour whose link is open."""
        if not self._links[peer].closed:
            self._links[peer].stream.queue(row)

    def ping(self, peer: int, payload_bytes: int) -> None:
        """Send a PING."""
        self._send(self._links[peer], Kind.PING, bytes(payload_bytes), slot=self._next_nonce())

    def send_progress(self, peer: int) -> None:
        """Tell a neighbour how far we are: by a PONG without a PING."""
        if self._links[peer].up:
            self._send(self._links[peer], Kind.PONG)

    def close_link(self, peer: int, reason: str, incarnation: int | None = None) -> None:
        """Exchange nothing more with a neighbour; with ``incarnation``, only if it is still that one."""
        link = self._links[peer]
        later = incarnation is not None and link.hello is not None and link.hello.incarnation != incarnation
        if not link.closed and not later:
            link.closed = reason
            self.liveness.close(peer)
            self.connections.hang_up(link)

    def may_close(self) -> bool:
        """Whether every neighbour has read all that we sent, or the time for that is over. Sends the BYEs."""
        if self.closing.reason is None:
            return False
        busy = [link for link in self._links.values() if link.up and not self._said_goodbye(link)]
        return not busy or self.closing.expired(self._clock())

    def send_last_byes(self) -> None:
        """Send BYE to the neighbours that have not been sent one."""
        for link in self._links.values():
            if link.up and self.ours.role == "peer" and not self.closing.was_sent(link.peer):
                self._say_bye(link)

    # Messages -------------------------------------------------------------------------------------------------

    def received(self, link: Link, frame: zmq.Frame, route: Route, identity: bytes | None) -> None:
        """Handle a neighbour's message (connections.Handler)."""
        try:
            header, payload = messages.decode(frame.buffer)
            if header.sender != link.peer:
                raise RemoteProtocolError(f"peer {link.peer} sent a message in peer {header.sender}'s name", link.peer)
            if header.kind not in ANSWERED or self._complaints.within_quota(link.peer):
                self._handlers[header.kind](Message(link, header, payload, route, identity))
        except RemoteProtocolError as error:
            self._complaints.within_quota(link.peer)
            self.trouble(link.peer, str(error))

    def _on_hello(self, message: Message) -> None:
        link, header, _, route, identity = message
        theirs = hello.parse(messages.decode_body(message.payload), link.peer)
        reason, is_new = hello.difference(self.ours, theirs), False
        if reason is None and self._may_rejoin(link, theirs):
            self._reopen(link)
        if reason is None and link.closed:
            reason = link.closed
        elif reason is None and theirs.role == "peer" and self.ours.role == "peer":
            is_new = link.hello is None or link.hello.incarnation != theirs.incarnation
            reason = link.admit(theirs, header.slot)
        if reason is not None:
            self._send(link, Kind.REFUSED, messages.encode_reason(reason), route=route)
            self.refused(link, reason, by_us=True)
            return
        if identity is not None and theirs.role == "peer":
            self.connections.accept(link, identity)
        if header.kind is Kind.HELLO:
            self._greet(link, Kind.WELCOME, route)
        if "check" in (theirs.role, self.ours.role):
            if self.ours.role == "check":
                link.hello = theirs
                self._queue.put(events.Up(link.peer, theirs, header.progress))
            return
        self.liveness.watch(link.peer, self._clock())
        if is_new:
            self._queue.put(events.Up(link.peer, theirs, header.progress))

    def _on_refused(self, message: Message) -> None:
        self.refused(message.link, messages.decode_reason(message.payload), by_us=False)

    def _on_ping(self, message: Message) -> None:
        link = message.link
        self._send(link, Kind.PONG, route=message.route, slot=message.header.slot)  # also to a peer that only checks
        self._note_traffic(message)
        if link.closed and message.of_this_incarnation:
            # It may have nothing else to send, and would wait for us without end.
            self._send(link, Kind.REFUSED, messages.encode_reason(link.closed), route=message.route)

    def _on_bye(self, message: Message) -> None:
        link = message.link
        if not message.of_this_incarnation:
            self._accept(message)
            return
        self._send(link, Kind.PONG, route=message.route, slot=message.header.slot)
        if not link.closed:
            reason = messages.decode_reason(message.payload)
            self._end(link, f"peer {link.peer} has left: {reason}")
            self._queue.put(events.Left(link.peer, reason))

    def _on_row(self, message: Message) -> None:
        if self._accept(message):
            whole, due = message.link.chunk(message.header, message.payload)
            if due is not None:
                self._acknowledge(message.link)
            if whole is not None:
                self._queue.put(events.Arrived(message.link.peer, message.header, whole))

    def _on_credit(self, message: Message) -> None:
        if self._accept(message):
            message.link.stream.credit(message.header.total, self._clock())

    def _on_pong(self, message: Message) -> None:
        if self._accept(message):
            if self.ours.role == "check":
                self._queue.put(events.Ponged(message.link.peer))
            else:
                self.closing.acknowledge(message.link.peer, message.header.slot)

    def _accept(self, message: Message) -> bool:
        """Whether a message belongs to an open link; note the traffic, or answer that the link is closed.

        Raises RemoteProtocolError where the neighbour has not sent HELLO, or the run is another.
        """
        link = message.link
        if link.closed:
            self._send(link, Kind.REFUSED, messages.encode_reason(link.closed), route=message.route)
            return False
        if link.hello is None or message.header.run != self._run:
            raise RemoteProtocolError(f"peer {link.peer} sent {message.header.kind.name} before its HELLO", link.peer)
        if message.identity is not None and message.of_this_incarnation:
            self.connections.still_accepted(link, message.identity)
        self._note_traffic(message)
        return True

    def _note_traffic(self, message: Message) -> None:
        link = message.link
        if link.closed or not message.of_this_incarnation:
            return
        now = self._clock()
        self.liveness.note_traffic(link.peer, now)
        if link.note_progress(message.header.progress, now):
            self._queue.put(events.Progressed(link.peer, message.header.progress))

    def _may_rejoin(self, link: Link, theirs: Hello) -> bool:
        """Whether a HELLO comes from a neighbour that never came, or was lost, and may take part now."""
        training = self.progress.phase in (Phase.TRAIN, Phase.EXCHANGE)
        both_peers = theirs.role == self.ours.role == "peer"
        if not (self.accepts_rejoining and training and both_peers):
            return False
        return bool(link.closed) if link.hello is None else theirs.incarnation > link.hello.incarnation

    def _reopen(self, link: Link) -> None:
        if not link.closed:
            self._queue.put(events.Left(link.peer, "it was started again"))
        link.reopen()
        self.liveness.forget(link.peer)
        self._credit_due.discard(link.peer)
        self.connections.dial(link)

    def _end(self, link: Link, reason: str) -> None:
        """Close the link to a neighbour that died or left; before the run has begun, it may come back as if new."""
        if self.progress.phase is Phase.START:
            self.liveness.forget(link.peer)
            link.forget()
        else:
            self.close_link(link.peer, reason)

    # Sending --------------------------------------------------------------------------------------------------

    def _send(self, link: Link, kind: Kind, payload: bytes = b"", route: Route | None = None, slot: int = 0,
              total: int = 0) -> bool:
        """Send a control message ahead of the rows that wait; False where it cannot be sent now."""
        frame = messages.encode(replace(self.header(kind), slot=slot, total=total), payload)
        if not (route or self.connections.route(link))(frame):
            return False
        link.stream.count_sent(frame)
        return True

    def _greet(self, link: Link, kind: Kind, route: Route) -> bool:
        return self._send(link, kind, messages.encode_body(self.ours.body()), route=route, slot=link.stream.restarts)

    def _acknowledge(self, link: Link) -> None:
        """Send a CREDIT, later where the connection is full of rows: without it the neighbour may wait without end."""
        if self._send(link, Kind.CREDIT, total=link.stream.receiver.total):
            self._credit_due.discard(link.peer)
        else:
            self._credit_due.add(link.peer)

    def _say_bye(self, link: Link) -> None:
        nonce = self._next_nonce()
        if self._send(link, Kind.BYE, messages.encode_reason(self.closing.reason or ""), slot=nonce):
            self.closing.sent(link.peer, nonce)

    def _said_goodbye(self, link: Link) -> bool:
        """Whether a neighbour has read all that we sent, or has ended. Sends BYE once nothing else waits."""
        if self.closing.gone(link.peer, self.connections.connected(link.peer), self._clock()):
            return True
        if not link.stream.idle or self.ours.role == "check":
            return link.stream.idle
        if not self.closing.was_sent(link.peer):
            self._say_bye(link)
        return self.closing.acknowledged(link.peer)

    def _next_nonce(self) -> int:
        self._nonce = (self._nonce + 1) % 2**32
        return self._nonce

    # What the connections report --------------------------------------------------------------------------------

    def send_hello(self, link: Link, route: Route) -> bool:
        """Send HELLO over a new connection (connections.Handler)."""
        return self._greet(link, Kind.HELLO, route)

    def hello_sent(self, link: Link) -> None:
        """Repeat the CREDIT that may have been lost with another connection (connections.Handler)."""
        if link.up and link.stream.receiver.total:
            self._acknowledge(link)

    def connection_lost(self, link: Link, carrier: bool) -> None:
        """Restart the stream of rows if it went over that connection (connections.Handler)."""
        self.closing.connection_lost(link.peer)
        if carrier and link.up:
            link.stream.restart()

    def refused(self, link: Link, reason: str, by_us: bool) -> None:
        """Report a refusal (connections.Handler)."""
        self._complaints.refused(link.peer, reason, by_us=by_us)

    def offended(self, peer: int, reason: str) -> None:
        """Report an offence (connections.Handler)."""
        self._complaints.offended(peer, reason)

    def trouble(self, peer: int | None, reason: str, kind: str = "") -> None:
        """Report trouble (connections.Handler)."""
        self._complaints.trouble(peer, reason, kind)
