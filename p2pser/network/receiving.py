"""The training thread's end of the queue of events: each goes to the part that it concerns, in order."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network import events
from p2pser.network.exchange import Exchange
from p2pser.network.io import IOThread
from p2pser.network.payloads import Payloads
from p2pser.network.roster import Roster
from p2pser.wire.codec import DENSE
from p2pser.wire.messages import Header, Progress

EventHook = Callable[[events.Event], None]
MessageHandler = Callable[[int, Header, memoryview], None]
"""Takes (sender, header, payload) of a message; raises RemoteProtocolError where it does not fit."""


class Receiving:
    """Handles the events of the I/O thread.

    Parameters
    ----------
    io, roster, exchange, payloads : where events come from, and what they concern.
    rounds : R, the rounds of training; None: without limit.
    observe, check, clock : as for ``NetworkMixer``.
    progressed : called with the progress that a neighbour has made.
    """

    def __init__(self, io: IOThread, roster: Roster, exchange: Exchange, payloads: Payloads, rounds: int | None, *,
                 observe: EventHook, check: Callable[[], None], clock: Callable[[], float],
                 progressed: Callable[[Progress], None]) -> None:
        self.begun = False
        """Whether the I/O thread has begun the run."""
        self._io, self._roster, self._exchange, self._payloads, self._rounds = io, roster, exchange, payloads, rounds
        self._observe, self._check, self._clock, self._progressed = observe, check, clock, progressed
        self.wake_at: float | None = None
        """A time by which ``check`` is called again, whatever happens meanwhile [s]."""
        self._handlers: dict[range, MessageHandler] = {}
        """What takes the messages of these rounds; those of all others belong to exchanges."""

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

    def drain(self) -> None:
        """Handle all events that are there."""
        while True:
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
                return  # the hot path: no observer needs each message
            case events.Progressed(peer, progress):
                self._roster.progressed(event)
                if self._exchange.progress(peer, progress, now):
                    self._progressed(progress)
            case events.Up(peer):
                if self._roster.up(event):
                    self._exchange.restarted(peer)
            case events.Changed():
                self._roster.changed(event, now)
            case events.Refused():
                self._roster.refused(event)
            case events.Begun():
                self.begun = True
            case events.Paused():
                self._exchange.resume_waiting(now)
            case events.Failed(error):
                raise LocalProtocolError(f"the I/O thread failed: {type(error).__name__}: {error}") from error
            case _:
                pass
        self._observe(event)

    def _arrived(self, event: events.Arrived, now: float) -> None:
        """Deliver a message to its handler, or to the exchange."""
        peer, header, payload = event.peer, event.header, event.payload
        self._io.mark_read(peer)
        step = Step(header.round, header.slot)
        try:
            for rounds, handle in self._handlers.items():
                if header.round in rounds:
                    handle(peer, header, payload)
                    return
            if self._rounds is not None and header.round > self._rounds + 1:
                raise RemoteProtocolError(f"peer {peer} sent a row of round {header.round}, which never comes", peer)
            value = self._payloads.received(header, payload)
        except RemoteProtocolError as error:
            self._io.strike(peer, str(error))
            self._exchange.void(peer, step)
            return
        dropped = self._exchange.deliver(peer, step, value, [Step(*one) for one in header.unmixed], now)
        if dropped is not None:
            self._io.forget(peer, dropped)
        for receiver, past, row in self._exchange.resend():
            self._payloads.send_row([receiver], past, row, DENSE)
