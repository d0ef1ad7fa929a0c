"""What the files in the folders of a run show: how far each peer is, whom it waits for, what went wrong.

Reads only, imports no torch, and needs no running peer: the files of a killed one tell as much.
"""

from __future__ import annotations

import fcntl
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from p2pser.base.atomic import read_json
from p2pser.base.errors import CheckpointError, ConfigError
from p2pser.peer import names
from p2pser.peer.telemetry import EVENTS, METRICS, read

RUNNING, FINISHED, INTERRUPTED, FAILED, KILLED = "running", "finished", "interrupted", "failed", "killed"
RECENT = 20
"""Rounds by which the time left is estimated."""
PROBLEMS = frozenset({"suspect", "dead", "refused", "trouble", "struck", "banned", "apart", "bye", "clip_left_out",
                      "checkpoint_failed", "incomplete", "paused", "sum", "left"})
"""Kinds of events that an operator may have to do something about."""
_FOLDER = re.compile(r"peer-(\d+)")
_LINKS = {"up": "alive", "alive": "alive", "rejoined": "returning", "apart": "apart", "suspect": "silent",
          "dead": "lost", "bye": "left", "refused": "refused", "banned": "banned"}
"""What an event of a neighbour makes of its link; before any of them it is ``not met``."""
_AWAITED = {"not met": "not heard of yet: check that it runs and that its address can be reached",
            "lost": "lost, and left out until it is back,", "apart": "goes on without us"}


