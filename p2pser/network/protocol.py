"""The protocol between neighbours: how a peer answers each message, and what it sends unasked.

Used by the I/O thread only. The state of a neighbour is in neighbour.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from queue import SimpleQueue
from typing import NamedTuple

import zmq

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import NetworkSettings
from p2pser.network import events
from p2pser.network.awake import PAUSE_AFTER, AwakeClock
from p2pser.network.complaints import Complaints
from p2pser.network.connections import Connections, Route
from p2pser.network.control import APART, NOTICE, Control
from p2pser.network.farewell import Farewell
from p2pser.network.keys import KeyPair
from p2pser.network.neighbour import DIALLED, TWICE, Contact, Neighbour, Ours, Patience
from p2pser.network.states import Cause, State
from p2pser.network.stream import Outgoing, Stream
from p2pser.wire import hello, messages
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Kind, Phase

TICK = 0.25
"""Longest time between two ticks [s]: a longer gap means that this process did not run."""
REDIAL_LOST = 5.0
"""Seconds after which a silent neighbour is dialled anew: its old connection may be half open for minutes."""


class Message(NamedTuple):
    """A message of a neighbour. ``route`` answers over its ``connection``: DIALLED, or an accepted one's identity."""

    link: Neighbour
    header: Header
    payload: memoryview
    route: Route
    connection: bytes


