"""The Mixer between processes: one hosted row, its neighbours behind ZeroMQ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from queue import Empty

from torch import Tensor

from p2pser.base.errors import LocalProtocolError, P2PSERError, RefusedError, RemoteProtocolError
from p2pser.gossip.mixer import Edges, Inbox, Outbox, Step, edges_into, inbox_of, mix_by_flows
from p2pser.gossip.partial import Parts
from p2pser.gossip.timetable import Timetable
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus, Exchange, Outcome
from p2pser.network.io import IOThread
from p2pser.topology.mixing import weight
from p2pser.topology.spec import Topology
from p2pser.wire.codec import DENSE, Codec, codec
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Buffer, Header, Phase, Progress

COMPANY = 3.0
"""Seconds for which a peer that finds a run going on waits for its other neighbours; later ones come back too."""
LAST_WORDS = 3.0
"""Seconds for which a peer that nobody admits stays, so that its neighbours find out too, and why."""

EventHook = Callable[[events.Event], None]


class NetworkMixer:
    """Carries one peer's rows to its neighbours (gossip.mixer.Mixer).

    clips: how many we have, where W weighs by clips (on static undirected graphs, and at the end). slots, rounds: see
    ``gossip.timetable.Timetable``.
    observe: sees every event of the network, in order (telemetry). check: called whenever this thread looks up while
    it waits; may raise, which ends the waiting (signals).
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
        self.hellos: dict[int, Hello] = {}
        self.lost: dict[int, str] = {}
        """Neighbours that are out for good, and why."""
        self.payload_posted = 0
        """Bytes of rows and messages handed over for sending, counted once for each neighbour."""
        self.left_out: list[tuple[Step, int, DeliveryStatus]] = []
        """Exchanges that went on without a neighbour."""
        self.interceptor: Callable[[int, Header, memoryview], bool] | None = None
        """Asked first about every message that comes; True where it took it (asynchronous algorithms)."""
        self._parts: Parts | None = None
        self._schema = schema
        self._mark = bytes.fromhex(schema.digest())[:8]
        self._clips = clips
        self._timetable = Timetable(topology, slots, rounds)
        self._sent: tuple[Step, tuple[int, ...]] | None = None
        """The last exchange of a schedule that we posted, and to whom."""
        self._unread: tuple[Step, tuple[int, ...]] | None = None
        """The one before it: its receivers must have read it before the last one ends."""
        self._observe, self._check, self._clock = observe, check, clock
        self._refused: dict[int, tuple[str, float]] = {}
        self._met: dict[int, Progress] = {}
        self._phase = Phase.START
        self._at = Step(-(2**31), 0)
        self._beat = 0
        self._begun = False

    # The verbs ----------------------------------------------------------------------------------------------

    def edges(self, at: Step) -> Edges:
        """The edges from all sources; a dead one's weight goes home when it delivers nothing."""
        return edges_into({(self.me, j): weight for j, weight in self._weights(at).items()})

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """To whom we send at a step, ascending, those that are out left out."""
        t = self._timetable.exchange(at)
        receivers = self.neighbours if t is None else self.topology.receivers(peer, t)
        return tuple(j for j in receivers if j not in self.lost)

    def post(self, at: Step, out: Outbox) -> None:
        """Queue the messages of a step for all living receivers."""
        self._begun = True
        self._at = at
        alive = self.receivers(self.me, at)
        if self._changes(at):
            self._sent, self._unread = (at, alive), self._sent
        if out.rows is not None:
            # The row is ours to keep: a late flow may need it as it was, and buffers in flight must not change.
            own = out.rows[0].detach().clone()
            weights = {j: weight for j, weight in self._weights(at).items() if j not in self.lost}
            self.exchange.post(at, own, weights, alive)
            self._send_row(alive, at, own, out.codec)
            return
        self.exchange.post(at, None, {})
        shared: dict[int, tuple[Tensor | bytes, list[int]]] = {}
        for (_, j), value in (out.edges or {}).items():
            if j in alive:
                shared.setdefault(id(value), (value, []))[1].append(j)
        for value, peers in shared.values():
            if isinstance(value, Tensor):
                self._send_whole(peers, at, value.detach().clone(), out.codec)
            else:
                self.payload_posted += len(value) * len(peers)
                self.io.send(peers, at, value, unmixed=self.exchange.unmixed)

    def collect(self, at: Step) -> Inbox:
        """Wait until each source has delivered, is lost, has skipped the step or is given up."""
        self._at = at
        if self._phase is Phase.TRAIN:
            self._enter(Phase.EXCHANGE)
        self._report()
        weights, changes = self._weights(at), self._changes(at)
        if changes and self._unread is not None:
            self.exchange.begin(at, weights, self._unread[1], self._unread[0])
        else:
            self.exchange.begin(at, weights)
        outcome = self._wait()
        if changes:
            # Who sent to us may have no row from us in the next exchange, and waits until we are past this one.
            self._at = Step(at.round, at.slot + 1)
            self._report()
            self.io.announce_progress(j for j in weights if j not in self.lost)
        for j, status in outcome.missing:
            self.left_out.append((at, j, status))
        edges = edges_into({(self.me, j): weight for j, weight in weights.items()})
        return inbox_of(edges, {(self.me, j): value for j, value in outcome.values}, outcome.late)

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Row i becomes sum_j W_ij x_j over those that delivered.

        Raises LocalProtocolError where the rows of W do not sum to 1, as the simulator does.
        """
        self._timetable.require_average(at)
        return mix_by_flows(self, rows, at, codec)

    # Around the verbs ---------------------------------------------------------------------------------------

    def connect(self, start_timeout: float | None, refused_wait: float, say: Callable[[str], None]) -> None:
        """Wait until every neighbour has said a fitting HELLO; ``say`` hears for whom we wait whenever that changes.

        A neighbour that does not fit has ``refused_wait`` seconds to come back corrected, then the run goes on
        without it. After ``start_timeout`` seconds it goes on without those who are missing; after ``COMPANY`` where
        neighbours are training already, and who is missing may come later. Raises RefusedError where no neighbour fits,
        P2PSERError where none has come.
        """
        begun, said, found = self._clock(), "", None
        while True:
            self._check()  # also for what was asked before anybody could wake us
            missing = [j for j in self.neighbours if j not in self.hellos]
            if not missing:
                break
            now = self._clock()
            last_words = max((at for _, at in self._refused.values()), default=now) + LAST_WORDS
            nobody_fits = len(self._refused) == len(self.neighbours)
            if nobody_fits and now >= last_words:
                raise RefusedError("; ".join(dict.fromkeys(reason for reason, _ in self._refused.values())))
            waiting = [j for j in missing if j not in self._refused]
            grace = max((at + refused_wait for _, at in self._refused.values()), default=now)
            limit = begun + start_timeout if start_timeout is not None else None
            if self.training():
                found = now if found is None else found
                limit = found + COMPANY
            if (limit is not None and now >= limit) or (not waiting and not nobody_fits and now >= grace):
                break
            sentence = _waiting_for(waiting, [j for j in missing if j in self._refused])
            if sentence != said:
                say(sentence)
                said = sentence
            over = last_words if nobody_fits else grace if not waiting else None
            ends = [moment for moment in (limit, over) if moment is not None]
            self._take(min(ends) - now if ends else None)
        if self.training():
            return
        self.without_missing()
        if len(self.lost) == len(self.neighbours) and self.neighbours:
            raise P2PSERError(f"no neighbour of peer {self.me} came within {start_timeout} s: "
                              f"start peers {', '.join(map(str, self.neighbours))}, or wait longer (--start-timeout)")

    def training(self) -> tuple[int, ...]:
        """The neighbours that were training already when they said HELLO: the run goes on, and one may join it."""
        return tuple(j for j in sorted(self.hellos) if self._met[j].phase in (Phase.TRAIN, Phase.EXCHANGE))

    def without_missing(self) -> None:
        """The run begins, without the neighbours that have not come."""
        self._begun = True
        for j in self.neighbours:
            if j not in self.hellos:
                self._lose(j, self._refused[j][0] if j in self._refused else f"peer {j} did not come in time")

    def share(self, parts: Parts) -> None:
        """Exchange parts of rows from now on."""
        self._parts = parts
        self.exchange.fit = lambda sender, own, value: parts.fit(self.me, sender, own, value)

    def enter(self, phase: Phase, round: int) -> None:
        """Say in every header from now on where this peer is."""
        if phase > Phase.EXCHANGE:
            for j in self.exchange.returning:
                self._lose(j, "it came back too late")
        self._at = Step(round, 0)
        self._enter(phase)
        self._report()

    def local_step(self, peer: int, step: int) -> None:
        """A local step is done: so that a slow peer is told from a stuck one."""
        self._beat = step + 1
        self._report()
        self._check()

    def next_round(self, round: int) -> int:
        """The round after ``round``: the next, or the one that living neighbours are in if they went on without us."""
        self._drain()
        if self.topology.schedule is not None:
            return round + 1  # there a neighbour is rightly ahead, and nobody goes far without us
        ahead = self.exchange.ahead()
        return max(round + 1, ahead.round if ahead is not None else 0)

    def send(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue one message beside the verbs; its payload must not change afterwards."""
        self._begun = True
        self.payload_posted += len(payload)
        self.io.send([peer], at, payload, codec=form, size=size,
                        schema=self._mark if size == self._schema.size else b"")

    def listen(self, timeout: float | None = 0.0) -> None:
        """Handle what has come; where nothing has, wait at most ``timeout`` seconds for the next (for ever: None)."""
        self._take(timeout)
        self._drain()

    def drop(self, peer: int, reason: str) -> None:
        """Go on without a neighbour, for good."""
        self._lose(peer, reason)

    def close(self) -> None:
        """Training is over: settle no more late rows."""
        self.exchange.close()

    def bytes_sent(self) -> int:
        """Return the bytes that went to all neighbours so far, headers included."""
        return sum(link.bytes_sent for link in self.io.traffic().values())

    def unreachable(self) -> set[int]:
        """The neighbours that are out for good."""
        return set(self.lost)

    # Inside -------------------------------------------------------------------------------------------------

    def _changes(self, at: Step) -> bool:
        """Whether an exchange is one of a schedule, where not all neighbours send and are sent to."""
        return self.topology.schedule is not None and self._timetable.exchange(at) is not None

    def _weights(self, at: Step) -> dict[int, float]:
        """W_ij of a step, by source j, ascending."""
        t = self._timetable.exchange(at)
        if t is None:
            return {j: self._weight(j) for j in self.neighbours}
        W = self.topology.matrix(t)
        return {j: float(W[self.me, j]) for j in self.topology.sources(self.me, t)}

    def _weight(self, j: int) -> float:
        degree = self.topology.graph.degree
        if self._clips is None:
            return weight(degree[self.me], degree[j])
        hello = self.hellos.get(j)
        return weight(degree[self.me], degree[j], self._clips, hello.clips) if hello is not None else 0.0

    def _send_row(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        if self._parts is None:
            self._send_whole(peers, at, row, form)
            return
        alike: dict[float, list[int]] = {}
        for j in peers:
            alike.setdefault(self._parts.widths[j], []).append(j)
        for together in alike.values():  # encoded once for all that share the same with us
            self._send_whole(together, at, self._parts.cut(self.me, together[0], row), form)

    def _send_whole(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        payload = form.encode(row)
        mark = self._mark if self._parts is None and row.numel() == self._schema.size else b""
        self.payload_posted += len(payload) * len(peers)
        self.io.send(peers, at, payload, codec=form.wire_name(row), size=row.numel(), schema=mark,
                        unmixed=self.exchange.unmixed)

    def _wait(self) -> Outcome:
        while True:
            self._drain()
            self._check()
            now = self._clock()
            outcome = self.exchange.finish(now)
            if outcome is not None:
                return outcome
            deadline = self.exchange.deadline(now)
            self._take(None if deadline is None else deadline - now)

    def _take(self, timeout: float | None) -> None:
        """Handle the next event, waiting for it at most so long (for ever: None)."""
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
            case events.Arrived(peer, header, payload):
                self.io.mark_read(peer)
                try:
                    if self.interceptor is not None and self.interceptor(peer, header, payload):
                        return
                    value = self._value(header.codec, header.size, header.schema, payload)
                except RemoteProtocolError as error:
                    event = events.Trouble(peer, str(error))
                else:
                    step = Step(header.round, header.slot)
                    self.exchange.deliver(peer, step, value, [Step(*other) for other in header.unmixed], now)
                    for other, past, own in self.exchange.resend():
                        self._send_row([other], past, own, DENSE)
            case events.Progressed(peer, progress):
                if self.exchange.progress(peer, progress, now) and self._begun:
                    # Whoever waits for one that gets on gets on itself: else patience would run out along a chain.
                    self._beat += 1
                    self._report()
            case events.Up(peer, hello, progress):
                self.hellos[peer], self._met[peer] = hello, progress
                self._refused.pop(peer, None)
                if peer in self.lost:
                    self._observe(event)
                    self._return(peer, hello)
                    return
            case events.Refused(peer, reason, by_us):
                if not self._begun:
                    # The first time counts: who is refused dials again and again.
                    self._refused[peer] = (reason, self._refused[peer][1] if peer in self._refused else now)
                    self.hellos.pop(peer, None)
                elif not by_us:
                    self._lose(peer, reason)
            case events.Died(peer, silence):
                self._gone(peer, f"silent for {silence:.1f} s")
            case events.Left(peer, reason):
                self._gone(peer, reason)
            case events.Paused():
                self.exchange.resume_waiting(now)
            case events.Failed(error):
                raise LocalProtocolError(f"the I/O thread failed: {type(error).__name__}: {error}") from error
            case _:
                pass
        self._observe(event)

    def _value(self, form: str, size: int, mark: bytes, payload: memoryview) -> Tensor | bytes:
        if mark not in (b"", self._mark):
            raise RemoteProtocolError("a row of another model's schema came")
        return codec(form).decode(payload, size) if form else bytes(payload)

    def _gone(self, peer: int, reason: str) -> None:
        if self._begun:
            self._lose(peer, reason)
        else:
            self.hellos.pop(peer, None)  # it can come back until the run begins

    def _lose(self, peer: int, reason: str) -> None:
        if peer not in self.lost:
            self.lost[peer] = reason
            self.exchange.lost(peer)
            life = self.hellos[peer].incarnation if peer in self.hellos else None
            self.io.drop(peer, f"peer {self.me} goes on without peer {peer}: {reason}", life)

    def _return(self, peer: int, hello: Hello) -> None:
        """A neighbour that was lost, or never came, wants to take part from now on."""
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


def _waiting_for(silent: list[int], refused: list[int]) -> str:
    parts = [f"waiting for {_peers(silent)}" if silent else "",
             f"waiting for {_peers(refused)} to come back corrected" if refused else ""]
    return ", ".join(part for part in parts if part)


def _peers(ids: list[int]) -> str:
    return f"peer{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"