@dataclass(frozen=True)
class Link:
    """What a peer knows of a neighbour: a state of ``_LINKS``, since when, where it is dialled, and why."""

    state: str
    since: datetime | None
    address: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class PeerView:
    """One peer of a run, as its folder shows it.

    state : ``running``, ``finished``, ``interrupted``, ``failed`` or ``killed`` (it ended without a word).
    since : when it was started last. rounds : of the run; round : that are over.
    metrics, events : the lines of both files, oldest first; events of the last start only.
    round_seconds : of the last rounds, the median; None before the second.
    summary : of a finished run.
    """

    peer: int
    folder: Path
    state: str
    since: datetime | None
    round: int
    rounds: int
    metrics: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    links: Mapping[int, Link] = field(default_factory=dict)
    round_seconds: float | None = None
    summary: Mapping[str, Any] | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last round is over, if all go on as the last ones did; None where that is unknown."""
        if self.state != RUNNING or self.round_seconds is None:
            return None
        return self.round_seconds * (self.rounds - self.round)

    @property
    def waits_for(self) -> dict[int, str]:
        """The neighbours that the peer waits for or has to do without, each with what is known of it."""
        if self.state != RUNNING:
            return {}
        waits = {}
        for j, link in sorted(self.links.items()):
            if link.state in ("alive", "returning"):
                continue
            since = "" if link.since is None else f" since {link.since.astimezone():%H:%M:%S}"
            where = f" at {link.address}" if link.address else ""
            what = _AWAITED.get(link.state, link.state)
            waits[j] = f"peer {j}{where}: {what}{since if link.state != 'not met' else ''}" + (
                f" ({link.reason})" if link.reason else "")
        return waits

    @property
    def problems(self) -> tuple[Mapping[str, Any], ...]:
        """The events that an operator may have to do something about, oldest first."""
        return tuple(event for event in self.events if event.get("kind") in PROBLEMS
                     and not (event.get("kind") in ("left", "bye") and event.get("reason") == "done"))

    def newest(self, name: str) -> float | None:
        """Return the newest measurement of a name (``loss``, ``uar``, …) that is a number."""
        return next(reversed(self.measured(name)), None)

    def measured(self, name: str) -> list[float]:
        """Return the measurements of a name that are numbers, oldest first."""
        return [line[name] for line in self.metrics if isinstance(line.get(name), (int, float))]


@dataclass(frozen=True)
class RunView:
    """A run, as far as the folders on this machine show it."""

    name: str
    peers: tuple[PeerView, ...]


def look(folder: Path) -> RunView:
    """Read a run's folder ``OUT/NAME`` with its ``peer-*`` folders, or that of one peer.

    Raises ConfigError where it is neither.
    """
    if _FOLDER.fullmatch(folder.resolve().name):
        return RunView(folder.resolve().parent.name, (_peer(folder),))
    folders = [path for path in sorted(folder.glob("peer-*"), key=_number) if _FOLDER.fullmatch(path.name)
               and path.is_dir()]
    if not folders:
        raise ConfigError(f"{folder} holds no peer's folder (peer-0, peer-1, …): give the folder of a run "
                          "(runs/NAME), or of one peer (runs/NAME/peer-ID)")
    return RunView(folder.resolve().name, tuple(map(_peer, folders)))


def newest_run(out: Path) -> Path:
    """Return the folder of the run under ``out`` in which a peer wrote last. Raises ConfigError where there is none."""
    written = [(path.stat().st_mtime, path.parent.parent) for path in out.glob(f"*/peer-*/{EVENTS}")]
    if not written:
        raise ConfigError(f"there is no run in {out}: start one (p2pser peer), or give the folder of a run")
    return max(written)[1]


def _number(folder: Path) -> int:
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else -1


def _peer(folder: Path) -> PeerView:
    run, summary = _document(folder / names.RUN), _summary(folder / names.FINISHED)
    metrics, events = _lines(folder / METRICS), _lines(folder / EVENTS)
    starts = [k for k, event in enumerate(events) if event.get("kind") == "listening"]
    events = events[starts[-1]:] if starts else events
    settings = run.get("settings") if run else None
    rounds = settings.get("training.rounds") if isinstance(settings, dict) else None
    times = [at for line in metrics[-RECENT:] if (at := _time(line)) is not None]
    seconds = [(after - before).total_seconds() for before, after in pairwise(times)]
    return PeerView(
        peer=_number(folder.resolve()), folder=folder, state=_state(folder, events, summary),
        since=_time(events[0]) if starts else None, rounds=rounds if isinstance(rounds, int) else 0,
        round=1 + max((line["round"] for line in metrics[-1:] if isinstance(line.get("round"), int)), default=-1),
        metrics=tuple(metrics), events=tuple(events), links=_links(events), summary=summary,
        round_seconds=statistics.median(seconds) if seconds else None)


def _state(folder: Path, events: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> str:
    if _locked(folder / names.LOCK):
        return RUNNING
    if summary is not None:
        return FINISHED
    reason = next((event.get("reason") for event in reversed(events) if event.get("kind") == "left"), None)
    return KILLED if reason is None else FAILED if reason == "failed" else INTERRUPTED


def _locked(lock: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _links(events: Sequence[Mapping[str, Any]]) -> dict[int, Link]:
    """Return the state of each link after the events of one start."""
    links: dict[int, Link] = {}
    for event in events:
        kind, j, at = event.get("kind"), event.get("peer"), _time(event)
        if kind == "listening" and isinstance(event.get("neighbours"), dict):
            links |= {int(i): Link("not met", at, address) for i, address in event["neighbours"].items()}
        elif isinstance(kind, str) and kind in _LINKS and isinstance(j, int):
            before = links.get(j, Link("not met", at))
            links[j] = Link(_LINKS[kind], at, before.address, str(event.get("reason") or ""))
    return links


def _time(record: Mapping[str, Any]) -> datetime | None:
    try:
        at = datetime.fromisoformat(record["at"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a telemetry file that can be read, with a time each."""
    try:
        return [line for line in read(path) if _time(line) is not None]
    except OSError:
        return []


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = read_json(path)
    except CheckpointError:
        return None  # what is damaged costs only itself: the other files tell the rest
    return document if isinstance(document, dict) else None


def _summary(path: Path) -> dict[str, Any] | None:
    """Return a finished run's summary; None where it lacks how many peers agreed."""
    document = _document(path)
    return document if document is not None and {"agreed", "took_part", "peers"} <= document.keys() else None
