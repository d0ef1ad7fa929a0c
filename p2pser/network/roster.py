"""The training thread's view of the neighbours, which only the I/O thread's events change, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from p2pser.network import events
from p2pser.network.states import GONE, WATCHED, Cause, State
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

TRAINS = (Phase.TRAIN, Phase.EXCHANGE)


class Roster:
    """The neighbours' states, HELLOs and progress."""

    def __init__(self, neighbours: Iterable[int]) -> None:
        self.neighbours = tuple(sorted(neighbours))
        self._states = dict.fromkeys(self.neighbours, State.ABSENT)
        self._reasons: dict[int, str] = {}
        self._since: dict[int, float] = {}
        self._causes: dict[int, Cause] = {}
        self._refused: dict[int, float] = {}
        """The neighbours that do not fit, and since when [s]; also those that have fallen silent since."""
        self._older: set[int] = set()
        """The neighbours that may have an older topology file, which would explain their newest refusal."""
        self._hellos: dict[int, Hello] = {}
        self._progress: dict[int, Progress] = {}
        self._broken: set[int] = set()
        self._renewed: set[int] = set()
        self.alone: dict[int, float] = dict.fromkeys(self.neighbours, 0.0)
        """For how long exchanges have waited for one neighbour only, by neighbour [s]."""
        self.rounds_over = False
        """Whether our training is over: a neighbour that returns then takes no part, since it has missed too much."""
        self.hellos: Mapping[int, Hello] = MappingProxyType(self._hellos)
        """The HELLOs of the neighbours that have sent one."""

    def up(self, event: events.Up) -> bool:
        """Take a HELLO; return whether it is that of another process than the last one, without its memory."""
        before, now = self._hellos.get(event.peer), event.hello
        self._hellos[event.peer], self._progress[event.peer] = now, event.progress
        renewed = before is not None and (before.incarnation, before.process) != (now.incarnation, now.process)
        if renewed:
            self._renewed.add(event.peer)
        return renewed

    def agreed(self, event: events.Agreed) -> None:
        """Take another HELLO of the same process."""
        self._hellos[event.peer] = event.hello

    def changed(self, event: events.Changed, now: float) -> None:
        """Take a change of state."""
        j = event.peer
        self._states[j], self._since[j] = event.after, now - event.silence
        self._reasons[j], self._causes[j] = event.reason, event.cause
        if event.after is State.REFUSED:
            self._refused.setdefault(j, now)
        elif event.after is not State.ABSENT or event.cause is Cause.RESTART:
            self._refused.pop(j, None)
        if event.before in (State.PRESENT, State.SUSPECT) and event.after not in (State.PRESENT, State.SUSPECT):
            self._broken.add(j)

    def breaks(self) -> tuple[list[int], list[int]]:
        """Return the neighbours whose edge was broken since the last call, and those that began without memory."""
        taken = sorted(self._broken), sorted(self._renewed)
        self._broken.clear()
        self._renewed.clear()
        return taken

    def refused(self, event: events.Refused) -> None:
        """Take a refusal; ``reason`` is that of the newest one."""
        (self._older.add if event.older else self._older.discard)(event.peer)
        if self._states[event.peer] is State.REFUSED:
            self._reasons[event.peer] = event.reason

    def progressed(self, event: events.Progressed) -> None:
        """Take a neighbour's progress."""
        self._progress[event.peer] = event.progress

    def state(self, j: int) -> State:
        """Return a neighbour's state."""
        return self._states[j]

    def progress(self, j: int) -> Progress | None:
        """Return a neighbour's last known progress; None before its first HELLO."""
        return self._progress.get(j)

    def here(self) -> frozenset[int]:
        """Return the neighbours that are connected, and take part or are coming back."""
        return frozenset(j for j in self.neighbours if self._states[j] in WATCHED)

    def ending(self) -> tuple[int, ...]:
        """Return the connected neighbours whose rounds are over."""
        return tuple(j for j in self.neighbours if j in self.here() and self._progress[j].phase >= Phase.CONSENSUS)

    def since(self, j: int) -> float:
        """Return when a neighbour entered its state [s]; if that is due to silence, when the silence began."""
        return self._since.get(j, 0.0)

    def refused_since(self, j: int) -> float:
        """Return since when a neighbour does not fit [s]."""
        return self._refused.get(j, 0.0)

    def older(self, j: int) -> bool:
        """Whether the newest refusal between us and a neighbour may be due to its older topology file."""
        return j in self._older

    def reason(self, j: int) -> str:
        """Return why a neighbour takes no part."""
        return self._reasons.get(j, "")

    def gone(self, j: int) -> bool:
        """Whether a neighbour takes no part: no rows are sent to it, and it is not waited for."""
        return self._states[j] in GONE

    def died(self, j: int) -> bool:
        """Whether a neighbour takes no part because it fell silent, without leaving."""
        return self.gone(j) and self._causes.get(j) is Cause.DEATH

    def takes_part(self, j: int) -> bool:
        """Whether rows are sent to a neighbour."""
        return not self.gone(j) and not (self.rounds_over and self._states[j] is State.RETURNING)

    def awaited(self, j: int) -> bool:
        """Whether a neighbour is waited for."""
        return self._states[j] is not State.RETURNING and not self.gone(j)

    def lost(self) -> dict[int, str]:
        """Return the neighbours that take no part, and why."""
        return {j: self.reason(j) for j in self.neighbours if self.gone(j)}

    def returning(self) -> tuple[int, ...]:
        """Return the neighbours to which rows are sent, but which are not waited for yet."""
        return tuple(j for j in self.neighbours if self._states[j] is State.RETURNING)

    def missing(self) -> tuple[int, ...]:
        """Return the neighbours that have not connected, or do not fit."""
        return tuple(j for j in self.neighbours if self._states[j] in (State.ABSENT, State.REFUSED))

    def refusing(self) -> tuple[int, ...]:
        """Return the neighbours that do not fit, also those that have fallen silent since."""
        return tuple(j for j in self.missing() if j in self._refused)

    def rounds(self) -> dict[int, int]:
        """Return the present round of each connected neighbour."""
        return {j: self._progress[j].round for j in self.neighbours if self._states[j] in WATCHED}

    def training(self) -> tuple[int, ...]:
        """Return the connected neighbours that train: if we have not begun, the run is under way, and we may join it.
        """
        return tuple(j for j in self.neighbours if self._states[j] in WATCHED and self._progress[j].phase in TRAINS)
