"""Failure detection: which neighbours are alive. Pure: the caller passes the time in, decisions come out.

Any traffic proves that a neighbour is alive. Silence leads to PINGs, then to SUSPECT, then to DEAD, which is final.
Only neighbours that have sent HELLO are watched. Time in which this process itself did not run is not counted as a
neighbour's silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from p2pser.base.errors import ConfigError, LocalProtocolError


class LivenessState(Enum):
    """What the failure detector holds a neighbour for."""

    UNKNOWN = "unknown"
    """It has not sent HELLO: not watched."""
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    """It sent BYE, or we closed the link: not watched."""


@dataclass(frozen=True)
class Ping:
    """A neighbour is silent: send it a PING."""

    peer: int


@dataclass(frozen=True)
class Suspect:
    """A neighbour has been silent for ``silence`` seconds and is SUSPECT."""

    peer: int
    silence: float


@dataclass(frozen=True)
class Alive:
    """A SUSPECT neighbour has sent something and is ALIVE again."""

    peer: int


@dataclass(frozen=True)
class Dead:
    """A neighbour has been silent for ``silence`` seconds and is DEAD."""

    peer: int
    silence: float


Event: TypeAlias = Ping | Suspect | Alive | Dead

HELLO, TRAFFIC, CLOSED, SUSPECTED, TIMED_OUT = "hello", "traffic", "closed", "suspected", "timed out"

# (state, input) -> next state; all other pairs change nothing. A neighbour that left may return with a new HELLO. One
# that is DEAD may not, since the other peers have agreed to go on without it; ``forget`` starts it anew.
_TRANSITIONS: dict[tuple[LivenessState, str], LivenessState] = {
    (LivenessState.UNKNOWN, HELLO): LivenessState.ALIVE,
    (LivenessState.UNKNOWN, CLOSED): LivenessState.LEFT,
    (LivenessState.ALIVE, SUSPECTED): LivenessState.SUSPECT,
    (LivenessState.ALIVE, CLOSED): LivenessState.LEFT,
    (LivenessState.SUSPECT, TRAFFIC): LivenessState.ALIVE,
    (LivenessState.SUSPECT, HELLO): LivenessState.ALIVE,
    (LivenessState.SUSPECT, TIMED_OUT): LivenessState.DEAD,
    (LivenessState.SUSPECT, CLOSED): LivenessState.LEFT,
    (LivenessState.LEFT, HELLO): LivenessState.ALIVE,
}
_WATCHED_STATES = (LivenessState.ALIVE, LivenessState.SUSPECT)


@dataclass
class _Watched:
    state: LivenessState = LivenessState.UNKNOWN
    last_traffic: float = 0.0
    last_ping: float = 0.0


class Liveness:
    """The failure detector for all neighbours of a peer.

    The caller must call ``tick`` no later than ``next_due``. A longer gap than ``pause_after`` between two ticks means
    that this process was stopped or got no processor time; such a gap counts as half of ``pause_after`` only, so that
    no neighbour is declared DEAD because we slept.

    Parameters
    ----------
    neighbours:
        Ids of the neighbours.
    ping_after:
        Silence after which a PING is due, and again after each further ``ping_after`` [s].
    suspect_after, dead_after:
        Silence after which a neighbour is SUSPECT, and DEAD [s].
    pause_after:
        Longest gap between ticks that counts in full [s]; at most half of ``dead_after`` is used.

    Raises
    ------
    ConfigError
        Unless 0 < ping_after <= suspect_after <= dead_after.
    """

    def __init__(
        self,
        neighbours: Iterable[int],
        ping_after: float = 1.0,
        suspect_after: float = 2.0,
        dead_after: float = 8.0,
        pause_after: float = 1.0,
    ) -> None:
        if not 0 < ping_after <= suspect_after <= dead_after or pause_after <= 0:
            raise ConfigError(
                f"network.ping_after = {ping_after}, suspect_after = {suspect_after}, "
                f"dead_after = {dead_after}: give times that ascend from above 0"
            )
        self.ping_after = ping_after
        self.suspect_after = suspect_after
        self.dead_after = dead_after
        self.pause_after = min(pause_after, dead_after / 2)
        self.paused = 0.0
        """Seconds in which this process did not run, as far as they are not counted as silence."""
        self._neighbours = {peer: _Watched() for peer in sorted(neighbours)}
        self._last_tick: float | None = None
        self._recovered: list[Alive] = []

    def state(self, peer: int) -> LivenessState:
        """Return the state of a neighbour."""
        return self._neighbour(peer).state

    def silence(self, peer: int, now: float) -> float:
        """Return how long a neighbour has been silent [s], without this process's own pauses."""
        return max(0.0, now - self.paused - self._neighbour(peer).last_traffic)

    def watch(self, peer: int, now: float) -> None:
        """Note a neighbour's HELLO: its silence counts from now on."""
        self._note(peer, HELLO, now)

    def note_traffic(self, peer: int, now: float) -> None:
        """Note that a message of a neighbour has arrived."""
        self._note(peer, TRAFFIC, now)

    def close(self, peer: int) -> None:
        """Stop watching a neighbour: it sent BYE, or we closed the link."""
        self._move(self._neighbour(peer), CLOSED)

    def forget(self, peer: int) -> None:
        """Make a neighbour UNKNOWN again, whatever its state: its next HELLO is as its first."""
        self._neighbour(peer).state = LivenessState.UNKNOWN

    def pause(self, now: float) -> float:
        """Return how long this process did not run before ``now`` [s], 0 where it ran (``tick`` calls it too)."""
        gap = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        if gap <= self.pause_after:
            return 0.0
        self.paused += gap - self.pause_after / 2
        # Traffic that was read after waking and before this tick must not lie in the future of the shifted clock.
        awake = now - self.paused
        for neighbour in self._neighbours.values():
            neighbour.last_traffic = min(neighbour.last_traffic, awake)
            neighbour.last_ping = min(neighbour.last_ping, awake)
        return gap

    def tick(self, now: float) -> list[Event]:
        """Return what is due, ascending by neighbour; neighbours that recovered since the last tick come first."""
        self.pause(now)
        # A neighbour that recovered may have left since.
        events: list[Event] = [event for event in self._recovered if self.state(event.peer) is LivenessState.ALIVE]
        self._recovered.clear()
        awake = now - self.paused
        for peer, neighbour in self._neighbours.items():
            if neighbour.state not in _WATCHED_STATES:
                continue
            silence = awake - neighbour.last_traffic
            if silence >= self.suspect_after and self._move(neighbour, SUSPECTED):
                events.append(Suspect(peer, silence))
            if silence >= self.dead_after and self._move(neighbour, TIMED_OUT):
                events.append(Dead(peer, silence))
            elif min(silence, awake - neighbour.last_ping) >= self.ping_after:
                neighbour.last_ping = awake
                events.append(Ping(peer))
        return events

    def next_due(self, now: float) -> float:
        """Return the time by which ``tick`` must be called next (``now`` or later)."""
        if self._recovered:
            return now
        due = (now if self._last_tick is None else self._last_tick) + self.pause_after / 2
        for neighbour in self._neighbours.values():
            if neighbour.state in _WATCHED_STATES:
                limit = self.suspect_after if neighbour.state is LivenessState.ALIVE else self.dead_after
                ping = max(neighbour.last_traffic, neighbour.last_ping) + self.ping_after
                due = min(due, neighbour.last_traffic + limit + self.paused, ping + self.paused)
        return max(now, due)

    def _neighbour(self, peer: int) -> _Watched:
        try:
            return self._neighbours[peer]
        except KeyError:
            raise LocalProtocolError(f"peer {peer} is no neighbour; only neighbours are watched") from None

    def _note(self, peer: int, what: str, now: float) -> None:
        neighbour = self._neighbour(peer)
        before = neighbour.state
        self._move(neighbour, what)
        if neighbour.state in _WATCHED_STATES:
            neighbour.last_traffic = max(neighbour.last_traffic, now - self.paused)
            if before is LivenessState.SUSPECT:
                self._recovered.append(Alive(peer))

    @staticmethod
    def _move(neighbour: _Watched, what: str) -> bool:
        after = _TRANSITIONS.get((neighbour.state, what))
        if after is None:
            return False
        neighbour.state = after
        return True
