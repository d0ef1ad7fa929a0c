"""The state of a run from the files of its peers: how far each peer is, which peers it waits for, what went wrong.

It only reads, imports no torch, and needs no running peer: the files of a killed peer show as much.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from p2pser.base.atomic import opened, read_json
from p2pser.base.errors import CheckpointError, ConfigError, printable
from p2pser.peer import names
from p2pser.peer.telemetry import EVENTS, METRICS, read

RUNNING, FINISHED, INTERRUPTED, FAILED, KILLED = "running", "finished", "interrupted", "failed", "killed"
NOT_STARTED = "not started"
RECENT = 20
"""Number of rounds from which the remaining time is estimated."""
MUCH_LONGER = 5
"""A round that lasts this many times as long as the previous ones is stalled."""
DEAD_AFTER = 8.0
"""``network.dead_after`` of a peer whose events do not have it [s]."""
RUNS = "runs"
"""The folder of the results, ``--out``, by default."""
MOST_PEERS = 1_000_000
"""An id of a peer is below this number."""
Lines = Callable[[Path], Sequence[Mapping[str, Any]]]
PROBLEMS = frozenset({"suspect", "dead", "refused", "trouble", "struck", "banned", "apart", "bye", "clip_left_out",
                      "checkpoint_failed", "incomplete", "paused", "slow", "sum", "left"})
"""Kinds of events that may require an action of the operator."""
_FOLDER = re.compile(r"peer-(\d+)")
_LINKS = {"up": "alive", "alive": "alive", "rejoined": "returning", "apart": "apart", "suspect": "silent",
          "dead": "lost", "bye": "left", "refused": "refused", "banned": "banned"}
"""Kind of a neighbour's event -> state of its link afterwards; before any event the state is ``not met``."""
_AWAITED = {"not met": "not heard of yet: check that it runs and that its address can be reached",
            "lost": "lost, and left out until it is back,", "apart": "goes on without us"}


@dataclass(frozen=True)
class Link:
    """A peer's link to a neighbour: its state (``_LINKS``), since when, the neighbour's address, and the reason."""

    state: str
    since: datetime | None
    address: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class PeerView:
    """One peer of a run, as its folder shows it.

    state : ``running``, ``finished``, ``interrupted``, ``failed``, ``killed`` (it ended without an event) or ``not
        started`` (it has never listened to its neighbours).
    at : the time of this state. since : time of the last start. rounds : of the run. round : number of rounds done.
    metrics, events : the lines of both files, oldest first; events of the last start only. history : of all starts.
    round_seconds : the median of the last rounds; None before the second.
    summary : of a finished run.
    """

    peer: int
    folder: Path
    state: str
    at: datetime
    since: datetime | None
    round: int
    rounds: int
    metrics: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    history: tuple[Mapping[str, Any], ...] = ()
    links: Mapping[int, Link] = field(default_factory=dict)
    round_seconds: float | None = None
    summary: Mapping[str, Any] | None = None

    @property
    def activity(self) -> str:
        """The activity of a running peer: ``waiting``, ``training``, ``stalled`` (for an unknown reason), ``agreeing``
        (the final consensus) or ``done`` (it only serves the others); of another peer its state."""
        if self.state != RUNNING:
            return self.state
        if self.summary is not None:
            return "done"
        if self.waiting is not None:
            return "waiting"
        if self.stalled is not None:
            return "stalled"
        return "agreeing" if 0 < self.rounds <= self.round else "training"

    @property
    def waiting(self) -> str | None:
        """The last sentence of a running peer about what it waits for; None if it has made progress since."""
        progress = ("up", "labels", "statistics", "resumed", "joined")
        last = next((event for event in reversed(self.events) if event.get("kind") in ("waiting", *progress)), None)
        if self.state != RUNNING or last is None or last["kind"] != "waiting":
            return None
        newest = when(self.metrics[-1]) if self.metrics else None
        at = when(last)
        if newest is not None and at is not None and newest >= at:
            return None
        return printable(str(last.get("sentence") or "waiting"))

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the end of the last round, by the duration of the last ones [s]; None if unknown."""
        if self.state != RUNNING or self.round_seconds is None:
            return None
        return self.round_seconds * max(0, self.rounds - self.round)

    @property
    def waits_for(self) -> dict[int, str]:
        """The neighbours that the peer waits for or must do without, each with a description of its state."""
        if self.state != RUNNING:
            return {}
        waits, slow = {}, self._slow()
        for j, link in sorted(self.links.items()):
            if j in slow and link.state in ("alive", "returning"):
                waits[j] = f"peer {j}{f' at {link.address}' if link.address else ''}: connected, and {slow[j]}"
            if link.state in ("alive", "returning") or (link.state, link.reason) == ("left", "done"):
                continue
            since = "" if link.since is None else f" since {link.since.astimezone():%H:%M:%S}"
            where = f" at {link.address}" if link.address else ""
            what = _AWAITED.get(link.state, link.state)
            waits[j] = f"peer {j}{where}: {what}{since if link.state != 'not met' else ''}" + (
                f" ({link.reason})" if link.reason else "")
        return waits

    @property
    def stalled(self) -> float | None:
        """The duration of the present round so far [s], if it is much longer than the previous ones; else None.

        For a peer that was started again, it is None until a round is over.
        """
        began = when(self.metrics[-1]) if self.metrics else None
        if (self.state != RUNNING or self.round_seconds is None or began is None or self.since is None
                or self.since > began or self.round >= self.rounds):
            return None
        lasts, dead_after = (self.at - began).total_seconds(), finite(self.events[0].get("dead_after"))
        return lasts if lasts > longest_round(self.round_seconds, dead_after or DEAD_AFTER) else None

    def _slow(self) -> dict[int, str]:
        """Return the activities of the neighbours that a stalled round waits for, by the peer's last event."""
        none: Mapping[str, Any] = {}
        last = next((event for event in reversed(self.events) if "waits_for" in event), none)
        whom = last.get("waits_for")
        if self.stalled is None or last.get("round") != self.round or not isinstance(whom, dict):
            return {}
        return {j: printable(str(whom[str(j)])) for j in self.links if str(j) in whom}

    @property
    def problems(self) -> tuple[Mapping[str, Any], ...]:
        """The events that may require an action of the operator, oldest first."""
        return tuple(filter(concerns, self.events))

    def newest(self, name: str) -> float | None:
        """Return the newest measurement of a name (``loss``, ``uar``, …) that is a number."""
        return next((number for line in reversed(self.metrics) if (number := finite(line.get(name))) is not None), None)

    def measured(self, name: str) -> list[float]:
        """Return the measurements of a name that are numbers, oldest first."""
        return [number for line in self.metrics if (number := finite(line.get(name))) is not None]


