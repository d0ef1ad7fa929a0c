"""Which neighbours are alive. Pure: the time is passed in, decisions come out.

Any traffic is a sign of life. Silence leads to pings, then to SUSPECT, then to DEAD, which is final. Only
neighbours that have said HELLO are watched. What this process slept itself is not counted as their silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from p2pser.base.errors import ConfigError, LocalProtocolError


class LivenessState(Enum):
    """What is thought of a neighbour."""

    UNKNOWN = "unknown"
    """It has not said HELLO: not watched."""
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    """It said BYE: not watched."""


@dataclass(frozen=True)
class Ping:
    """A neighbour is silent: send it a PING."""

    peer: int


@dataclass(frozen=True)
class Suspect:
    """A neighbour has been silent for ``silence`` seconds."""

    peer: int
    silence: float


@dataclass(frozen=True)
class Alive:
    """A suspected neighbour has been heard again."""

    peer: int


@dataclass(frozen=True)
class Dead:
    """A neighbour has been silent for ``silence`` seconds: it is left out from now on."""

    peer: int
    silence: float


Event: TypeAlias = Ping | Suspect | Alive | Dead

# What happens in which state; what is not here changes nothing. A neighbour that left may come back with a
# new HELLO, one that is DEAD may not: the others have settled without it.
_NEXT: dict[tuple[LivenessState, str], LivenessState] = {
    (LivenessState.UNKNOWN, "watch"): LivenessState.ALIVE,
    (LivenessState.UNKNOWN, "gone"): LivenessState.LEFT,
    (LivenessState.ALIVE, "gone"): LivenessState.LEFT,
    (LivenessState.ALIVE, "silent"): LivenessState.SUSPECT,
    (LivenessState.SUSPECT, "heard"): LivenessState.ALIVE,
    (LivenessState.SUSPECT, "watch"): LivenessState.ALIVE,
    (LivenessState.SUSPECT, "gone"): LivenessState.LEFT,
    (LivenessState.SUSPECT, "mute"): LivenessState.DEAD,
    (LivenessState.LEFT, "watch"): LivenessState.ALIVE,
}
_WATCHED_STATES = (LivenessState.ALIVE, LivenessState.SUSPECT)


@dataclass
class _Watched:
    state: LivenessState = LivenessState.UNKNOWN
    heard: float = 0.0
    pinged: float = 0.0


class Liveness:
    """Watches neighbours; all times in seconds of one monotonic clock.

    ``ping_after`` of silence is answered with a Ping, again every ``ping_after``; ``suspect_after`` makes a
    neighbour SUSPECT, ``dead_after`` DEAD. Call ``tick`` at ``next_due`` at the latest: where it comes later
    than ``pause_after`` (at most half of ``dead_after``) after the one before, this process was stopped or
    starved, and the gap counts as one ordinary interval only, so that nobody is buried for our own sleep.

    Raises ConfigError unless 0 < ping_after <= suspect_after <= dead_after.
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
        """Seconds that this process slept, as far as they were not counted."""
        self._peers = {peer: _Watched() for peer in sorted(neighbours)}
        self._ticked: float | None = None
        self._events: list[Event] = []

    def state(self, peer: int) -> LivenessState:
        """Return what is thought of a neighbour."""
        return self._of(peer).state

    def silence(self, peer: int, now: float) -> float:
        """Return for how long a neighbour has been silent [s], this process's own sleep left out."""
        return max(0.0, now - self.paused - self._of(peer).heard)

    def watch(self, peer: int, now: float) -> None:
        """A neighbour's HELLO came: its silence counts from now on."""
        self._speak(peer, "watch", now)

    def heard(self, peer: int, now: float) -> None:
        """Anything came from a neighbour."""
        self._speak(peer, "heard", now)

    def gone(self, peer: int) -> None:
        """A neighbour said BYE."""
        self._move(self._of(peer), "gone")

    def forget(self, peer: int) -> None:
        """A neighbour was lost before anything depended on it: it may come back as if it were new."""
        self._of(peer).state = LivenessState.UNKNOWN

    def pause(self, now: float) -> float:
        """Return for how long this process slept before ``now`` [s], 0 if it did not (``tick`` asks too)."""
        gap = 0.0 if self._ticked is None else now - self._ticked
        self._ticked = now
        if gap <= self.pause_after:
            return 0.0
        self.paused += gap - self.pause_after / 2
        # What was heard on waking, before this tick, must not lie in the shifted future.
        awake = now - self.paused
        for one in self._peers.values():
            one.heard = min(one.heard, awake)
            one.pinged = min(one.pinged, awake)
        return gap

    def tick(self, now: float) -> list[Event]:
        """Return what has to be done or told, in the order of the neighbours' ids."""
        self.pause(now)
        # Who was heard again may have left since.
        events = [event for event in self._events if self._of(event.peer).state is LivenessState.ALIVE]
        self._events.clear()
        awake = now - self.paused
        for peer, one in self._peers.items():
            if one.state not in _WATCHED_STATES:
                continue
            silence = awake - one.heard
            if silence >= self.suspect_after and self._move(one, "silent"):
                events.append(Suspect(peer, silence))
            if silence >= self.dead_after and self._move(one, "mute"):
                events.append(Dead(peer, silence))
            elif min(silence, awake - one.pinged) >= self.ping_after:
                one.pinged = awake
                events.append(Ping(peer))
        return events

    def next_due(self, now: float) -> float:
        """Return the time by which ``tick`` wants to be called next (``now`` or later)."""
        if self._events:
            return now
        due = (now if self._ticked is None else self._ticked) + self.pause_after / 2
        for one in self._peers.values():
            if one.state in _WATCHED_STATES:
                last = one.heard + (self.suspect_after if one.state is LivenessState.ALIVE else self.dead_after)
                ping = max(one.heard, one.pinged) + self.ping_after
                due = min(due, last + self.paused, ping + self.paused)
        return max(now, due)

    def _of(self, peer: int) -> _Watched:
        try:
            return self._peers[peer]
        except KeyError:
            raise LocalProtocolError(f"peer {peer} is no neighbour; only neighbours are watched") from None

    def _speak(self, peer: int, what: str, now: float) -> None:
        one = self._of(peer)
        before = one.state
        self._move(one, what)
        if one.state in _WATCHED_STATES:
            one.heard = max(one.heard, now - self.paused)
            if before is LivenessState.SUSPECT:
                self._events.append(Alive(peer))

    @staticmethod
    def _move(one: _Watched, what: str) -> bool:
        after = _NEXT.get((one.state, what))
        if after is None:
            return False
        one.state = after
        return True
