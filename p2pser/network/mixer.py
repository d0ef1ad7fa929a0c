"""The Mixer between processes: one row here, those of the neighbours behind the I/O thread."""

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
from p2pser.network.catching_up import CatchingUp
from p2pser.network.exchange import LONGEST, DeliveryStatus, Exchange, Outcome
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
"""A peer that waits for one that has not begun reports progress of its own so often in ``round_timeout``."""


class NetworkMixer:
    """Carries one peer's rows to its neighbours (gossip.mixer.Mixer).

    Parameters
    ----------
    io : the I/O thread.
    topology, me : the topology, and this peer's id in it.
    schema : the model's schema; rows of another one are refused. None: it comes later (``learn``).
    clips : this peer's clip count, where W weighs by clips (static undirected graphs, and the consensus); else None.
    round_timeout : seconds without progress after which a neighbour is left out of an exchange.
    slots, rounds : as in ``gossip.timetable.Timetable``.
    apart : as in ``network.catching_up.CatchingUp``.
    secrets : of this peer, for secure sums; None: the run has none.
    observe : called with every event of the network, in order.
    check : called at least whenever an event ends a wait; may raise, which ends the wait (signals).
    clock : returns the time [s].
    """

    def __init__(self, io: IOThread, topology: Topology, me: int, schema: Schema | None, *, clips: int | None,
                 round_timeout: float, slots: int = 1, rounds: int | None = None, apart: float = 8.0,
                 secrets: Secrets | None = None, observe: EventHook = lambda event: None,
                 check: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self.io = io
        self.topology = topology
        self.me = me
        self.peers = (me,)
        self.size = topology.size
        self.neighbours = topology.neighbours(me)
        self.roster = Roster(self.neighbours)
        """What is known of the neighbours: changed by the I/O thread's events only."""
        self.exchange = Exchange(me, self.roster, round_timeout)
        self.left_out: list[tuple[Step, int, DeliveryStatus]] = []
        """Exchanges that went on without a neighbour's message."""
        self.secrets = secrets
        self._rounds = 2**31 if rounds is None else rounds
        self._payloads = Payloads(io, me, schema, self.exchange.unmixed)
        self.exchange.read = self._payloads.read_row
        self._timetable = Timetable(topology, slots, rounds)
        self._weights = Weights(topology, me, self._timetable, clips, self.roster.hellos)
        self._sent: tuple[Step, tuple[int, ...]] | None = None
        """The last exchange of a schedule that we posted, and its receivers."""
        self._unread: tuple[Step, tuple[int, ...]] | None = None
        """The one before, which its receivers must have read before the last one ends."""
        self._check, self._clock = check, clock
        self._patient_until, self._dead_after = -math.inf, apart
        self._progress = OwnProgress(topology.size, self._report)
        self._receiving = Receiving(io, self.roster, self.exchange, self._payloads, rounds, observe=observe,
                                    check=check, clock=clock, progressed=self._progress.neighbour)
        self._catching_up = CatchingUp(self._rounds, apart,
                                       1 if topology.schedule is None else lead(topology))
        self.on(JUMP, lambda peer, header, _: self._catching_up.announced(peer, header.slot, self._clock()))

    @property
    def hellos(self) -> Mapping[int, Hello]:
        """The HELLOs of the neighbours that have come."""
        return self.roster.hellos

    @property
    def lost(self) -> dict[int, str]:
        """The neighbours that take no part at present, and why."""
        return self.roster.lost()

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
        return tuple(j for j in receivers if self.roster.takes_part(j))

    def post(self, at: Step, out: Outbox) -> None:
        """Queue the messages of a step for all receivers that are not lost."""
        scheduled, weights = self._weights.scheduled(at), self._weights.of(at)
        self._unread = self._sent if scheduled else self._unread
        if scheduled and self._unread is not None:
            self.exchange.begin(at, weights, self._unread[1], self._unread[0])
        else:
            self.exchange.begin(at, weights)
        self._receiving.drain()  # how far the neighbours are decides whether our row still comes in time
        alive = self.receivers(self.me, at)
        self._sent = (at, alive) if scheduled else self._sent
        if out.rows is not None:
            # A copy: a late flow may need the row as it was, and buffers in flight must not change.
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
        """Wait as ``collect`` does; return what ``read`` makes of the messages."""
        outcome, edges = self._collected(at)
        came = {(self.me, j): message for j, message in outcome.values if isinstance(message, Received)}
        values, refused = read_all(came, read, lambda edge, reason: self._payloads.strike(edge[1], at, reason))
        self.left_out += [(at, j, DeliveryStatus.REFUSED) for _, j in refused]
        return inbox_of(edges, values, outcome.late, refused)

    def _collected(self, at: Step) -> tuple[Outcome, Edges]:
        """Return the outcome of a step, when it is over, and the edges from all of its sources."""
        if self._progress.phase is Phase.TRAIN:
            self._progress.enter(Phase.EXCHANGE, at)
        else:
            self._progress.reach(Step(progress_round(at.round, self._rounds), at.slot))
        weights, scheduled = self._weights.of(at), self._weights.scheduled(at)
        outcome = self._wait()
        if scheduled:
            # Our sources wait until we are past this exchange, and may be sent nothing in the next one.
            self._progress.reach(Step(at.round, at.slot + 1))
            self.io.announce_progress(j for j in weights if not self.roster.gone(j))
        for j, status in outcome.missing:
            self.left_out.append((at, j, status))
        for j, _ in outcome.values:
            self._catching_up.in_step(j, at.round, self._clock())
        return outcome, edges_into({(self.me, j): weight for j, weight in weights.items()})

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Return sum_j W_ij x_j over the sources j that delivered.

        Raises LocalProtocolError where the rows of W do not sum to 1, as the simulator does.
        """
        self._timetable.require_average(at)
        return mix_by_flows(self, rows, at, codec)

    # Beside the Mixer's methods --------------------------------------------------------------------------------

    def connect(self, start_timeout: float | None, refused_wait: float | None, say: Callable[[str], None],
                expected: Collection[int] | None = None) -> None:
        """Wait until every neighbour has sent a HELLO that fits, or the time is over.

        Where neighbours train already, the others are waited for only shortly, and may still come later.

        start_timeout, refused_wait, expected : as for ``Meeting``.
        say : called with a sentence whenever the awaited neighbours change.

        Raises RefusedError where no neighbour fits, P2PSERError where none has come in time.
        """
        said, self.exchange.start_timeout = "", start_timeout
        meeting = Meeting(self.roster, self._clock(), start_timeout, refused_wait, expected,
                          dead_after=self._dead_after, longest=LONGEST * self.exchange.round_timeout)
        while True:
            self._check()  # a signal may have arrived before it could wake this thread
            wait = meeting.wait(self._clock())
            if wait is None:
                break
            if wait.sentence != said:
                say(wait.sentence)
                said = wait.sentence
            self._receiving.next(None if wait.until is None else wait.until - self._clock())
        if self.training():
            return
        self.begin()
        if len(self.lost) == len(self.neighbours) and self.neighbours:
            raise P2PSERError(f"no neighbour of peer {self.me} came within {start_timeout} s: "
                              f"start peers {', '.join(map(str, self.neighbours))}, or wait longer (--start-timeout)")

    def training(self) -> tuple[int, ...]:
        """Return the neighbours that train: where we have not begun, the run goes on, and this peer may join it."""
        return self.roster.training()

    def begin(self, *, joining: bool = False) -> None:
        """Begin the run without the neighbours that have not come; ``joining``: it is under way already."""
        self.io.begin(joining=joining)
        while not self._receiving.begun:
            self._receiving.next(None)

    def apart(self, peer: int, reason: str) -> None:
        """Do not wait for a neighbour until a row of training comes from it; it is sent to."""
        self.io.apart(peer, reason)

    def learn(self, schema: Schema, labels: tuple[str, ...]) -> None:
        """Exchange rows of this schema from now on, and tell the neighbours the emotions of the run."""
        self._payloads.learn(schema)
        self.io.learn(labels)

    def share(self, parts: Parts) -> None:
        """Exchange only parts of rows from now on."""
        self._payloads.parts = parts

    def enter(self, phase: Phase, round: int) -> None:
        """Enter a phase; every header from now on says so."""
        if phase is Phase.TRAIN and (self._progress.phase, self._progress.at) != (phase, Step(round, 0)):
            self._catching_up.began(round, self._clock())
        self.roster.rounds_over = phase > Phase.EXCHANGE
        self._progress.enter(phase, Step(round, 0))

    def local_step(self, peer: int, step: int) -> None:
        """Report a finished local step, so that neighbours can tell a slow peer from a stuck one."""
        self._progress.step()
        self._check()

    def next_round(self, round: int) -> int:
        """Return the round to go on with: the next, or a later one if living neighbours went on without us."""
        self._receiving.drain()
        claims = {j: max(at, self.exchange.newest(j).round) for j, at in self.roster.rounds().items()}
        after = self._catching_up.next_round(round, self._clock(), claims)
        for j in filter(self.roster.takes_part, self.neighbours) if after.announce else ():
            self.send(j, Step(JUMP, after.round), b"", "", 0)
        return after.round

    def breaks(self, round: int) -> Breaks:
        """Return what has happened to our edges since the last call."""
        return Breaks(*(tuple((self.me, j) for j in peers) for peers in self.roster.breaks()))

    def on(self, rounds: int | range, handler: MessageHandler) -> None:
        """Let ``handler`` take the messages of these rounds from now on, instead of the exchanges.

        Register it before ``connect``: a neighbour that trains already may send while this peer waits for others.
        """
        self._receiving.on(range(rounds, rounds + 1) if isinstance(rounds, int) else rounds, handler)

    def strike(self, peer: int, reason: str) -> None:
        """Count a message of a neighbour that did not fit what was due; after some it is banned from the run."""
        self.io.strike(peer, reason)

    def send(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue a message that belongs to no exchange.

        peer, at : the receiver, and the step that names the message.
        payload : the bytes; they must not change afterwards.
        form, size : wire name of the codec and number of elements, where it is an encoded row; else "" and 0.
        """
        self._payloads.send_message(peer, at, payload, form, size)

    def waits(self) -> float:
        """Report progress now and then: we wait for what has a bound of its own. Return when to call again [s]."""
        if (now := self._clock()) >= self._patient_until:
            self._patient_until = now + self.exchange.round_timeout / PATIENT
            self._progress.step()
        return self._patient_until

    def listen(self, timeout: float | None = 0.0) -> None:
        """Handle all events; where there is none, wait at most ``timeout`` seconds for one (None: without limit)."""
        self._receiving.next(timeout)
        self._receiving.drain()
        self._check()  # of the events that came together, next() has looked at the first only

    def wake_at(self, time: float | None) -> None:
        """Have ``check`` called by this time [s] at the latest, whatever happens meanwhile."""
        self._receiving.wake_at = time

    def drop(self, peer: int, reason: str) -> None:
        """Go on without a neighbour from now on, until a row of it comes."""
        self.io.drop(peer, reason, self.hellos[peer].incarnation if peer in self.hellos else None)

    def close(self) -> tuple[Late, ...]:
        """Settle no more late rows, but those that are returned: training is over."""
        return self.exchange.close()

    def bytes_sent(self) -> int:
        """Return the bytes sent to all neighbours so far, headers included."""
        return sum(link.bytes_sent for link in self.io.traffic().values())

    def unreachable(self) -> set[int]:
        """Return the neighbours that take no part any more."""
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
            self._receiving.next(None if deadline is None else deadline - now)

    def _report(self, progress: Progress) -> None:
        self.io.progress = progress
