"""The Mixer between processes: it hosts one row, and exchanges it with the neighbours through the I/O thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.gossip.mixer import Breaks, Edges, Inbox, Late, Outbox, Step, edges_into, inbox_of, mix_by_flows
from p2pser.gossip.partial import Parts
from p2pser.gossip.reading import Read, read_all
from p2pser.gossip.secrets import Secrets
from p2pser.gossip.timetable import Timetable
from p2pser.graph.spec import Topology
from p2pser.models.rows import Schema
from p2pser.network.awaited import LONGEST, Awaited
from p2pser.network.catching_up import CatchingUp
from p2pser.network.exchange import DeliveryStatus, Exchange, Outcome
from p2pser.network.io import IOThread
from p2pser.network.meeting import Meeting
from p2pser.network.own_progress import OwnProgress
from p2pser.network.roster import Roster
from p2pser.network.training_side import EventHook, MessageHandler, Payloads, Receiving
from p2pser.network.weights import Weights
from p2pser.run.setup import JUMP, lead, progress_round
from p2pser.wire.codec import DENSE, Codec, Received
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Buffer, Phase, Progress

T = TypeVar("T")

PATIENT = 4
"""Reports of progress per ``round_timeout`` of a peer that waits for a neighbour that has not begun."""


class NetworkMixer:
    """Exchanges one peer's rows with its neighbours (gossip.mixer.Mixer).

    Parameters
    ----------
    io : the I/O thread.
    topology, me : the topology, and this peer's id in it.
    schema : the model's schema; rows of another one are refused. None: ``learn`` sets it later.
    clips : this peer's clip count, where W weighs by clips (static undirected graphs, and the consensus); else None.
    round_timeout : seconds without progress after which a neighbour is left out of an exchange.
    slots, rounds : as in ``gossip.timetable.Timetable``.
    apart : as in ``network.catching_up.CatchingUp``.
    secrets : this peer's secrets for secure sums; None: the run has no secure sums.
    observe, tap : called with the events of the network, in order; with each message as it arrives.
    check : called at least whenever an event ends a wait; may raise, which ends the wait (signals).
    clock : returns the time [s].
    """

    def __init__(self, io: IOThread, topology: Topology, me: int, schema: Schema | None, *, clips: int | None,
                 round_timeout: float, slots: int = 1, rounds: int | None = None, apart: float = 8.0,
                 secrets: Secrets | None = None, observe: EventHook = lambda event: None,
                 tap: MessageHandler | None = None, check: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.io = io
        self.topology = topology
        self.me = me
        self.peers = (me,)
        self.size = topology.size
        self.neighbours = topology.neighbours(me)
        self.roster = Roster(self.neighbours)
        """The states of the neighbours, changed by the I/O thread's events only."""
        self.exchange = Exchange(me, self.roster, Awaited(round_timeout, on_its_way=apart))
        self.left_out: list[tuple[Step, int, DeliveryStatus]] = []
        """Exchanges that ended without a neighbour's message."""
        self.secrets = secrets
        self._rounds = 2**31 if rounds is None else rounds
        self._payloads = Payloads(io, me, schema, self.exchange.unmixed)
        self.exchange.read = self._payloads.read_row
        self._timetable = Timetable(topology, slots, rounds)
        self._weights = Weights(topology, me, self._timetable, clips, self.roster.hellos)
        self._sent: tuple[Step, tuple[int, ...]] | None = None
        """The exchange of a schedule that we have posted last, and its receivers."""
        self._unread: tuple[Step, tuple[int, ...]] | None = None
        """The exchange before that one, which its receivers must have read before that one ends."""
        self._check, self._clock = check, clock
        self._patient_until, self._dead_after = -math.inf, apart
        self._progress = OwnProgress(topology.size, self._report)
        self._receiving = Receiving(io, self.roster, self.exchange, self._payloads, rounds, observe=observe,
                                    check=check, clock=clock, progressed=self._progress.neighbour, tap=tap)
        self._catching_up = CatchingUp(self._rounds, apart, 1 if topology.schedule is None else lead(topology))
        self.on(JUMP, lambda peer, header, _: self._catching_up.announced(peer, header.slot, self._clock()))

    @property
    def hellos(self) -> Mapping[int, Hello]:
        """The HELLOs of the neighbours that have sent one."""
        return self.roster.hellos

    @property
    def lost(self) -> dict[int, str]:
        """The neighbours that take no part now, and why."""
        return self.roster.lost()

    @property
    def payload_posted(self) -> int:
        """Bytes of rows and messages posted, counted once for each receiver."""
        return self._payloads.posted

    # The Mixer's methods --------------------------------------------------------------------------------------

    def edges(self, at: Step) -> Edges:
        """Return the edges from all sources; the weight of a source that does not deliver goes to our own row."""
        return edges_into({(self.me, j): weight for j, weight in self._weights.of(at).items()})

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """Return the neighbours to which we send at a step, ascending, without the lost ones."""
        t = self._timetable.exchange(at)
        receivers = self.neighbours if t is None else self.topology.receivers(peer, t)
        return tuple(j for j in receivers if self.roster.takes_part(j))

    def post(self, at: Step, out: Outbox) -> None:
        """Queue the messages of a step for all receivers that are not lost."""
        scheduled, weights = self._weights.scheduled(at), self._weights.of(at)
        self._unread = self._sent if scheduled else self._unread
        read, readers = self._unread if scheduled and self._unread is not None else (None, ())
        self.exchange.begin(at, weights, readers, read)
        self._receiving.drain()  # the neighbours' progress decides whether our row still arrives in time
        alive = self.receivers(self.me, at)
        self._sent = (at, alive) if scheduled else self._sent
        if out.rows is not None:
            # A copy: a late flow may need the row unchanged, and buffers in flight must not change.
            own = out.rows[0].detach().clone()
            self._payloads.expect(at, own, out.codec)
            taking_part = {j: weight for j, weight in weights.items() if self.roster.takes_part(j)}
            self.exchange.post(at, own, taking_part, alive)
            self._payloads.send_row(alive, at, own, out.codec)
            return
        self.exchange.post(at, None, {})
        shared: dict[int, tuple[Tensor | Buffer, list[int]]] = {}
        for (_, j), value in (out.edges or {}).items():
            if j in alive:
                shared.setdefault(id(value), (value, []))[1].append(j)
        for value, peers in shared.values():
            if isinstance(value, Tensor):
                self._payloads.send_whole(peers, at, value.detach().clone(), out.codec)
            else:
                self._payloads.send_bytes(peers, at, value)

    def collect(self, at: Step) -> Inbox[Tensor]:
        """Wait until each source has delivered, is lost, has skipped the step or is given up; return the rows."""
        outcome, edges = self._collected(at)
        rows = {(self.me, j): row for j, row in outcome.values if isinstance(row, Tensor)}
        refused = tuple((self.me, j) for j, status in outcome.missing if status is DeliveryStatus.REFUSED)
        return inbox_of(edges, rows, outcome.late, refused)

    def collect_messages(self, at: Step, read: Read[T]) -> Inbox[T]:
        """Wait as ``collect`` does; return the results of ``read`` for the messages."""
        outcome, edges = self._collected(at)
        received = {(self.me, j): message for j, message in outcome.values if isinstance(message, Received)}
        values, refused = read_all(received, read, lambda edge, reason: self._payloads.strike(edge[1], at, reason))
        self.left_out += [(at, j, DeliveryStatus.REFUSED) for _, j in refused]
        return inbox_of(edges, values, outcome.late, refused)

    def _collected(self, at: Step) -> tuple[Outcome, Edges]:
        """Wait for the end of a step; return its outcome, and the edges from all of its sources."""
        if self._progress.phase is Phase.TRAIN:
            self._progress.enter(Phase.EXCHANGE, at)
        else:
            self._progress.reach(Step(progress_round(at.round, self._rounds), at.slot))
        edges = self.edges(at)
        outcome = self._wait()
        if self._weights.scheduled(at):
            # Our sources wait until we are past this exchange, and the next one may send them no message.
            self._progress.reach(Step(at.round, at.slot + 1))
            self.io.announce_progress(j for j in edges.src.tolist() if not self.roster.gone(j))
        for j, status in outcome.missing:
            self.left_out.append((at, j, status))
        for j, _ in outcome.values:
            self._catching_up.in_step(j, at.round, self._clock())
        return outcome, edges

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Return sum_j W_ij x_j over the sources j that have delivered.

        Raises LocalProtocolError where the rows of W do not sum to 1, as the simulator does.
        """
        self._timetable.require_average(at)
        return mix_by_flows(self, rows, at, codec)

    # Beside the Mixer's methods --------------------------------------------------------------------------------

    def connect(self, start_timeout: float | None, refused_wait: float | None, say: Callable[[str], None],
                expected: Collection[int] | None = None) -> None:
        """Wait until every neighbour has sent a HELLO that fits, or the time is over.

        If neighbours train already, the others are waited for only briefly; they may still connect later.

        start_timeout, refused_wait, expected : as in ``Meeting``.
        say : called with a sentence whenever the awaited neighbours change.

        Raises RefusedError where no neighbour fits, P2PSERError where none has connected in time.
        """
        sentence, self.exchange.awaited.start_timeout = "", start_timeout
        meeting = Meeting(self.roster, self._clock(), start_timeout, refused_wait, expected,
                          dead_after=self._dead_after, longest=LONGEST * self.exchange.awaited.round_timeout)
        while True:
            self._check()  # a signal may have arrived before it could wake this thread
            wait = meeting.wait(self._clock())
            if wait is None:
                break
            if wait.sentence != sentence:
                sentence = wait.sentence
                say(sentence)
            self._receiving.next(None if wait.until is None else wait.until - self._clock())
        if self.training():
            return
        self.begin()
        if len(self.lost) == len(self.neighbours) and self.neighbours:
            raise P2PSERError(f"no neighbour of peer {self.me} connected within {start_timeout} s: "
                              f"start peers {', '.join(map(str, self.neighbours))}, or wait longer (--start-timeout)")

    def training(self) -> tuple[int, ...]:
        """Return the connected neighbours that train (``Roster.training``)."""
        return self.roster.training()

    def begin(self, *, joining: bool = False) -> None:
        """Begin the run without the missing neighbours; ``joining``: it is under way already."""
        self.io.begin(joining=joining)
        while not self._receiving.begun:
            self._receiving.next(None)

    def apart(self, peer: int, reason: str) -> None:
        """Send to a neighbour, but do not wait for it until its row of training arrives."""
        self.io.apart(peer, reason)

    def learn(self, schema: Schema, labels: tuple[str, ...]) -> None:
        """Exchange rows of this schema from now on, and announce the emotions of the run to the neighbours."""
        self._payloads.learn(schema)
        self.io.learn(labels)

    def share(self, parts: Parts) -> None:
        """Exchange only parts of rows from now on."""
        self._payloads.parts = parts

    def enter(self, phase: Phase, round: int) -> None:
        """Enter a phase, which every header announces from now on."""
        if phase is Phase.TRAIN and (self._progress.phase, self._progress.at) != (phase, Step(round, 0)):
            self._catching_up.began(round, self._clock())
        self.roster.rounds_over = phase > Phase.EXCHANGE
        self._progress.enter(phase, Step(round, 0))

    def local_step(self, peer: int, step: int) -> None:
        """Report a finished local step, so that neighbours can tell a slow peer from a stuck one."""
        self._progress.step()
        self._check()

    def next_round(self, round: int) -> int:
        """Return the next round, or a later one if living neighbours have gone on without us."""
        self._receiving.drain()
        claims = {j: max(at, self.exchange.newest(j).round) for j, at in self.roster.rounds().items()}
        after = self._catching_up.next_round(round, self._clock(), claims)
        for j in filter(self.roster.takes_part, self.neighbours) if after.announce else ():
            self.send(j, Step(JUMP, after.round), b"", "", 0)
        return after.round

    def breaks(self, round: int) -> Breaks:
        """Return the edges that were broken or begin anew since the last call."""
        return Breaks(*(tuple((self.me, j) for j in peers) for peers in self.roster.breaks()))

    def on(self, rounds: int | range, handler: MessageHandler) -> None:
        """Let ``handler`` take the messages of these rounds from now on, instead of the exchanges.

        Register it before ``connect``: a neighbour that trains already may send messages during ``connect``.
        """
        self._receiving.on(range(rounds, rounds + 1) if isinstance(rounds, int) else rounds, handler)

    def strike(self, peer: int, reason: str) -> None:
        """Count an invalid message of a neighbour, which is banned after ``network.strikes`` of them."""
        self.io.strike(peer, reason)

    def send(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue a message that belongs to no exchange.

        peer, at : the receiver, and the step that identifies the message.
        payload : the bytes, which must not change afterwards.
        form, size : wire name of the codec and number of elements of an encoded row; else "" and 0.
        """
        self._payloads.send_message(peer, at, payload, form, size)

    def waits(self) -> float:
        """Report progress PATIENT times per ``round_timeout``, in a wait with its own limit. Return when to call again
        [s].
        """
        if (now := self._clock()) >= self._patient_until:
            self._patient_until = now + self.exchange.awaited.round_timeout / PATIENT
            self._progress.step()
        return self._patient_until

    def listen(self, timeout: float | None = 0.0) -> None:
        """Handle all events; if there is none, wait at most ``timeout`` seconds for one (None: without limit)."""
        self._receiving.next(timeout)
        self._receiving.drain()
        self._check()  # next() has called it after the first event only

    def wake_at(self, time: float | None) -> None:
        """Call ``check`` at this time [s] at the latest, even without an event."""
        self._receiving.wake_at = time

    def drop(self, peer: int, reason: str) -> None:
        """Go on without a neighbour until its row arrives."""
        self.io.drop(peer, reason, self.hellos[peer].incarnation if peer in self.hellos else None)

    def close(self) -> tuple[Late, ...]:
        """Return the late rows that are not mixed yet; settle no more later, since training is over."""
        return self.exchange.close()

    def bytes_sent(self) -> int:
        """Return the bytes sent to all neighbours so far, headers included."""
        return sum(traffic.bytes_sent for traffic in self.io.traffic().values())

    def unreachable(self) -> set[int]:
        """Return the neighbours to which no rows are sent any more."""
        return {j for j in self.neighbours if not self.roster.takes_part(j)}

    # Inside -------------------------------------------------------------------------------------------------

    def _wait(self) -> Outcome:
        while True:
            self._receiving.drain()
            self._check()
            now = self._clock()
            outcome = self.exchange.finish(now)
            if outcome is not None:
                return outcome
            deadline = self.exchange.deadline(now)
            if self.exchange.patient(now):
                deadline = min(self.waits(), math.inf if deadline is None else deadline)
            self._receiving.wait(None if deadline is None else deadline - now)

    def _report(self, progress: Progress) -> None:
        self.io.progress = progress