class PeerProtocol:
    """One peer's side of the protocol, with all its neighbours (connections.Handler).

    Parameters
    ----------
    hello, keys, contacts : our HELLO, our CURVE key pair, and the neighbours' addresses and keys.
    settings, max_row_bytes : the network settings, and the largest accepted payload [B].
    queue : takes the events for the training thread.
    clock : returns the time [s].
    connections : creates the connections.
    """

    def __init__(self, hello: Hello, keys: KeyPair, contacts: Iterable[Contact], settings: NetworkSettings,
                 max_row_bytes: int, queue: SimpleQueue[events.Event], clock: Callable[[], float] = time.monotonic,
                 connections: type[Connections] = Connections) -> None:
        self.ours = Ours()
        patience = Patience(settings.ping_after, settings.suspect_after, settings.dead_after)
        self.neighbours = {
            contact.peer: Neighbour(contact, self.ours, patience, Stream(settings.chunk_bytes, max_row_bytes),
                                    settings.strikes)
            for contact in contacts}
        self.connections = connections(hello.peer, keys, self.neighbours, settings, clock, self, hello.epoch)
        self._clock, self._queue = clock, queue
        self._awake = AwakeClock(min(PAUSE_AFTER, settings.dead_after / 2))
        self.control = Control(hello, self.ours, self.connections)
        self.farewell = Farewell(self.neighbours.values(), self.control, self.connections, clock, hello.role)
        self._redial_at: dict[int, float] = {}
        self._due, self._changed = -math.inf, True
        """When silence next changes a state [s], unless a neighbour's state has changed since."""
        self._complaints = Complaints(self.neighbours, queue, clock, self.strike)
        self._handlers: dict[Kind, Callable[[Message], None]] = {
            Kind.HELLO: self._on_hello, Kind.WELCOME: self._on_hello, Kind.REFUSED: self._on_refused,
            Kind.PING: self._on_ping, Kind.PONG: self._on_pong, Kind.BYE: self._on_bye, Kind.ROW: self._on_row,
            Kind.CREDIT: self._on_credit}

    # Commands of the I/O thread -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due by the clock: dial again, ping silent neighbours, report suspected and lost ones."""
        now = self._clock()
        self.connections.maintain()
        paused = self._awake.tick(now)
        if paused:
            for link in self.neighbours.values():
                link.paused(self._awake.time(now))
            self._queue.put(events.Paused(paused))
        if paused or self._changed or now >= self._due:
            self._changed = False  # first: the ticks may set it again
            for link in self.neighbours.values():
                self._tick(link, now)
            # Messages of a neighbour meanwhile only postpone what is due.
            due = min((at for link in self.neighbours.values() for at in link.due()), default=math.inf)
            self._due = min(now + TICK, self._awake.at(due))

    def _tick(self, link: Neighbour, now: float) -> None:
        changes, ping = link.tick(self._awake.time(now))
        self._apply(changes)
        link.told.tell(self._queue)
        if ping:
            self.control.ping(link)
        broken = link.broken(self._awake.time(now), REDIAL_LOST)
        if broken and now >= self._redial_at.setdefault(link.peer, now + REDIAL_LOST):
            self._redial_at[link.peer] = now + REDIAL_LOST
            self.connections.dial(link)

    def next_due(self) -> float:
        """Return the time by which ``tick`` must be called next [s]."""
        return self._clock() if self._changed else min(self._awake.due(self._clock()), self._due)

    def pump(self, link: Neighbour) -> None:
        """Send rows for as long as there is credit and the connection accepts them."""
        self.control.acknowledge_due(link)
        while link.up and (frame := link.stream.next_frame()) is not None:
            if not self.connections.route(link)(frame):
                return
            link.stream.sent(frame, self._clock())

    def queue_rows(self, rows: Iterable[tuple[int, Outgoing]]) -> None:
        """Queue a row for each of these neighbours that is up."""
        for peer, row in rows:
            if self.neighbours[peer].up:
                self.neighbours[peer].stream.queue(row)

    def send_progress(self, peers: Iterable[int]) -> None:
        """Send neighbours our progress, by a PONG without a PING."""
        for peer in peers:
            if self.neighbours[peer].up:
                self.control.send(self.neighbours[peer], Kind.PONG)

    def begin(self, joining: bool) -> None:
        """Begin our run: a missing neighbour is LOST from now on."""
        self.ours.begun = True
        for link in self.neighbours.values():
            self._apply(link.begin(joining))
        self._queue.put(events.Begun())

    def admit(self, admits: bool, lockstep: bool, progress_counts: Collection[Phase]) -> None:
        """Let neighbours join from now on, or not; those that were left unanswered are sent HELLO."""
        self.ours.admits, self.ours.lockstep, self.ours.progress_counts = admits, lockstep, progress_counts
        for link in self.neighbours.values():
            if admits and link.hello is None:
                self.control.greet(link, Kind.HELLO, self.connections.route(link))

    def drop(self, peer: int, reason: str, incarnation: int | None) -> None:
        """Go on without a neighbour; with ``incarnation``, only if that is still the present one."""
        self._apply(self.neighbours[peer].drop(reason, incarnation))

    def apart(self, peer: int, reason: str) -> None:
        """Do not wait for a neighbour until its row arrives."""
        self._apply(self.neighbours[peer].happens(Cause.APART, reason))

    def strike(self, peer: int, reason: str) -> None:
        """Count an invalid message of a neighbour (listening.Reporter)."""
        link = self.neighbours[peer]
        if link.state is State.BANNED:
            return
        changes = link.strike(reason)
        self._queue.put(events.Struck(peer, reason, link.strikes))
        self._apply(changes)

    # Messages -------------------------------------------------------------------------------------------------

    def received(self, link: Neighbour, frame: zmq.Frame, route: Route, connection: bytes) -> None:
        """Handle a neighbour's message (connections.Handler)."""
        try:
            header, payload = messages.decode(frame.buffer)
            if header.sender != link.peer:
                raise RemoteProtocolError(f"peer {link.peer} sent a message in peer {header.sender}'s name", link.peer)
            if link.state is State.REFUSED:
                link.refusal(self._awake.time(self._clock()))
            if self._complaints.lets_pass(link.peer, header.kind, len(payload)):
                self._handlers[header.kind](Message(link, header, payload, route, connection))
        except RemoteProtocolError as error:
            self.strike(link.peer, str(error))

    def _on_hello(self, message: Message) -> None:
        link, header, _, route, connection = message
        theirs = hello.parse(messages.decode_body(message.payload), link.peer)
        difference = hello.difference(self.control.hello, theirs)
        if "check" in (theirs.role, self.control.hello.role):
            self._check(message, theirs, difference)
            return
        known, lives = link.hello, link.lives
        reason, changes = link.greeted(theirs, header.slot, difference, self._awake.time(self._clock()), connection)
        anew = link.lives > lives  # also where it was LOST meanwhile, and the restart changes no state
        restarted = anew and lives > 0
        if restarted:
            self.control.forget(link)
        if restarted and connection != DIALLED:
            self.connections.dial(link)  # the dialled connection may still lead to its former process
        elif restarted:
            self.control.greet(link, Kind.HELLO, route)
        if reason is not None:
            self._apply(changes)
            if reason:
                self._refuse(link, theirs, reason, route)
            if TWICE in reason:  # the first process must know too
                self.control.refuse(link, reason, notice=True)
            return
        self.connections.accept(link, connection)
        if header.kind is Kind.HELLO:
            self.control.greet(link, Kind.WELCOME, route)
        self._apply(change for change in changes if change.cause is Cause.RESTART)
        self._queue.put(events.Up(link.peer, theirs, header.progress) if known is None or anew else
                        events.Agreed(link.peer, theirs))
        self._apply(change for change in changes if change.cause is not Cause.RESTART)
        self._note_apart(message)

    def _check(self, message: Message, theirs: Hello, difference: str | None) -> None:
        """Answer the HELLO of a checking peer, or take the answer to our own check; neither peer takes part."""
        link, header, _, route, connection = message
        if difference is not None:
            self._refuse(link, theirs, difference, route)
            return
        if header.kind is Kind.HELLO:
            self.control.greet(link, Kind.WELCOME, route)
        if self.control.hello.role == "check":
            link.hello = theirs
            self.connections.accept(link, connection)
            self._queue.put(events.Up(link.peer, theirs, header.progress))

    def _on_refused(self, message: Message) -> None:
        reason = messages.decode_reason(message.payload)
        if message.header.slot == NOTICE:
            self.trouble(message.link.peer, reason, "notice")
        elif not message.link.of_ended_incarnation(message.header):
            older = message.header.run == self.control.run and message.header.epoch < self.control.hello.epoch
            self.refused(message.link, reason, by_us=False, older=older, key=False)

    def _on_ping(self, message: Message) -> None:
        link = message.link
        if link.state is State.BANNED:
            self.control.refuse(link, link.reason, message.route)
            return
        self.control.pong(link, message.header.slot, message.route)  # also to a checking peer
        if link.of_this_incarnation(message.header, message.connection) and message.header.run == self.control.run:
            self._note_apart(message)
            self._note_traffic(message)
            self._apply(link.progressed(message.header.progress) if message.header.total != APART else ())

    def _on_pong(self, message: Message) -> None:
        if self._accept(message):
            if self.control.hello.role == "check":
                self._queue.put(events.Ponged(message.link.peer))
            else:
                self.control.ponged(message.link, message.header, self._clock())
                self._apply(message.link.progressed(message.header.progress))

    def _on_bye(self, message: Message) -> None:
        self.control.pong(message.link, message.header.slot, message.route)
        if self._accept(message):
            self._apply(message.link.said_bye(messages.decode_reason(message.payload)))

    def _on_row(self, message: Message) -> None:
        if self._accept(message):
            whole, due = message.link.stream.chunk(message.header, message.payload)
            if due is not None:
                self.control.acknowledge(message.link)
            if whole is not None:
                self._apply(message.link.row(message.header.round))
                self._queue.put(events.Arrived(message.link.peer, message.header, whole))

    def _on_credit(self, message: Message) -> None:
        if self._accept(message) and not message.link.stream.credit(message.header.total, self._clock()):
            self._complaints.says_nothing_new(message.link.peer)

    def _accept(self, message: Message) -> bool:
        """Whether a message comes from the present process of a neighbour; note the traffic."""
        link = message.link
        if link.state is State.BANNED or not link.of_this_incarnation(message.header, message.connection):
            return False  # its HELLO has not arrived yet over another connection, or its process has ended
        if message.header.run != self.control.run:
            raise RemoteProtocolError(f"peer {link.peer} sent {message.header.kind.name} of another run", link.peer)
        self.connections.still_accepted(link, message.connection)
        self._note_traffic(message)
        return True

    def _note_traffic(self, message: Message) -> None:
        link, now = message.link, self._clock()
        self._apply(link.heard(self._awake.time(now)))
        header = message.header
        part = header.kind is Kind.ROW and header.start + len(message.payload) < header.total
        if link.told.new(header.progress, now, part):
            link.told.tell(self._queue)

    def _note_apart(self, message: Message) -> None:
        # Once we have trained, a neighbour that still trains may not have read our last row, which brings us back.
        stale = self.ours.progress.phase > Phase.EXCHANGE >= message.header.progress.phase
        if message.header.total == APART and self.ours.begun and not stale:
            self._apply(message.link.happens(
                Cause.APART, f"peer {message.link.peer} goes on without peer {self.control.hello.peer}"))

    def _apply(self, changes: Iterable[events.Changed]) -> None:
        """Report changes of state, and act on them."""
        for change in changes:
            self._changed = True
            link = self.neighbours[change.peer]
            self._queue.put(change)
            if change.after is State.BANNED:
                self.control.refuse(link, link.reason)
                self.connections.bar(link.peer)
            elif change.after is State.RETURNING and change.before is State.LOST:
                self.control.ping(link)  # the PING tells it that we go on without it
            if change.after is State.LOST:
                self._redial_at.pop(link.peer, None)

    # Sending --------------------------------------------------------------------------------------------------

    def _refuse(self, link: Neighbour, theirs: Hello, reason: str, route: Route) -> None:
        self.control.refuse(link, reason, route)
        older = theirs.run == self.control.hello.run and theirs.epoch < self.control.hello.epoch
        self._complaints.refused(link.peer, reason, by_us=True, older=older)

    # Reports of the connections -----------------------------------------------------------------------------

    def send_hello(self, link: Neighbour, route: Route) -> bool:
        """Send HELLO over a new connection (connections.Handler)."""
        return self.control.greet(link, Kind.HELLO, route)

    def hello_sent(self, link: Neighbour) -> None:
        """Repeat the CREDIT that may have been lost with another connection (connections.Handler)."""
        if link.up and link.stream.receiver.total:
            self.control.acknowledge(link)

    def refused(self, link: Neighbour, reason: str, by_us: bool, older: bool = False, *, key: bool = True) -> None:
        """Note that one end does not admit the other, for its key or for another reason (connections.Handler)."""
        link.refusal(self._awake.time(self._clock()))
        self._complaints.refused(link.peer, reason, by_us=by_us, older=older, key=key)
        self._apply(link.happens(Cause.MISFIT if by_us else Cause.REFUSAL, reason))

    def trouble(self, peer: int | None, reason: str, kind: str = "") -> None:
        """Report a problem that an operator may have to mend (listening.Reporter)."""
        self._complaints.trouble(peer, reason, kind)
