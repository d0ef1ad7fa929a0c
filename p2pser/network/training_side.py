"""The training thread's side of the I/O thread: encodes what it posts, and dispatches what arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty

from torch import Tensor

from p2pser.base.errors import LocalProtocolError, P2PSERError, RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.gossip.partial import Parts
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.exchange import Exchange
from p2pser.network.io import IOThread
from p2pser.network.roster import Roster
from p2pser.run.setup import comes
from p2pser.wire.codec import DENSE, Codec, Received, finite
from p2pser.wire.messages import Buffer, Header, Progress

EventHook = Callable[[events.Event], None]
MessageHandler = Callable[[int, Header, memoryview], None]
"""Takes (sender, header, payload) of a message; raises RemoteProtocolError where it is invalid."""


class Payloads:
    """Encodes what one peer posts, and decodes what it receives.

    Parameters
    ----------
    io, me : the I/O thread, and this peer's id.
    schema : the model's schema, or None until ``learn``. Headers of whole model rows carry its digest, and rows of
        other models are refused.
    unmixed : returns the steps that this peer has not mixed with a given neighbour.
    """

    def __init__(self, io: IOThread, me: int, schema: Schema | None, unmixed: Callable[[int], Sequence[Step]]) -> None:
        self.parts: Parts | None = None
        """The part of a row that is shared with each neighbour; None: all of it."""
        self.posted = 0
        """Bytes of payload posted, counted once for each receiver."""
        self._io, self._me, self._unmixed = io, me, unmixed
        self._form = DENSE
        """The codec of our last posted row."""
        self._size, self._mark = -1, b""
        if schema is not None:
            self.learn(schema)

    def learn(self, schema: Schema) -> None:
        """Take the schema, before the first row is sent or read."""
        self._size, self._mark = schema.size, bytes.fromhex(schema.digest())[:8]

    def send_row(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        """Queue a row (D,) for neighbours: to each the part that it shares with us."""
        if self.parts is None:
            self.send_whole(peers, at, row, form)
            return
        by_width: dict[float, list[int]] = {}
        for j in peers:
            by_width.setdefault(self.parts.widths[j], []).append(j)
        for alike in by_width.values():  # all neighbours of one width share the same part: encoded once
            self.send_whole(alike, at, self.parts.cut(self._me, alike[0], row), form)

    def send_whole(self, peers: Sequence[int], at: Step, row: Tensor, form: Codec) -> None:
        """Queue a row (D,) for neighbours, unchanged."""
        payload = form.encode(row)
        mark = self._mark if self.parts is None and row.numel() == self._size else b""
        self.posted += len(payload) * len(peers)
        self._io.send(peers, at, payload, codec=form.wire_name(row), size=row.numel(), schema=mark,
                      unmixed=self._unmixed)

    def send_bytes(self, peers: Sequence[int], at: Step, payload: Buffer) -> None:
        """Queue bytes for neighbours."""
        self.posted += len(payload) * len(peers)
        self._io.send(peers, at, payload, unmixed=self._unmixed)

    def send_message(self, peer: int, at: Step, payload: Buffer, form: str, size: int) -> None:
        """Queue a message that belongs to no exchange: bytes, or an encoded row of ``size`` elements."""
        self.posted += len(payload)
        self._io.send([peer], at, payload, codec=form, size=size, schema=self._mark if size == self._size else b"")

    def received(self, header: Header, payload: memoryview) -> Received:
        """Return a message, not decoded yet. Raises RemoteProtocolError where it is a row of another model."""
        if self._mark and header.schema not in (b"", self._mark):
            raise RemoteProtocolError(f"peer {header.sender} sent a row of another model's schema", header.sender)
        return Received(header.sender, payload, header.codec, header.size)

    def expect(self, at: Step, own: Tensor, form: Codec) -> None:
        """Note the codec of the row (D,) that we post, in which the neighbours' rows are due.

        Raises P2PSERError where the row is not finite: the neighbours would refuse it.
        """
        self._form = form
        if not finite(own):
            raise P2PSERError(f"the parameters of peer {self._me} are no longer finite in round {at.round}; lower "
                              "training.lr or look for features of extreme size")

    def read_row(self, sender: int, at: Step, own: Tensor, value: Received | Tensor) -> Tensor | None:
        """Return a neighbour's row of the exchange of our row ``own``, of the same size and dtype; None, and a strike,
        where its message is no such row.
        """
        if isinstance(value, Tensor):
            return value
        try:
            return self._row(sender, own, value)
        except RemoteProtocolError as error:
            self.strike(sender, at, str(error))
            return None

    def strike(self, sender: int, at: Step, reason: str) -> None:
        """Count an invalid message of a step."""
        self._io.strike(sender, f"round {at.round}, exchange {at.slot}: {reason}")

    def _row(self, sender: int, own: Tensor, message: Received) -> Tensor:
        due = own.numel()
        if self.parts is not None:
            positions = self.parts.positions(self._me, sender, due)
            due = due if positions is None else len(positions)
        # A lost row is sent again in the dense form.
        form = DENSE if message.form == DENSE.wire_name(own) else self._form
        value = message.row(own.dtype, due, form=form, beside=own)
        return value if self.parts is None else self.parts.fit(self._me, sender, own, value)


class Receiving:
    """Handles the events of the I/O thread.

    Parameters
    ----------
    io, roster, exchange, payloads : the source of the events, and the parts that take them.
    rounds : R, the rounds of training; None: without limit.
    observe, check, clock : as in ``NetworkMixer``.
    progressed : called with each new progress of a neighbour.
    tap : takes each message as it arrives, before it is checked; None: nothing does.
    """

    def __init__(self, io: IOThread, roster: Roster, exchange: Exchange, payloads: Payloads, rounds: int | None, *,
                 observe: EventHook, check: Callable[[], None], clock: Callable[[], float],
                 progressed: Callable[[Progress], None], tap: MessageHandler | None = None) -> None:
        self.begun = False
        """Whether the I/O thread has begun the run."""
        self._io, self._roster, self._exchange, self._payloads, self._rounds = io, roster, exchange, payloads, rounds
        self._observe, self._check, self._clock, self._progressed = observe, check, clock, progressed
        self._tap = tap
        self.wake_at: float | None = None
        """A time by which ``check`` is called again, even without an event [s]."""
        self._handlers: dict[range, MessageHandler] = {}
        """The handlers of the messages of some rounds; messages of other rounds belong to exchanges."""

    def on(self, rounds: range, handler: MessageHandler) -> None:
        """Let ``handler`` take the messages of these rounds from now on, instead of the exchanges."""
        self._handlers[rounds] = handler

    def next(self, timeout: float | None) -> None:
        """Handle the next event, waiting for it at most ``timeout`` seconds (None: without limit)."""
        if self.wake_at is not None:
            alarm = self.wake_at - self._clock()
            timeout = alarm if timeout is None else min(timeout, alarm)
        try:
            event = self._io.events.get(timeout=None if timeout is None else max(0.0, timeout))
        except Empty:
            self._check()
            return
        self._handle(event)
        self._check()

    def wait(self, timeout: float | None) -> None:
        """Handle the next event as ``next`` does, in an exchange; count the time if one neighbour alone is awaited."""
        now = self._clock()
        awaited = self._exchange.waiting(now)
        self.next(timeout)
        if len(awaited) == 1:
            self._roster.alone[awaited[0]] += self._clock() - now

    def drain(self) -> None:
        """Handle the events that are queued now, and not those that arrive meanwhile, perhaps without a pause."""
        for _ in range(self._io.events.qsize()):
            try:
                event = self._io.events.get_nowait()
            except Empty:
                return
            self._handle(event)

    def _handle(self, event: events.Event) -> None:
        now = self._clock()
        match event:
            case events.Arrived():
                self._arrived(event, now)
                return  # the most frequent event, which no observer needs
            case events.Progressed(peer, progress, part):
                self._io.mark_heard(peer)
                self._roster.progressed(event)
                if self._exchange.awaited.progress(peer, progress, now, part):
                    self._progressed(progress)
            case events.Up(peer):
                if self._roster.up(event):
                    self._exchange.restarted(peer)
            case events.Agreed():
                self._roster.agreed(event)
            case events.Changed():
                self._roster.changed(event, now)
            case events.Refused():
                self._roster.refused(event)
            case events.Begun():
                self.begun = True
            case events.Paused():
                self._exchange.awaited.resume(now)
            case events.Failed(error):
                raise LocalProtocolError(f"the I/O thread failed: {type(error).__name__}: {error}") from error
            case _:
                pass
        self._observe(event)

    def _arrived(self, event: events.Arrived, now: float) -> None:
        """Deliver a message to its handler, or to the exchange."""
        peer, header, payload = event.peer, event.header, event.payload
        self._io.mark_read(peer)
        if self._tap is not None:
            self._tap(peer, header, payload)
        step = Step(header.round, header.slot)
        try:
            for rounds, handle in self._handlers.items():
                if header.round in rounds:
                    handle(peer, header, payload)
                    return
            if self._rounds is not None and not comes(header.round, self._rounds):
                raise RemoteProtocolError(f"peer {peer} sent a row of round {header.round}, which is no round of this "
                                          "run", peer)
            value = self._payloads.received(header, payload)
        except RemoteProtocolError as error:
            self._io.strike(peer, str(error))
            self._exchange.void(peer, step)
            return
        dropped = self._exchange.deliver(peer, step, value, [Step(*at) for at in header.unmixed], now)
        if dropped is not None:
            self._io.forget(peer, dropped)
        for receiver, past, row in self._exchange.resend():
            self._payloads.send_row([receiver], past, row, DENSE)