@dataclass(frozen=True)
class RunView:
    """A run, as the folders on this machine show it."""

    name: str
    peers: tuple[PeerView, ...]


def concerns(event: Mapping[str, Any]) -> bool:
    """Whether an event may require an action of the operator."""
    kind = str(event.get("kind"))
    return kind in PROBLEMS and not (kind in ("left", "bye") and event.get("reason") == "done")


def finite(value: object) -> float | None:
    """Return a value of a file if it is a finite number, else None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) and abs(value) < 2**63 else None


def count(value: object) -> int | None:
    """Return a value of a file if it is a count (of rounds), else None."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def look(folder: Path, until: datetime | None = None, lines: Lines | None = None) -> RunView:
    """Read a run's folder ``OUT/NAME`` with its ``peer-*`` folders, or the folder of one peer.

    until : return the run as it was then; None: as it is now. lines : reads a telemetry file (default: all of it).
    Raises ConfigError where the folder is neither.
    """
    def seen(path: Path) -> PeerView:
        return _peer(path, until, lines or _lines)

    real = Path(os.path.realpath(folder))
    if _FOLDER.fullmatch(real.name):
        return RunView(printable(real.parent.name), (seen(folder),))
    folders = sorted(filter(_is_peers, folder.glob("peer-*")), key=_number)
    if not folders:
        raise ConfigError(f"{folder} holds no peer's folder (peer-0, peer-1, …): give the folder of a run "
                          "(runs/NAME), or of one peer (runs/NAME/peer-ID)")
    return RunView(printable(real.name), tuple(map(seen, folders)))


def longest_round(usual: float, dead_after: float) -> float:
    """Return the longest duration of a round that is not stalled, if others take ``usual`` seconds [s]."""
    return max(MUCH_LONGER * usual, dead_after)


def run_folder(place: Path) -> Path:
    """Return ``place`` if it is the folder of a run or of a peer, else that of the newest run in it (``run_folders``).

    Raises ConfigError where there is none.
    """
    whole = any(map(_is_peers, (Path(os.path.realpath(place)), *place.glob("peer-*"))))
    return place if whole else run_folders(place)[0]


def run_folders(place: Path) -> list[Path]:
    """Return the folders of the runs in a folder, the newest first, by their peers' events.

    place : holds runs, or ``runs/``, or the folders of sites that have accepted an invitation (``*/runs/``). Raises
    ConfigError where it does not exist, or holds no run.
    """
    if not place.is_dir():
        raise ConfigError(f"there is no folder {place}: give the folder of a run (runs/NAME)")
    written = sorted((path.stat().st_mtime, path.parent.parent) for runs in ("*", f"{RUNS}/*", f"*/{RUNS}/*")
                     for path in place.glob(f"{runs}/peer-*/{EVENTS}") if _is_peers(path.parent))
    if not written:
        raise ConfigError(f"there is no run in {place.absolute()}: start one (p2pser peer), or give the folder of a run"
                          " (runs/NAME), or of one peer (runs/NAME/peer-ID)")
    return list(dict.fromkeys(folder for _, folder in reversed(written)))


def _is_peers(folder: Path) -> bool:
    """Whether a folder is a peer's; that of a site (``p2pser accept --out``) may have such a name too."""
    return _FOLDER.fullmatch(folder.name) is not None and folder.is_dir() and not (folder / RUNS).is_dir()


