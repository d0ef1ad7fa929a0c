"""All that a peer knows of one neighbour. Pure: time and messages are passed in, decisions come out.

The next state after each event is in one table (states.py). The I/O thread owns the machines; the training thread
learns of their changes, in order, from ``Changed`` events (roster.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from p2pser.base.errors import ConfigError
from p2pser.network.events import Changed
from p2pser.network.states import TABLE, WATCHED, Cause, Either, State
from p2pser.network.stream import Stream
from p2pser.network.told import Told
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Phase, Progress

CONNECTIONS_KEPT = 8
"""Connections of one neighbour of which the process at the other end is remembered."""
DIALLED = b""
"""Names the dialled connection; accepted ones are named by their ROUTER identity."""
TWICE = ("runs twice: two processes have its id and its key, and the first stays; stop one of them (if your "
         "site did not start a second, the key was stolen: replace it)")
"""Why the HELLO of a second process is refused."""


@dataclass(frozen=True)
class Contact:
    """A neighbour's address (None: it dials, and we do not) and the public key (Z85) that it must hold.

    ipv6 : whether the address is an IPv6 address, or a name that has only IPv6 addresses.
    derived : whether the key is derived from the user's secret; else the topology file gives it.
    """

    peer: int
    address: str | None
    key: str
    ipv6: bool = False
    derived: bool = False


@dataclass(frozen=True)
class Patience:
    """Silence [s] after which a neighbour is pinged, SUSPECT and LOST.

    Raises ConfigError unless 0 < ping_after <= suspect_after <= dead_after.
    """

    ping_after: float
    suspect_after: float
    dead_after: float

    def __post_init__(self) -> None:
        if not 0 < self.ping_after <= self.suspect_after <= self.dead_after:
            raise ConfigError(f"network.ping_after = {self.ping_after}, suspect_after = {self.suspect_after}, "
                              f"dead_after = {self.dead_after}: give times above 0 in ascending order")


@dataclass
class Ours:
    """What our peer's own state decides about all of its neighbours; the I/O thread keeps it."""

    begun: bool = False
    """Whether our run has begun: from then on a missing neighbour is LOST."""
    admits: bool = False
    """Whether a neighbour that is restarted, or starts late, may take part in training."""
    lockstep: bool = True
    """Whether peers train in common rounds; else any row shows that a neighbour trains."""
    progress_counts: Collection[Phase] = ()
    """Phases in which a neighbour's progress shows, as a row does, that it has caught up: on a schedule it may have no
    row to send before it has ours."""
    progress: Progress = field(default_factory=lambda: Progress(-(2**31), 0, Phase.START, 0))
    """Our progress, which every header carries."""


class Senders:
    """The incarnation and process of the last HELLO over each connection with a neighbour."""

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[int, str]] = {}

    def note(self, connection: bytes, hello: Hello) -> None:
        """Note a HELLO; of many connections the newest are remembered."""
        self._of.pop(connection, None)
        self._of[connection] = hello.incarnation, hello.process
        if len(self._of) > CONNECTIONS_KEPT:
            del self._of[next(iter(self._of))]

    def another(self, connection: bytes, hello: Hello) -> bool:
        """Whether a connection leads to another process than that of ``hello``, in the same incarnation."""
        incarnation, process = self._of.get(connection, (-1, ""))
        return incarnation == hello.incarnation and process != hello.process


