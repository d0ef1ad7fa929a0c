"""One neighbour: all that a peer knows of it. Pure: time and messages are passed in, decisions come out.

What follows from an event in a state is in one table (states.py). The I/O thread owns the machines; the training thread
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

DISCONNECTED = 1.5
"""Seconds without any connection after which a neighbour has ended, its BYE lost: a living one would have dialled."""
TWICE = ("runs twice: two processes have its id and its key, and the first stays; stop one of them (if your "
         "site did not start a second, the key was stolen: replace it)")
"""The reason given where a neighbour's HELLO comes from a second process."""


@dataclass(frozen=True)
class Contact:
    """Where a neighbour listens (None: only it dials us) and the public key (Z85) that it must hold.

    ipv6 : whether its address is one of IPv6, or a name that has only such.
    derived : whether the key follows from the user's secret; else the topology file gives it.
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
                              f"dead_after = {self.dead_after}: give times that ascend from above 0")


@dataclass
class Ours:
    """What decides about all neighbours of a peer; the I/O thread keeps it."""

    begun: bool = False
    """Whether our run has begun: from then on a neighbour that is missing is LOST."""
    admits: bool = False
    """Whether a neighbour that is started again, or comes late, may take part in training."""
    lockstep: bool = True
    """Whether peers train in common rounds; else any row shows that a neighbour trains."""
    progress_counts: Collection[Phase] = ()
    """The phases in which a neighbour's progress shows, as a row does, that it has caught up: it may send no row before
    it has ours."""
    progress: Progress = field(default_factory=lambda: Progress(-(2**31), 0, Phase.START, 0))
    """How far we are; every header carries it."""


class Neighbour:
    """What a peer knows of one neighbour.

    All times ``awake`` are of an ``awake.AwakeClock``, in which this process's own pauses do not count.

    Parameters
    ----------
    contact : its id, address and key.
    ours : what decides about all neighbours.
    patience : how much silence is borne.
    stream : its rows and ours.
    strikes : messages that do not fit until it is BANNED.
    """

    def __init__(self, contact: Contact, ours: Ours, patience: Patience, stream: Stream, strikes: int) -> None:
        self.contact, self.peer, self.stream = contact, contact.peer, stream
        self.state = State.ABSENT
        self.reason = ""
        """Why it takes no part."""
        self.hello: Hello | None = None
        """Of its present incarnation; None before."""
        self.strikes = 0
        self.lives = 0
        """How many of its processes have sent a HELLO."""
        self._ours, self._patience, self._most_strikes = ours, patience, strikes
        self._incarnation = -1
        self._ended = False
        """Whether its incarnation has sent BYE: then no message of it is a return."""
        self._given_up = False
        """Whether the run went on without it: then only a row of it is a return."""
        self._last_traffic = self._last_ping = 0.0
        self.told = Told(contact.peer)
        self._back_in = 0
        """The round that we were in when it came back."""
        self._bye: int | None = None
        self._bye_read = False
        self._unconnected_since: float | None = None

    @property
    def up(self) -> bool:
        """Whether rows may be exchanged."""
        return self.state in WATCHED

    @property
    def apart(self) -> bool:
        """Whether we go on without it: our messages say so, and then it does not wait for us."""
        return self.state in (State.LOST, State.RETURNING)

    # What it says -------------------------------------------------------------------------------------------

    def greeted(self, theirs: Hello, restarts: int, difference: str | None, awake: float,
                ) -> tuple[str | None, list[Changed]]:
        """Take a HELLO or WELCOME.

        Parameters
        ----------
        theirs, restarts : the HELLO, and how often its sender's stream of rows broke.
        difference : why it does not fit ours; None where it does.
        awake : the time [s].

        Returns
        -------
        tuple[str | None, list[Changed]]
            None where it is welcome, else why it is refused, "" where it is to be left unanswered; and what changes.
        """
        if self.state is State.BANNED:
            return self.reason, []
        other = self._is_another(theirs)
        if other and self.up:
            return f"peer {self.peer} {TWICE}", []
        if theirs.incarnation < self._incarnation:
            return f"peer {self.peer} was started again since (incarnation {self._incarnation})", []
        changes: list[Changed] = []
        if theirs.incarnation > self._incarnation or other:
            if self._incarnation >= 0:
                changes += self.happens(Cause.RESTART, "it was started again")
                self.stream.reset()
            self._forget()
            self._incarnation = theirs.incarnation
            self.lives += 1
        if difference is not None:
            self.refusal(awake)
            return difference, [*changes, *self.happens(Cause.MISFIT, difference)]
        if self._ended:
            return "", changes
        if self.hello is None and not self._admitted():
            waits = self._ours.progress.phase < Phase.TRAIN  # for training: perhaps it may join then
            return "" if waits else (f"peer {self.peer} was started again, or came late, while the run goes on, and "
                                     "this algorithm lets no peer join"), changes
        self.stream.greeted(restarts, new=self.hello is None)
        self.hello = theirs
        self._last_traffic = max(self._last_traffic, awake)
        return None, [*changes, *self.happens(Cause.HELLO, "")]

    def of_this_incarnation(self, header: Header) -> bool:
        """Whether a message comes from the incarnation that sent the last HELLO."""
        return self.hello is not None and header.incarnation == self.hello.incarnation

    def former(self, header: Header) -> bool:
        """Whether a message comes from an incarnation before that of the last HELLO, fitting or not."""
        return header.incarnation < self._incarnation

    def refusal(self, awake: float) -> None:
        """Note that a process of it is there, though one of the two does not admit the other."""
        self._last_traffic = max(self._last_traffic, awake)

    def heard(self, awake: float) -> list[Changed]:
        """Take any message of its present incarnation."""
        self._last_traffic = max(self._last_traffic, awake)
        if self.state is State.PRESENT or self._ended or self._given_up:
            return []
        return self.happens(Cause.TRAFFIC, "")

    def row(self, round: int) -> list[Changed]:
        """Take a whole row of a round."""
        if self._given_up:
            self._given_up = False
            return self.happens(Cause.TRAFFIC, "")
        return self._reaches(round)

    def goes_on(self, progress: Progress) -> list[Changed]:
        """Take what a PING or PONG says of its progress."""
        counts = progress.phase in self._ours.progress_counts and not self._given_up
        return self._reaches(progress.round) if counts and self._ours.lockstep else []

    def said_bye(self, word: str) -> list[Changed]:
        """Take a BYE."""
        self._ended = self._ours.begun
        return self.happens(Cause.DONE if word == "done" else Cause.LEFT, word)

    # What happens to it -------------------------------------------------------------------------------------

    def happens(self, cause: Cause, reason: str, silence: float = 0.0) -> list[Changed]:
        """Look an event up in the table; return the change, if it is one."""
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
        """Begin our run; ``joining``: one that is under way, in which a neighbour that does not train is not missed."""
        at = self.told.progress
        trains = at is not None and at.phase in (Phase.TRAIN, Phase.EXCHANGE)
        if joining and self.up and not trains:
            return self.happens(Cause.APART, f"peer {self.peer} does not train yet")
        return self.happens(Cause.BEGIN, self.reason or f"peer {self.peer} did not come in time")

    def drop(self, reason: str, incarnation: int | None) -> list[Changed]:
        """Go on without it, unless it is of another incarnation meanwhile."""
        if incarnation is not None and incarnation != self._incarnation:
            return []
        changes = self.happens(Cause.DROPPED, reason)
        self._given_up = self._given_up or bool(changes)
        return changes

    def strike(self, reason: str) -> list[Changed]:
        """Count a message that did not fit."""
        self.strikes += 1
        if self.strikes < self._most_strikes:
            return []
        changes = self.happens(Cause.STRUCK_OUT, f"{self.strikes} messages of peer {self.peer} did not fit: {reason}")
        self.stream.reset()
        return changes

    def tick(self, awake: float) -> tuple[list[Changed], bool]:
        """Return what its silence changes, and whether a PING is due: also where rows wait for its credit."""
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
        """This process did not run: nothing that was read since lies in the future of the clock."""
        self._last_traffic, self._last_ping = min(self._last_traffic, awake), min(self._last_ping, awake)

    def broken(self, awake: float, after: float) -> bool:
        """Whether to dial it anew: it is refused, or has been here and is silent for ``after`` seconds."""
        gone = self.state is State.LOST or (self.state is State.ABSENT and bool(self.reason))
        return self.state is State.REFUSED or (gone and self.silence(awake) >= after)

    def silence(self, awake: float) -> float:
        """Return how long it has been silent [s]."""
        return max(0.0, awake - self._last_traffic)

    # Our goodbye --------------------------------------------------------------------------------------------
    # A connection that closes loses data: TCP may discard what it still holds, and ZeroMQ what the other end has not
    # read. So BYE goes last, the neighbour acknowledges it by a PONG with its nonce, and only then do we close.

    def bye_sent(self, nonce: int) -> None:
        """Note that our BYE has left."""
        self._bye, self._bye_read = nonce, False

    @property
    def was_sent_bye(self) -> bool:
        """Whether our BYE has left over a connection that still exists."""
        return self._bye is not None

    @property
    def has_read_bye(self) -> bool:
        """Whether it has acknowledged our BYE, and so has read all that we sent."""
        return self._bye_read

    def ponged(self, nonce: int, consumed: int, now: float) -> bool:
        """Take a PONG; it acknowledges our BYE where it carries its nonce. Return whether the stream starts anew."""
        self._bye_read = self._bye_read or self._bye == nonce
        return self.stream.ponged(nonce, consumed, now)

    def connection_lost(self, carrier: bool) -> None:
        """A connection has ended, and with it perhaps our BYE; ``carrier``: our rows went over it.

        What was in flight is lost, also where the neighbour is LOST meanwhile: if it still counted when the neighbour
        comes back, there might never be room for another row.
        """
        self._bye, self._bye_read = None, False
        if carrier and self.up:
            self.stream.restart()
        elif carrier:
            self.stream.reset()

    def unconnected(self, connected: bool, now: float) -> bool:
        """Whether it has had no connection for DISCONNECTED seconds. Call it again and again."""
        if connected:
            self._unconnected_since = None
            return False
        self._unconnected_since = now if self._unconnected_since is None else self._unconnected_since
        return now - self._unconnected_since >= DISCONNECTED

    # Inside -------------------------------------------------------------------------------------------------

    @property
    def _watched(self) -> bool:
        """Whether its silence is counted."""
        return self.up or self.state is State.REFUSED

    def _is_another(self, theirs: Hello) -> bool:
        """Whether a HELLO comes from another process, which claims no later start than the one that takes part."""
        return self.hello is not None and self.hello.process != theirs.process \
            and theirs.incarnation <= self.hello.incarnation

    def _reaches(self, round: int) -> list[Changed]:
        """It has come to a round: where we train, and were no further when it came back, it has caught up."""
        due = max(0, self._back_in) if self._ours.lockstep else 0
        caught_up = self.state is State.RETURNING and round >= due
        training = self._ours.progress.phase <= Phase.EXCHANGE
        return self.happens(Cause.ROW, "") if caught_up and training else []

    def _admitted(self) -> bool:
        """Whether an incarnation that we have not met may take part, or at least be served at the end."""
        return not self._ours.begun or self._ours.admits or self._ours.progress.phase > Phase.EXCHANGE

    def _forget(self) -> None:
        self.hello = None
        self.told.forget()
        self._ended = self._given_up = False
