"""Events of a peer for ``events.jsonl``, and messages for the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from p2pser.network import events
from p2pser.network.rates import Sieve, suppressed
from p2pser.network.states import Cause, State
from p2pser.peer.telemetry import Telemetry

RATE, AT_ONCE = 0.1, 20
"""Limits of events of one kind and neighbour, since neighbours can cause them: a second on average, and at once."""


class Reporter:
    """Writes a peer's events, and passes messages to the user.

    Parameters
    ----------
    me : the peer's id.
    telemetry : the files.
    say : receives the messages.
    on_loss : called when a neighbour is lost before it has finished.
    clock : returns the time [s].
    """

    def __init__(self, me: int, telemetry: Telemetry, say: Callable[[str], None],
                 on_loss: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.me, self.telemetry, self.say = me, telemetry, say
        self._sieve, self._clock = Sieve(RATE, AT_ONCE), clock
        self._on_loss = on_loss

    def event(self, kind: str, **fields: Any) -> None:
        """Write an event."""
        self.telemetry.event(kind, **fields)

    def tell(self, kind: str, sentence: str, /, **fields: Any) -> None:
        """Write an event and show its sentence. Of too many events of a kind only the number is reported later."""
        hidden = self._sieve.take((kind, fields.get("peer")), self._clock())
        if hidden is None:
            return
        if hidden:
            fields["suppressed"] = hidden
        self.event(kind, **fields)
        if sentence:
            self.say(sentence + suppressed(hidden))

    def waiting(self, sentence: str, **fields: Any) -> None:
        """Report that the peer waits for neighbours."""
        self.tell("waiting", f"peer {self.me} is {sentence}", sentence=sentence, **fields)

    def of_sum(self, round: int, what: str) -> None:
        """Report a sentence about the secure sum of a round."""
        self.tell("sum", f"peer {self.me}, round {round}: {what}", round=round, reason=what)

    def observe(self, event: events.Event) -> None:
        """Report an event of the network."""
        match event:
            case events.Refused(peer, reason, by_us):
                who = f"peer {self.me} refused peer {peer}" if by_us else f"peer {peer} refused peer {self.me}"
                self.tell("refused", f"{who}: {reason}", peer=peer, reason=reason, by_us=by_us)
            case events.Changed():
                self._changed(event)
            case events.Up(peer, hello):
                self.tell("up", "", peer=peer, incarnation=hello.incarnation)
            case events.Trouble(peer, reason):
                self.tell("trouble", reason, peer=peer, reason=reason)
            case events.Struck(peer, reason, strikes):
                self.tell("struck", f"a message of peer {peer} does not fit and is left out: {reason}", peer=peer,
                          reason=reason, strikes=strikes)
            case events.Paused(seconds):
                self.event("paused", seconds=seconds)
            case _:
                pass

    def _changed(self, event: events.Changed) -> None:
        """Report that a neighbour has changed its state."""
        peer, reason, silence = event.peer, event.reason, event.silence
        if event.after is State.LOST:
            self._on_loss()
        if event.cause is Cause.SILENCE:
            self.tell("suspect", f"peer {peer} has been silent for {silence:.1f} s", peer=peer, silence=silence)
        elif event.cause is Cause.DEATH and event.before is not State.REFUSED:
            self.tell("dead", f"peer {peer} is DEAD after {silence:.1f} s of silence; the others go on", peer=peer,
                      silence=silence)
        elif event.cause in (Cause.DONE, Cause.LEFT, Cause.RESTART):
            self.tell("bye", f"peer {peer} has left: {reason}", peer=peer, reason=reason)
        elif event.cause is Cause.STRUCK_OUT:
            self.tell("banned", f"{reason}; nothing is exchanged with peer {peer} any more", peer=peer, reason=reason)
        elif event.after is State.RETURNING:
            if event.before is State.LOST:
                self.tell("rejoined", f"peer {peer} has come back and takes part from now on", peer=peer)
            else:
                self.tell("apart", f"{reason}; it is not waited for until its rows come again", peer=peer)
        elif event.after is State.PRESENT and event.before in (State.SUSPECT, State.RETURNING):
            self.tell("alive", f"peer {peer} {'is back' if event.before is State.SUSPECT else 'takes part again'}",
                      peer=peer)