class Neighbour:
    """The state machine of one neighbour.

    Times called ``awake`` are those of an ``awake.AwakeClock``, which leaves out the pauses of this process.

    Parameters
    ----------
    contact : its id, address and key.
    ours : our own state, shared by all neighbours.
    patience : the limits on its silence.
    stream : the stream of rows in both directions.
    strikes : invalid messages after which it is BANNED.
    """

    def __init__(self, contact: Contact, ours: Ours, patience: Patience, stream: Stream, strikes: int) -> None:
        self.contact, self.peer, self.stream = contact, contact.peer, stream
        self.state = State.ABSENT
        self.reason = ""
        """Why it takes no part."""
        self.hello: Hello | None = None
        """The accepted HELLO of its present process; None before."""
        self.strikes = 0
        self.lives = 0
        """The number of its processes that have sent a HELLO."""
        self._ours, self._patience, self._most_strikes = ours, patience, strikes
        self._incarnation = -1
        self._left: tuple[int, str] | None = None
        """Incarnation and process of the last BYE: later messages of that process, which another connection may still
        hold, bring nothing back."""
        self._senders = Senders()
        self._given_up = False
        """Whether the run has gone on without it: then only a row brings it back."""
        self._last_traffic = self._last_ping = 0.0
        self.told = Told(contact.peer)
        self._back_in = 0
        """Our round when it came back."""
        self._bye: int | None = None
        self._bye_read = False

    @property
    def up(self) -> bool:
        """Whether rows may be exchanged."""
        return self.state in WATCHED

    @property
    def apart(self) -> bool:
        """Whether we go on without it: our messages tell it so, and then it does not wait for us."""
        return self.state in (State.LOST, State.RETURNING)

    # Messages received --------------------------------------------------------------------------------------

    def greeted(self, theirs: Hello, restarts: int, difference: str | None, awake: float, connection: bytes = DIALLED,
                ) -> tuple[str | None, list[Changed]]:
        """Take a HELLO or WELCOME.

        Parameters
        ----------
        theirs, restarts : the HELLO, and how often its sender's stream of rows has broken.
        difference : why it does not fit ours; None where it does.
        awake : the time [s].
        connection : the connection that carried it.

        Returns
        -------
        tuple[str | None, list[Changed]]
            None where it is admitted, "" where it is left unanswered, else why it is refused; and the changes of state.
        """
        self._senders.note(connection, theirs)
        if self.state is State.BANNED:
            return self.reason, []
        if (theirs.incarnation, theirs.process) == self._left:
            return "", []
        other = self._is_another(theirs)
        if other and self.up:
            return f"peer {self.peer} {TWICE}", []
        if theirs.incarnation < self._incarnation:
            return f"peer {self.peer} has been restarted since (incarnation {self._incarnation})", []
        changes: list[Changed] = []
        if theirs.incarnation > self._incarnation or other:
            if self._incarnation >= 0:
                changes += self.happens(Cause.RESTART, "it was restarted")
                self.stream.reset()
            self._forget()
            self._incarnation = theirs.incarnation
            self.lives += 1
        if difference is not None:
            self.refusal(awake)
            return difference, [*changes, *self.happens(Cause.MISFIT, difference)]
        if self.hello is None and not self._admitted():
            may_join_later = self._ours.progress.phase < Phase.TRAIN
            return "" if may_join_later else (f"peer {self.peer} was restarted, or started late, during the run, and "
                                              "this algorithm lets no peer join"), changes
        self.stream.greeted(restarts, new=self.hello is None)
        self.hello = theirs
        self._last_traffic = max(self._last_traffic, awake)
        return None, [*changes, *self.happens(Cause.HELLO, "")]

    def of_this_incarnation(self, header: Header, connection: bytes = DIALLED) -> bool:
        """Whether a message comes from the process whose HELLO was accepted last."""
        return self.hello is not None and header.incarnation == self.hello.incarnation and \
            not self._senders.another(connection, self.hello)

    def of_ended_incarnation(self, header: Header) -> bool:
        """Whether a message comes from an incarnation that has left, or that a later one has replaced."""
        left = self._left is not None and self._left[0] == header.incarnation and not self.up
        return left or header.incarnation < self._incarnation


    def refusal(self, awake: float) -> None:
        """Note a sign of life of a neighbour that does not admit us, or that we do not admit."""
        self._last_traffic = max(self._last_traffic, awake)

    def heard(self, awake: float) -> list[Changed]:
        """Take any message of its present process."""
        self._last_traffic = max(self._last_traffic, awake)
        if self.state is State.PRESENT or self._has_left or self._given_up:
            return []
        return self.happens(Cause.TRAFFIC, "")

    def row(self, round: int) -> list[Changed]:
        """Take a whole row of a round."""
        if self._given_up and not self._has_left:
            self._given_up = False
            return self.happens(Cause.TRAFFIC, "")
        return self._reaches(round)

    def progressed(self, progress: Progress) -> list[Changed]:
        """Take the progress in a PING or PONG."""
        counts = progress.phase in self._ours.progress_counts and not self._given_up
        return self._reaches(progress.round) if counts and self._ours.lockstep else []

    def said_bye(self, reason: str) -> list[Changed]:
        """Take a BYE of its present process."""
        if self.hello is not None:
            self._left = self.hello.incarnation, self.hello.process
        return self.happens(Cause.DONE if reason == "done" else Cause.LEFT, reason)

    # Changes of state ---------------------------------------------------------------------------------------

    def happens(self, cause: Cause, reason: str, silence: float = 0.0) -> list[Changed]:
        """Change the state as the table says; return the change, or [] where there is none."""
        before, row = self.state, TABLE[self.state]
        after = row.get(cause, before)
        if isinstance(after, Either):
            after = after.during if self._ours.begun else after.before
        if after is before:
            return []
        self.state, self.reason = after, reason
        if after is State.ABSENT and (cause is not Cause.DEATH or before is State.REFUSED):
            self._forget()
        if after is State.RETURNING:
            self._back_in = self._ours.progress.round
        return [Changed(self.peer, before, after, cause, reason, silence)]

    def begin(self, joining: bool) -> list[Changed]:
        """Begin our run; ``joining``: it is under way already, and neighbours that do not train are not waited for."""
        at = self.told.progress
        trains = at is not None and at.phase in (Phase.TRAIN, Phase.EXCHANGE)
        if joining and self.up and not trains:
            return self.happens(Cause.APART, f"peer {self.peer} does not train yet")
        return self.happens(Cause.BEGIN, self.reason or f"peer {self.peer} did not start in time")

    def drop(self, reason: str, incarnation: int | None) -> list[Changed]:
        """Go on without it; with ``incarnation``, only if that is still the present one."""
        if incarnation is not None and incarnation != self._incarnation:
            return []
        changes = self.happens(Cause.DROPPED, reason)
        self._given_up = self._given_up or bool(changes)
        return changes

    def strike(self, reason: str) -> list[Changed]:
        """Count an invalid message."""
        self.strikes += 1
        if self.strikes < self._most_strikes:
            return []
        changes = self.happens(Cause.STRUCK_OUT,
                               f"{self.strikes} messages of peer {self.peer} were invalid: {reason}")
        self.stream.reset()
        return changes

    def tick(self, awake: float) -> tuple[list[Changed], bool]:
        """Return the changes due to silence, and whether a PING is due (also where rows wait for credit)."""
        silence, changes = awake - self._last_traffic, []
        if self._watched:
            for cause, limit in ((Cause.SILENCE, self._patience.suspect_after),
                                 (Cause.DEATH, self._patience.dead_after)):
                if silence >= limit:
                    changes += self.happens(cause, f"silent for {silence:.1f} s", silence)
        watched = self._watched or self.state is State.LOST
        quiet = self.stream.blocked or silence >= self._patience.ping_after
        ping = watched and quiet and awake - self._last_ping >= self._patience.ping_after
        if ping:
            self._last_ping = awake
        return changes, ping

    def due(self) -> Iterator[float]:
        """Yield the times [s] at which ``tick`` has something to do."""
        if self._watched or self.state is State.LOST:
            yield max(self._last_traffic, self._last_ping) + self._patience.ping_after
        if self._watched:
            yield self._last_traffic + (self._patience.suspect_after if self.state is State.PRESENT
                                        else self._patience.dead_after)

    def paused(self, awake: float) -> None:
        """Note that this process did not run: no recorded time may lie in the future of the ``awake`` clock."""
        self._last_traffic, self._last_ping = min(self._last_traffic, awake), min(self._last_ping, awake)

    def broken(self, awake: float, after: float) -> bool:
        """Whether to dial it anew: it is REFUSED, or it was here before and has been silent for ``after`` seconds."""
        gone = self.state is State.LOST or (self.state is State.ABSENT and bool(self.reason))
        return self.state is State.REFUSED or (gone and self.silence(awake) >= after)

    def silence(self, awake: float) -> float:
        """Return how long it has been silent [s]."""
        return max(0.0, awake - self._last_traffic)

    # Our BYE ------------------------------------------------------------------------------------------------
    # Closing a connection loses data: TCP may discard what it still holds, and ZeroMQ what the other end has not read.
    # So BYE is sent last, the neighbour acknowledges it by a PONG with its nonce, and only then do we close.

    def bye_sent(self, nonce: int) -> None:
        """Note that our BYE was sent."""
        self._bye, self._bye_read = nonce, False

    @property
    def was_sent_bye(self) -> bool:
        """Whether our BYE was sent over a connection that still exists."""
        return self._bye is not None

    @property
    def has_read_bye(self) -> bool:
        """Whether it has acknowledged our BYE, and so has read all that we sent."""
        return self._bye_read

    def ponged(self, nonce: int, consumed: int, now: float) -> bool:
        """Take a PONG, which acknowledges the BYE with the same nonce. Return whether our stream starts anew."""
        self._bye_read = self._bye_read or self._bye == nonce
        return self.stream.ponged(nonce, consumed, now)

    def connection_lost(self, carrier: bool) -> None:
        """Note that a connection has ended, and perhaps our BYE with it; ``carrier``: it carried our rows.

        Bytes in flight are lost, and must not count against the window when a neighbour that is LOST comes back.
        """
        self._bye, self._bye_read = None, False
        if carrier and self.up:
            self.stream.restart()
        elif carrier:
            self.stream.reset()


    # Inside -------------------------------------------------------------------------------------------------

    @property
    def _watched(self) -> bool:
        """Whether its silence counts."""
        return self.up or self.state is State.REFUSED

    @property
    def _has_left(self) -> bool:
        """Whether its present process has sent BYE."""
        return self.hello is not None and (self.hello.incarnation, self.hello.process) == self._left

    def _is_another(self, theirs: Hello) -> bool:
        """Whether a HELLO comes from another process, in the same or an earlier incarnation than the present one."""
        return self.hello is not None and self.hello.process != theirs.process \
            and theirs.incarnation <= self.hello.incarnation

    def _reaches(self, round: int) -> list[Changed]:
        """Note that it has reached a round. During training it has caught up at the round in which it came back."""
        due = max(0, self._back_in) if self._ours.lockstep else 0
        caught_up = self.state is State.RETURNING and round >= due
        training = self._ours.progress.phase <= Phase.EXCHANGE
        return self.happens(Cause.ROW, "") if caught_up and training else []

    def _admitted(self) -> bool:
        """Whether a new incarnation may take part, or at least be sent the model at the end."""
        return not self._ours.begun or self._ours.admits or self._ours.progress.phase > Phase.EXCHANGE

    def _forget(self) -> None:
        self.hello = None
        self.told.forget()
        self._given_up = False
