"""The Mixer between processes: one row here, those of the neighbours behind the I/O thread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from queue import Empty

from torch import Tensor

from p2pser.base.errors import LocalProtocolError, P2PSERError, RemoteProtocolError
from p2pser.gossip.mixer import Edges, Inbox, Outbox, Step, edges_into, inbox_of, mix_by_flows
from p2pser.gossip.partial import Parts
from p2pser.gossip.timetable import Timetable
from p2pser.graph.spec import Topology
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus, Exchange, Outcome
from p2pser.network.io import IOThread
from p2pser.network.meeting import Meeting
from p2pser.network.payloads import Payloads
from p2pser.network.weights import Weights
from p2pser.wire.codec import DENSE, Codec
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Buffer, Header, Phase, Progress

EventHook = Callable[[events.Event], None]
MessageHandler = Callable[[int, Header, memoryview], None]
"""Takes (sender, header, payload) of a message; raises RemoteProtocolError where it does not fit."""


# Over 300 lines: one whole side of the exchange. The neighbour machine will take over what it knows of neighbours.
class NetworkMixer:
    """Carries one peer's rows to its neighbours (gossip.mixer.Mixer).

    Parameters
    ----------
    io:
        The I/O thread.
    topology, me:
        The topology, and this peer's id in it.
    schema:
        The model's schema; rows of another one are refused.
    clips:
        This peer's clip count, where W weighs by clips (static undirected graphs, and the consensus); else None.
    round_timeout:
        Seconds without progress after which a neighbour is left out of an exchange.
    slots, rounds:
        As in ``gossip.timetable.Timetable``.
    observe:
        Called with every event of the network, in order.
    check:
        Called at least whenever an event ends a wait; may raise, which ends the wait (signals).
    clock:
        Returns the time [s].
    """

    def __init__(self, io: IOThread, topology: Topology, me: int, schema: Schema, *, clips: int | None,
                 round_timeout: float, slots: int = 1, rounds: int | None = None,
                 observe: EventHook = lambda event: None, check: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.io = io
        self.topology = topology
        self.me = me
        self.peers = (me,)
        self.size = topology.size
        self.neighbours = topology.neighbours(me)
        self.exchange = Exchange(me, self.neighbours, round_timeout)
        self.lost: dict[int, str] = {}
        """Neighbours that take no part any more, and why."""
        self.left_out: list[tuple[Step, int, DeliveryStatus]] = []
        """Exchanges that went on without a neighbour's message."""
        self._handlers: dict[range, MessageHandler] = {}
        """What takes the messages of these rounds; those of all others belong to exchanges."""
        self._strikes: Counter[int] = Counter()
        self._meeting = Meeting(self.neighbours)
        self._payloads = Payloads(io, me, schema, self.exchange.unmixed)
        self._timetable = Timetable(topology, slots, rounds)
        self._weights = Weights(topology, me, self._timetable, clips, self._meeting.hellos)
        self._sent: tuple[Step, tuple[int, ...]] | None = None
        """The last exchange of a schedule that we posted, and its receivers."""
        self._unread: tuple[Step, tuple[int, ...]] | None = None
        """The one before, which its receivers must have read before the last one ends."""
        self._observe, self._check, self._clock = observe, check, clock
        self._phase = Phase.START
        self._at = Step(-(2**31), 0)
        self._beat = 0
        """Counts our progress within the phase: local steps, and the progress of neighbours that we wait for."""
        self._begun = False

    @property
    def hellos(self) -> dict[int, Hello]:
        """The HELLOs of the neighbours that have come."""
        return self._meeting.hellos

    @property
    def payload_posted(self) -> int:
        """Bytes of rows and messages posted, counted once for each receiver."""
        return self._payloads.posted

    # The Mixer's methods --------------------------------------------------------------------------------------

    def edges(self, at: Step) -> Edges:
        """Return the edges from all sources; a source that delivers nothing leaves its weight to our own row."""
        return edges_into({(self.me, j): weight for j, weight in self._weights.of(at).items()})

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """Return the neighbours that we send to at a step, ascending, without the lost ones."""
        t = self._timetable.exchange(at)
        receivers = self.neighbours if t is None else self.topology.receivers(peer, t)
        return tuple(j for j in receivers if j not in self.lost)

    def post(self, at: Step, out: Outbox) -> None:
        """Queue the messages of a step for all receivers that are not lost."""
        self._begun = True
        self._at = at
        alive = self.receivers(self.me, at)
        if self._weights.scheduled(at):
            self._sent, self._unread = (at, alive), self._sent
        if out.rows is not None:
            # A copy: a late flow may need the row as it was, and buffers in flight must not change.
            own = out.rows[0].detach().clone()
            weights = {j: weight for j, weight in self._weights.of(at).items() if j not in self.lost}
            self.exchange.post(at, own, weights, alive)
            self._payloads.send_row(alive, at, own, out.codec)
            return
        self.exchange.post(at, None, {})
        shared: dict[int, tuple[Tensor | bytes, list[int]]] = {}
        for (_, j), value in (out.edges or {}).items():
            if j in alive:
                shared.setdefault(id(value), (value, []))[1].append(j)
        for value, peers in shared.values():
            if isinstance(value, Tensor):
                self._payloads.send_whole(peers, at, value.detach().clone(), out.codec)
            else:
                self._payloads.send_bytes(peers, at, value)

    def collect(self, at: Step) -> Inbox:
        """Wait until each source has delivered, is lost, has skipped the step or is given up; return what arrived."""
        self._at = at
        if self._phase is Phase.TRAIN:
            self._enter(Phase.EXCHANGE)
        self._report()
        weights, scheduled = self._weights.of(at), self._weights.scheduled(at)
        if scheduled and self._unread is not None:
            self.exchange.begin(at, weights, self._unread[1], self._unread[0])
        else:
            self.exchange.begin(at, weights)
        outcome = self._wait()
        if scheduled:
            # Our sources wait until we are past this exchange, and may be sent nothing in the next one.
            self._at = Step(at.round, at.slot + 1)
            self._report()
            self.io.announce_progress(j for j in weights if j not in self.lost)
        for j, status in outcome.missing:
            self.left_out.append((at, j, status))
        edges = edges_into({(self.me, j): weight for j, weight in weights.items()})
        return inbox_of(edges, {(self.me, j): value for j, value in outcome.values}, outcome.late)

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Return sum_j W_ij x_j over the sources j that delivered.

        Raises LocalProtocolError where the rows of W do not sum to 1, as the simulator does.
        """
        self._timetable.require_average(at)
        return mix_by_flows(self, rows, at, codec)

    # Beside the Mixer's methods --------------------------------------------------------------------------------

    def connect(self, start_timeout: float | None, refused_wait: float, say: Callable[[str], None]) -> None:
        """Wait until every neighbour has sent a HELLO that fits, or the time is over.

        Where neighbours train already, the others are waited for only shortly, and may still come later.

        start_timeout, refused_wait : as for ``Meeting.begin``.
        say : called with a sentence whenever the awaited neighbours change.

        Raises RefusedError where no neighbour fits, P2PSERError where none has come in time.
        """
        said = ""
        self._meeting.begin(self._clock(), start_timeout, refused_wait)
        while True:
            self._check()  # a signal may have arrived before it could wake this thread
            wait = self._meeting.wait(self._clock())
            if wait is None:
                break
            if wait.sentence != said:
                say(wait.sentence)
                said = wait.sentence
            self._next_event(None if wait.until is None else wait.until - self._clock())
        if self.training():
            return
        self.without_missing()
        if len(self.lost) == len(self.neighbours) and self.neighbours:
            raise P2PSERError(f"no neighbour of peer {self.me} came within {start_timeout} s: "
                              f"start peers {', '.join(map(str, self.neighbours))}, or wait longer (--start-timeout)")

    def training(self) -> tuple[int, ...]:
        """Return the present neighbours that train, as far as we know: the run goes on, and a peer may join it."""
        return tuple(j for j in self._meeting.training() if j not in self.lost)

    def without_missing(self) -> None:
        """Begin the run without the neighbours that have not come."""
        self._begun = True
        for j in self._meeting.missing():
            self._lose(j, self._meeting.why_missing(j))

    def share(self, parts: Parts) -> None:
        """Exchange only parts of rows from now on."""
        self._payloads.parts = parts
        self.exchange.fit = lambda sender, own, value: parts.fit(self.me, sender, own, value)

    def enter(self, phase: Phase, round: int) -> None:
        """Enter a phase; every header from now on says so."""
        if phase > Phase.EXCHANGE:
            for j in self.exchange.returning:
                self._lose(j, "it came back too late")
        self._at = Step(round, 0)
        self._enter(phase)
        self._report()

    def local_step(self, peer: int, step: int) -> None:
        """Report a finished local step, so that neighbours can tell a slow peer from a stuck one."""
        self._beat = step + 1
        self._report()
        self._check()

    def next_round(self, round: int) -> int:
        """Return the round to go on with: the next, or a later one if living neighbours went on without us."""
        self._drain()
        if self.topology.schedule is not None:
            return round + 1  # a neighbour may rightly be ahead, and the window bounds by how much
        ahead = self.exchange.ahead()
        return max(round + 1, ahead.round if ahead is not None else 0)

    def on(self, rounds: int | range, handler: MessageHandler) -> None:
        """Let ``handler`` take the messages of these rounds from now on, instead of the exchanges.

        Register it before ``connect``: a neighbour that trains already may send while this peer waits for others.
        """
        self._handlers[range(rounds, rounds + 1) if isinstance(rounds, int) else rounds] = handler

    def strike(self, peer: int, reason: str) -> None:
        """Count a message of a neighbour that did not fit what was due; the message is treated as missing."""
        self._strikes[peer] += 1
        self._observe(events.Struck(peer, reason, self._strikes[peer]))

    def send(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue a message that belongs to no exchange.

        Parameters
        ----------
        peer, at:
            The receiver, and the step that names the message.
        payload:
            The bytes; they must not change afterwards.
        form, size:
            Wire name of the codec and number of elements, where it is an encoded row; else "" and 0.
        """
        self._payloads.send_message(peer, at, payload, form, size)

    def listen(self, timeout: float | None = 0.0) -> None:
        """Handle all events; where there is none, wait at most ``timeout`` seconds for one (None: without limit)."""
        self._next_event(timeout)
        self._drain()

    def drop(self, peer: int, reason: str) -> None:
        """Go on without a neighbour from now on."""
        self._lose(peer, reason)

    def close(self) -> None:
        """Settle no more late rows: training is over."""
        self.exchange.close()

    def bytes_sent(self) -> int:
        """Return the bytes sent to all neighbours so far, headers included."""
        return sum(link.bytes_sent for link in self.io.traffic().values())

    def unreachable(self) -> set[int]:
        """Return the neighbours that take no part any more."""
        return set(self.lost)

    # Inside -------------------------------------------------------------------------------------------------

    def _wait(self) -> Outcome:
        while True:
            self._drain()
            self._check()
            now = self._clock()
            outcome = self.exchange.finish(now)
            if outcome is not None:
                return outcome
            deadline = self.exchange.deadline(now)
            self._next_event(None if deadline is None else deadline - now)

    def _next_event(self, timeout: float | None) -> None:
        """Handle the next event, waiting for it at most ``timeout`` seconds (None: without limit)."""
        try:
            event = self.io.events.get(timeout=None if timeout is None else max(0.0, timeout))
        except Empty:
            return
        self._handle(event)
        self._check()

    def _drain(self) -> None:
        while True:
            try:
                event = self.io.events.get_nowait()
            except Empty:
                return
            self._handle(event)

    def _handle(self, event: events.Event) -> None:
        now = self._clock()
        match event:
            case events.Arrived():
                self._arrived(event, now)
                return  # the hot path: no observer needs each message
            case events.Progressed(peer, progress):
                self._meeting.progressed(peer, progress)
                if self.exchange.progress(peer, progress, now) and self._begun:
                    # A peer that waits for one that makes progress reports progress itself: else its own neighbours
                    # would give it up, and timeouts would spread along a chain.
                    self._beat += 1
                    self._report()
            case events.Up(peer, hello, progress):
                self._meeting.came(peer, hello, progress)
                if peer in self.lost:
                    self._observe(event)
                    self._return(peer, hello)
                    return
            case events.Offended(peer, reason):
                self.strike(peer, reason)
            case events.Refused(peer, reason, by_us):
                if not self._begun:
                    self._meeting.refused(peer, reason, now)
                elif not by_us:
                    self._lose(peer, reason)
            case events.Died(peer, silence):
                self._ended(peer, f"silent for {silence:.1f} s")
            case events.Left(peer, reason):
                self._ended(peer, reason)
            case events.Paused():
                self.exchange.resume_waiting(now)
            case events.Failed(error):
                raise LocalProtocolError(f"the I/O thread failed: {type(error).__name__}: {error}") from error
            case _:
                pass
        self._observe(event)

    def _arrived(self, event: events.Arrived, now: float) -> None:
        """Deliver a message to its handler, or to the exchange."""
        peer, header, payload = event.peer, event.header, event.payload
        self.io.mark_read(peer)
        try:
            for rounds, handle in self._handlers.items():
                if header.round in rounds:
                    handle(peer, header, payload)
                    return
            value = self._payloads.read(header, payload)
        except RemoteProtocolError as error:
            self.strike(peer, str(error))
            return
        self.exchange.deliver(peer, Step(header.round, header.slot), value, [Step(*step) for step in header.unmixed],
                              now)
        for receiver, step, row in self.exchange.resend():
            self._payloads.send_row([receiver], step, row, DENSE)

    def _ended(self, peer: int, reason: str) -> None:
        if self._begun:
            self._lose(peer, reason)
        else:
            self._meeting.gone(peer)

    def _lose(self, peer: int, reason: str) -> None:
        if peer not in self.lost:
            self.lost[peer] = reason
            self.exchange.lost(peer)
            incarnation = self.hellos[peer].incarnation if peer in self.hellos else None
            self.io.drop(peer, f"peer {self.me} goes on without peer {peer}: {reason}", incarnation)

    def _return(self, peer: int, hello: Hello) -> None:
        """Let a neighbour that was lost, or never came, take part, unless training is over."""
        if self._phase > Phase.EXCHANGE:
            self.io.drop(peer, f"the run of peer {self.me} is at its end: take its model", hello.incarnation)
            return
        del self.lost[peer]
        self.exchange.returned(peer)
        self._observe(events.Rejoined(peer))

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._beat = 0

    def _report(self) -> None:
        self.io.progress = Progress(self._at.round, self._at.slot, self._phase, self._beat)