def _number(folder: Path) -> int:
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else -1


def _peer(folder: Path, until: datetime | None, lines: Lines) -> PeerView:
    run, summary, runs = _document(folder / names.RUN), _summary(folder / names.FINISHED), _locked(folder / names.LOCK)
    metrics, history = _read(folder / METRICS, lines), _read(folder / EVENTS, lines)
    if until is not None:
        runs = _ran(history, metrics, runs, until)
        metrics, history = _before(metrics, until), _before(history, until)
    starts = [k for k, event in enumerate(history) if event.get("kind") == "listening"]
    events = history[starts[-1]:] if starts else history
    if until is not None and _left(events) != "done":
        summary = None
    began = history or (until is None and (runs or summary is not None or metrics))
    settings = run.get("settings") if run else None
    rounds = settings.get("training.rounds") if isinstance(settings, dict) else None
    if summary is not None and count(rounds) is not None and summary.get("rounds", rounds) != rounds:
        summary = None  # the run is continued with more rounds
    times = [at for line in metrics[-RECENT:] if (at := when(line)) is not None]
    seconds = [(after - before).total_seconds() for before, after in pairwise(times)]
    return PeerView(
        peer=_number(Path(os.path.realpath(folder))), folder=folder, at=until or datetime.now(timezone.utc),
        state=_state(events, summary, runs) if began else NOT_STARTED,
        since=when(events[0]) if starts else None, rounds=count(rounds) or 0,
        round=1 + max((done for line in metrics[-1:] if (done := count(line.get("round"))) is not None), default=-1),
        metrics=tuple(metrics), events=tuple(events), history=tuple(history), links=_links(events), summary=summary,
        round_seconds=statistics.median(seconds) if seconds else None)


def _state(events: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None, runs: bool) -> str:
    if runs:
        return RUNNING
    if summary is not None:
        return FINISHED
    reason = _left(events)
    return KILLED if reason is None else FAILED if reason == "failed" else INTERRUPTED


def _left(events: Sequence[Mapping[str, Any]]) -> object:
    """Return the reason for which a peer has left since its last start; None if it has not."""
    return next((event.get("reason") for event in reversed(events) if event.get("kind") == "left"), None)


def _ran(history: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]], runs: bool,
         until: datetime) -> bool:
    """Whether a process that had started before a time was still running then. runs : whether one runs now."""
    then = _before(history, until)
    if not then or then[-1].get("kind") in ("left", "finished"):
        return False
    later = [line for line in (*history, *metrics) if (at := when(line)) is not None and at > until]
    again = next((at for line in later if line.get("kind") == "listening" and (at := when(line)) is not None), None)
    if again is None:
        return runs or bool(later)
    return any((at := when(line)) is not None and at < again for line in later)


def _before(records: Sequence[Mapping[str, Any]], until: datetime) -> list[Mapping[str, Any]]:
    return [record for record in records if (at := when(record)) is not None and at <= until]


def _locked(lock: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    try:
        with opened(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _links(events: Sequence[Mapping[str, Any]]) -> dict[int, Link]:
    """Return each link after the events of one start."""
    links: dict[int, Link] = {}
    for event in events:
        kind, j, at = event.get("kind"), event.get("peer"), when(event)
        if kind == "listening" and isinstance(event.get("neighbours"), dict):
            links |= {int(i): Link("not met", at, None if address is None else printable(str(address)))
                      for i, address in event["neighbours"].items() if re.fullmatch("[0-9]{1,6}", i)}
        elif isinstance(kind, str) and kind in _LINKS and isinstance(j, int) and 0 <= j < MOST_PEERS:
            before = links.get(j, Link("not met", at))
            links[j] = Link(_LINKS[kind], at, before.address, printable(str(event.get("reason") or "")))
    return links


def when(record: Mapping[str, Any]) -> datetime | None:
    """Return the time of a line of telemetry; None if it has no valid one."""
    try:
        at = datetime.fromisoformat(record["at"])
    except (KeyError, TypeError, ValueError):
        return None
    if not 2000 <= at.year < 3000:  # a year that exists in every time zone
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)


def dated(record: Mapping[str, Any]) -> bool:
    """Whether a line of telemetry has a time; other lines are not shown."""
    return when(record) is not None


def _lines(path: Path) -> Sequence[Mapping[str, Any]]:
    return list(filter(dated, read(path)))


def _read(path: Path, lines: Lines) -> Sequence[Mapping[str, Any]]:
    try:
        return lines(path)
    except OSError:
        return []


def _document(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path, dict)
    except CheckpointError:
        return None  # a damaged file is ignored: the other files show the rest


def _summary(path: Path) -> dict[str, Any] | None:
    """Return a finished run's summary; None if it lacks the numbers of peers."""
    document = _document(path)
    if document is None or not {"agreed", "took_part", "peers"} <= document.keys():
        return None
    return names.in_folder(document, path.parent)
