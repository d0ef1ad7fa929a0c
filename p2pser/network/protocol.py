"""The protocol between neighbours: how a peer answers each message, and what it sends on its own.

Used by the I/O thread only. What is known of a neighbour is in neighbour.py.
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
from p2pser.network.neighbour import TWICE, Contact, Neighbour, Ours, Patience
from p2pser.network.states import Cause, State
from p2pser.network.stream import Outgoing, Stream
from p2pser.wire import hello, messages
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Kind, Phase

TICK = 0.25
"""Longest time between two looks at the clock [s]: a longer gap means that this process did not run."""
REDIAL_LOST = 5.0
"""Seconds after which a neighbour that is silent is dialled anew: its old connection may be half open for minutes."""


class Message(NamedTuple):
    """A message of a neighbour. ``route`` answers it; ``identity`` is that of an accepted connection."""

    link: Neighbour
    header: Header
    payload: memoryview
    route: Route
    identity: bytes | None


class PeerProtocol:
    """One peer's side of the protocol, with all its neighbours (connections.Handler).

    Parameters
    ----------
    hello, keys, contacts : our HELLO and CURVE key pair, and where the neighbours are.
    settings, max_row_bytes : the network settings, and the largest payload that is accepted [B].
    queue : takes the events for the training thread.
    clock : returns the time [s].
    connections : makes the connections.
    """

    def __init__(self, hello: Hello, keys: KeyPair, contacts: Iterable[Contact], settings: NetworkSettings,
                 max_row_bytes: int, queue: SimpleQueue[events.Event], clock: Callable[[], float] = time.monotonic,
                 connections: type[Connections] = Connections) -> None:
        self.ours = Ours()
        patience = Patience(settings.ping_after, settings.suspect_after, settings.dead_after)
        self.neighbours = {
            one.peer: Neighbour(one, self.ours, patience, Stream(settings.chunk_bytes, max_row_bytes), settings.strikes)
            for one in contacts}
        self.connections = connections(hello.peer, keys, self.neighbours, settings, clock, self,
                                       hello.epoch)
        self._clock, self._queue = clock, queue
        self._awake = AwakeClock(min(PAUSE_AFTER, settings.dead_after / 2))
        self.control = Control(hello, self.ours, self.connections)
        self.farewell = Farewell(self.neighbours.values(), self.control, self.connections, clock, hello.role)
        self._redial_at: dict[int, float] = {}
        self._due, self._changed = -math.inf, True
        """When silence changes something next [s], unless a neighbour's state has changed since."""
        self._complaints = Complaints(self.neighbours, queue, clock, self.strike)
        self._handlers: dict[Kind, Callable[[Message], None]] = {
            Kind.HELLO: self._on_hello, Kind.WELCOME: self._on_hello, Kind.REFUSED: self._on_refused,
            Kind.PING: self._on_ping, Kind.PONG: self._on_pong, Kind.BYE: self._on_bye, Kind.ROW: self._on_row,
            Kind.CREDIT: self._on_credit}

    # What the I/O thread asks for ----------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due by the clock: dial again, ping the silent, report the suspected and the lost."""
        now = self._clock()
        self.connections.maintain()
        paused = self._awake.tick(now)
        if paused:
            for link in self.neighbours.values():
                link.paused(self._awake.time(now))
            self._queue.put(events.Paused(paused))
        if paused or self._changed or now >= self._due:
            self._changed = False  # first: what follows may change more
            for link in self.neighbours.values():
                self._tick(link, now)
            # What is heard of a neighbour meanwhile only puts off what is due.
            due = min((at for link in self.neighbours.values() for at in link.due()), default=math.inf)
            self._due = min(now + TICK, self._awake.at(due))

    def _tick(self, link: Neighbour, now: float) -> None:
        changes, ping = link.tick(self._awake.time(now))
        self._tell(changes)
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
        """Queue a row for each of these neighbours that takes part."""
        for peer, row in rows:
            if self.neighbours[peer].up:
                self.neighbours[peer].stream.queue(row)

    def send_progress(self, peers: Iterable[int]) -> None:
        """Tell neighbours how far we are: by a PONG without a PING."""
        for peer in peers:
            if self.neighbours[peer].up:
                self.control.send(self.neighbours[peer], Kind.PONG)

    def begin(self, joining: bool) -> None:
        """Begin our run: a neighbour that is missing is LOST from now on."""
        self.ours.begun = True
        for link in self.neighbours.values():
            self._tell(link.begin(joining))
        self._queue.put(events.Begun())

    def admit(self, admits: bool, lockstep: bool, progress_counts: Collection[Phase]) -> None:
        """Let neighbours join from now on, or not; those that were left unanswered hear of it."""
        self.ours.admits, self.ours.lockstep, self.ours.progress_counts = admits, lockstep, progress_counts
        for link in self.neighbours.values():
            if admits and link.hello is None:
                self.control.greet(link, Kind.HELLO, self.connections.route(link))

    def drop(self, peer: int, reason: str, incarnation: int | None) -> None:
        """Go on without a neighbour; with ``incarnation``, only if it is still that one."""
        self._tell(self.neighbours[peer].drop(reason, incarnation))

    def apart(self, peer: int, reason: str) -> None:
        """Do not wait for a neighbour until a row of it comes."""
        self._tell(self.neighbours[peer].happens(Cause.APART, reason))

    def strike(self, peer: int, reason: str) -> None:
        """Count a message of a neighbour that did not fit."""
        link = self.neighbours[peer]
        if link.state is State.BANNED:
            return
        changes = link.strike(reason)
        self._queue.put(events.Struck(peer, reason, link.strikes))
        self._tell(changes)

    # Messages -------------------------------------------------------------------------------------------------

    def received(self, link: Neighbour, frame: zmq.Frame, route: Route, identity: bytes | None) -> None:
        """Handle a neighbour's message (connections.Handler)."""
        try:
            header, payload = messages.decode(frame.buffer)
            if header.sender != link.peer:
                raise RemoteProtocolError(f"peer {link.peer} sent a message in peer {header.sender}'s name", link.peer)
            if link.state is State.REFUSED:
                link.refusal(self._awake.time(self._clock()))
            if self._complaints.lets_pass(link.peer, header.kind, len(payload)):
                self._handlers[header.kind](Message(link, header, payload, route, identity))
        except RemoteProtocolError as error:
            self.strike(link.peer, str(error))

    def _on_hello(self, message: Message) -> None:
        link, header, _, route, identity = message
        theirs = hello.parse(messages.decode_body(message.payload), link.peer)
        difference = hello.difference(self.control.hello, theirs)
        if "check" in (theirs.role, self.control.hello.role):
            self._check(message, theirs, difference)
            return
        known, lives = link.hello, link.lives
        reason, changes = link.greeted(theirs, header.slot, difference, self._awake.time(self._clock()))
        anew = link.lives > lives  # also where it was LOST meanwhile, so that its end changes no state
        restarted = anew and lives > 0
        if restarted:
            self.control.forget(link)
        if restarted and identity is not None:
            self.connections.dial(link)  # the dialled connection may still lead to its former process
        elif restarted:
            self.control.greet(link, Kind.HELLO, route)
        if reason is not None:
            self._tell(changes)
            if reason:
                self._refuse(link, theirs, reason, route)
            if TWICE in reason:  # the first shall know too
                self.control.refuse(link, reason, notice=True)
            return
        self.connections.accept(link, identity)
        if header.kind is Kind.HELLO:
            self.control.greet(link, Kind.WELCOME, route)
        self._tell(change for change in changes if change.cause is Cause.RESTART)
        self._queue.put(events.Up(link.peer, theirs, header.progress) if known is None or anew else
                        events.Agreed(link.peer, theirs))
        self._tell(change for change in changes if change.cause is not Cause.RESTART)
        self._hear_apart(message)

    def _check(self, message: Message, theirs: Hello, difference: str | None) -> None:
        """Answer a peer that only checks, or the answer to our check; neither takes part."""
        link, header, _, route, identity = message
        if difference is not None:
            self._refuse(link, theirs, difference, route)
            return
        if header.kind is Kind.HELLO:
            self.control.greet(link, Kind.WELCOME, route)
        if self.control.hello.role == "check":
            link.hello = theirs
            self.connections.accept(link, identity)
            self._queue.put(events.Up(link.peer, theirs, header.progress))

    def _on_refused(self, message: Message) -> None:
        reason = messages.decode_reason(message.payload)
        if message.header.slot == NOTICE:
            self.trouble(message.link.peer, reason, "notice")
        elif not message.link.former(message.header):  # else it came a longer way than the HELLO of its successor
            older = message.header.run == self.control.run and message.header.epoch < self.control.hello.epoch
            self.refused(message.link, reason, by_us=False, older=older, key=False)

    def _on_ping(self, message: Message) -> None:
        link = message.link
        if link.state is State.BANNED:
            self.control.refuse(link, link.reason, message.route)
            return
        # Also to a peer that only checks.
        self.control.pong(link, message.header.slot, message.route)
        if link.of_this_incarnation(message.header) and message.header.run == self.control.run:
            self._hear_apart(message)
            self._note_traffic(message)
            self._tell(link.goes_on(message.header.progress) if message.header.total != APART else ())

    def _on_pong(self, message: Message) -> None:
        if self._accept(message):
            if self.control.hello.role == "check":
                self._queue.put(events.Ponged(message.link.peer))
            else:
                self.control.ponged(message.link, message.header, self._clock())
                self._tell(message.link.goes_on(message.header.progress))

    def _on_bye(self, message: Message) -> None:
        self.control.pong(message.link, message.header.slot, message.route)
        if self._accept(message):
            self._tell(message.link.said_bye(messages.decode_reason(message.payload)))

    def _on_row(self, message: Message) -> None:
        if self._accept(message):
            whole, due = message.link.stream.chunk(message.header, message.payload)
            if due is not None:
                self.control.acknowledge(message.link)
            if whole is not None:
                self._tell(message.link.row(message.header.round))
                self._queue.put(events.Arrived(message.link.peer, message.header, whole))

    def _on_credit(self, message: Message) -> None:
        if self._accept(message) and not message.link.stream.credit(message.header.total, self._clock()):
            self._complaints.says_nothing_new(message.link.peer)

    def _accept(self, message: Message) -> bool:
        """Whether a message belongs to the present incarnation of a neighbour; note the traffic."""
        link = message.link
        if link.state is State.BANNED or not link.of_this_incarnation(message.header):
            return False  # of an incarnation whose HELLO goes another way, or of a former one
        if message.header.run != self.control.run:
            raise RemoteProtocolError(f"peer {link.peer} sent {message.header.kind.name} of another run", link.peer)
        if message.identity is not None:
            self.connections.still_accepted(link, message.identity)
        self._note_traffic(message)
        return True

    def _note_traffic(self, message: Message) -> None:
        link, now = message.link, self._clock()
        self._tell(link.heard(self._awake.time(now)))
        if link.told.new(message.header.progress, now):
            link.told.tell(self._queue)

    def _hear_apart(self, message: Message) -> None:
        if message.header.total == APART and self.ours.begun:
            self._tell(message.link.happens(
                Cause.APART, f"peer {message.link.peer} goes on without peer {self.control.hello.peer}"))

    def _tell(self, changes: Iterable[events.Changed]) -> None:
        """Report changes, and act on them."""
        for change in changes:
            self._changed = True
            link = self.neighbours[change.peer]
            self._queue.put(change)
            if change.after is State.BANNED:
                self.control.refuse(link, link.reason)
                self.connections.bar(link.peer)
            elif change.after is State.RETURNING and change.before is State.LOST:
                self.control.ping(link)  # it must not wait for what we sent while it was lost
            if change.after is State.LOST:
                self._redial_at.pop(link.peer, None)

    # Sending --------------------------------------------------------------------------------------------------

    def _refuse(self, link: Neighbour, theirs: Hello, reason: str, route: Route) -> None:
        self.control.refuse(link, reason, route)
        older = theirs.run == self.control.hello.run and theirs.epoch < self.control.hello.epoch
        self._complaints.refused(link.peer, reason, by_us=True, older=older)

    # What the connections report --------------------------------------------------------------------------------

    def send_hello(self, link: Neighbour, route: Route) -> bool:
        """Send HELLO over a new connection (connections.Handler)."""
        return self.control.greet(link, Kind.HELLO, route)

    def hello_sent(self, link: Neighbour) -> None:
        """Repeat the CREDIT that may have been lost with another connection (connections.Handler)."""
        if link.up and link.stream.receiver.total:
            self.control.acknowledge(link)

    def connection_lost(self, link: Neighbour, carrier: bool) -> None:
        """Restart the stream of rows if it went over that connection (connections.Handler)."""
        link.connection_lost(carrier)

    def refused(self, link: Neighbour, reason: str, by_us: bool, older: bool = False, *, key: bool = True) -> None:
        """One end does not admit the other (connections.Handler), for its key or for another reason."""
        link.refusal(self._awake.time(self._clock()))
        self._complaints.refused(link.peer, reason, by_us=by_us, older=older, key=key)
        self._tell(link.happens(Cause.MISFIT if by_us else Cause.REFUSAL, reason))

    def offended(self, peer: int, reason: str) -> None:
        """A message is none that a neighbour sends (connections.Handler)."""
        self.strike(peer, reason)

    def trouble(self, peer: int | None, reason: str, kind: str = "") -> None:
        """Report trouble (connections.Handler)."""
        self._complaints.trouble(peer, reason, kind)
