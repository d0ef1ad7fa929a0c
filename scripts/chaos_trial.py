"""A network under a plan of faults: the execution of the plan, and its effect on the run."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from chaos_plan import LINKS, Fault
from liars import LIES, Liar
from real_peers import Record
from relays import Condition, Way
from trials import Trial, between, both_ways

DISK_MIB = 24
"""Size of each peer's disk where disks are filled."""
SAMPLE_EVERY = 2.0
"""Seconds between two looks at memory and descriptors."""
STARTS_WITHIN = 20.0
"""Seconds that a process may take to start on a busy machine: no fault of the network."""


class Disks:
    """A small disk of its own for each peer's folder (tmpfs, root only). A context manager."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._mounted: list[Path] = []

    def __enter__(self) -> Disks:
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(folder)],
                           check=True, capture_output=True)
            self._mounted.append(folder)
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)

    @staticmethod
    def usable() -> bool:
        return os.geteuid() == 0 and shutil.which("mount") is not None

    @staticmethod
    def fill(folder: Path) -> None:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    @staticmethod
    def free(folder: Path) -> None:
        (folder / "filler").unlink(missing_ok=True)


@dataclass
class Happened:
    """An executed fault: from ``began`` to ``ended`` (None: it still lasts), on the clock of records."""

    fault: Fault
    began: float
    ended: float | None = None


@dataclass
class Chaos:
    """Executes a plan on a trial, and records the facts for the verdict."""

    trial: Trial
    folder: Callable[[int], Path]
    say: Callable[[str], None]
    happened: list[Happened] = field(default_factory=list)
    liars: set[int] = field(default_factory=set)
    memory: dict[int, int] = field(default_factory=dict)
    """The largest resident memory of each peer [MiB]."""
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    """The open descriptors of each peer's latest process, at each look."""
    unexpected: list[str] = field(default_factory=list)
    """Ends of processes that no fault caused."""
    _due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _asked: set[int] = field(default_factory=set)
    """Peers that were killed or interrupted, and have not been started again."""
    _alone: dict[int, float] = field(default_factory=dict)
    """Since when a peer has had no neighbour to ask; from the start of one for it, it counts anew."""
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self.trial.heard = self._heard

    @property
    def honest(self) -> list[int]:
        return [i for i in self.trial.everybody if i not in self.liars]

    def disturbed_at_the_end(self, dead_after: float) -> bool:
        """Whether a peer may have been missing when the first ended: a fault lasted, or had ended shortly before."""
        first = min((record["heard"] for record in self.trial.told("ended")), default=math.inf)
        return any(event.ended is None or event.ended + dead_after + STARTS_WITHIN > first for event in self.happened)

    # The plan -----------------------------------------------------------------------------------------------

    def run(self, faults: Iterable[Fault], seconds: float, patience: float) -> bool:
        """Carry out the faults, then heal everything; return whether all honest peers ended within ``patience``."""
        begin = time.monotonic()
        for fault in faults:
            self._due.append((begin + fault.at, lambda fault=fault: self._begin(fault)))  # type: ignore[misc]
        while time.monotonic() < begin + seconds and not self._over():
            self._turn()
        self._heal()
        until = time.monotonic() + patience
        while not self._over() and time.monotonic() < until:
            self._turn()
            self._serve()
        return self._over()

    def _over(self) -> bool:
        return all(i in self.trial.gone and i not in self._asked for i in self.honest)

    def _turn(self) -> None:
        self.trial.hear(0.1)
        now = time.monotonic()
        for due in sorted((planned for planned in self._due if planned[0] <= now), key=lambda planned: planned[0]):
            self._due.remove(due)
            due[1]()
        if now - self._looked > SAMPLE_EVERY:
            self._looked = now
            self._look()

    def _heal(self) -> None:
        """End all faults that still last; those to come do not come."""
        self._due.clear()
        for event in self.happened:
            if event.ended is None:
                self._end(event)

    def _serve(self) -> None:
        """Start a finished peer again where one that was killed at the end has no neighbour left to ask."""
        now = time.monotonic()
        for i in self.honest:
            around = [j for j in self.trial.topology.neighbours(i) if j not in self.liars]
            alone = i not in self.trial.gone and all(j in self.trial.gone for j in around)
            if not alone or not around or i in self.trial.story.summaries:
                self._alone.pop(i, None)
            elif now > self._alone.setdefault(i, now) + STARTS_WITHIN:
                self._alone[i] = now
                self.say(f"peer {around[0]} is started again: peer {i} has no other neighbour to ask")
                self.trial.start(around[0])

    # One fault ----------------------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        peer, folder = fault.peers[0], self.folder(fault.peers[0])
        if fault.kind not in LINKS and (peer in self.trial.gone or peer in self._asked):
            return  # it has finished
        self.say(str(fault))
        happened = Happened(fault, time.monotonic())
        self.happened.append(happened)
        match fault.kind:
            case "break":
                self.trial.wires.reset(*fault.peers)
            case kind if kind in LINKS:
                self._impose()
            case "stop":
                self.trial.kill(peer, number=signal.SIGSTOP)
            case "disk":
                Disks.fill(folder)
            case "restart":
                self._asked.add(peer)
                self.trial.kill(peer, number=signal.SIGINT)
                return  # it ends when the process has
            case "hostile":
                self._crash(peer)
                self.liars.add(peer)
                lies = sorted(LIES)
                self.trial.changes[peer] = Liar(lies[int(fault.amount) % len(lies)], since=0)
                self.say(f"peer {peer} lies: {lies[int(fault.amount) % len(lies)]}")
                self.trial.start(peer)
                return
            case kind:
                self._crash(peer)
                if kind == "tear":
                    tear(folder)
                elif kind == "delete":
                    empty(folder)
        self._due.append((time.monotonic() + fault.seconds, lambda: self._end(happened)))

    def _end(self, happened: Happened) -> None:
        if happened.ended is not None:
            return
        fault, peer = happened.fault, happened.fault.peers[0]
        happened.ended = time.monotonic()
        match fault.kind:
            case kind if kind in LINKS:
                self._impose()
            case "stop":
                self.trial.kill(peer, number=signal.SIGCONT)
            case "disk":
                Disks.free(self.folder(peer))
            case "hostile":
                pass
            case _:
                if peer in self._asked and peer in self.trial.gone:
                    self._asked.discard(peer)
                    self.trial.start(peer)

    def _crash(self, peer: int) -> None:
        self._asked.add(peer)
        self.trial.kill(peer)
        if peer in self.liars:
            self._asked.discard(peer)

    def _impose(self) -> None:
        conditions: dict[Way, Condition] = {}
        for event in self.happened:
            if event.ended is None and event.fault.kind in LINKS:
                for way in self._ways(event.fault):
                    conditions[way] = conditions.get(way, Condition()).with_(_condition(event.fault))
        self.trial.wires.impose(conditions)

    def _ways(self, fault: Fault) -> list[Way]:
        topology = self.trial.topology
        match fault.kind:
            case "cut":
                return between(topology, fault.peers)
            case "one-way":
                return [(fault.peers[0], fault.peers[1])]
            case "break":
                return []
            case _:
                return both_ways((fault.peers[0], j) for j in topology.neighbours(fault.peers[0]))

    # What comes in ------------------------------------------------------------------------------------------

    def _heard(self, record: Record) -> None:
        if record.get("kind") != "gone":
            return
        peer, code = record["reporter"], record["exit_code"]
        if peer in self._asked:
            for event in self.happened:
                if event.ended is None and event.fault.kind == "restart" and event.fault.peers == (peer,):
                    self._end(event)
        elif peer not in self.liars and code not in (0, 3):
            why = self.trial.story.failures.get(peer, "no reason: a traceback")
            self.unexpected.append(f"peer {peer} ended with exit code {code}: {why}")
            self.say(self.unexpected[-1])

    def _look(self) -> None:
        for i in self.honest:
            if i not in self.trial.gone:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(self.trial.peers.pid(i))
                    self.memory[i] = max(self.memory.get(i, 0), process.memory_info().rss >> 20)
                    self.descriptors.setdefault(process.pid, []).append(process.num_fds())


def _condition(fault: Fault) -> Condition:
    match fault.kind:
        case "delay":
            return Condition(delay=fault.amount)
        case "lose":
            return Condition(loss=fault.amount)
        case "slow":
            return Condition(rate=fault.amount)
        case _:
            return Condition(cut=True)


def tear(folder: Path) -> None:
    """Cut the largest file of the newest checkpoint to half its length."""
    checkpoints = [path for path in (folder / "checkpoint").glob("*") if path.is_dir()]
    if checkpoints:
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)


def empty(folder: Path) -> None:
    """Delete all that is in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


# The verdict ----------------------------------------------------------------------------------------------------

def waits(chaos: Chaos, dead_after: float) -> tuple[tuple[float, str], tuple[float, str]]:
    """Return the longest time without a round of an undisturbed peer since the last fault, and since its last round,
    whatever faults came meanwhile; each with its place.
    """
    since_fault, since_round = (0.0, ""), (0.0, "")
    for me in chaos.honest:
        before: float | None = None
        for record in chaos.trial.story.records:
            if record["reporter"] != me:
                continue
            if "kind" in record:
                if record["kind"] in ("gone", "listening"):
                    before = None
                continue
            now = record["heard"]
            if before is not None and not _disturbed(chaos, me, before, now, dead_after):
                since = max([before, *(event.began for event in chaos.happened if before < event.began < now)])
                where = f"peer {me} in round {record['round']}"
                since_fault = max(since_fault, (now - since, where))
                since_round = max(since_round, (now - before, where))
            before = now
    return since_fault, since_round


def _disturbed(chaos: Chaos, me: int, begin: float, end: float, slack: float) -> bool:
    """Whether a fault hit a peer's own process in a time."""
    return any(me in event.fault.peers and event.fault.kind not in LINKS and event.began < end
               and (event.ended is None or event.ended + slack > begin) for event in chaos.happened)


def false_deaths(chaos: Chaos, dead_after: float) -> list[str]:
    """Return the reported deaths of neighbours without a fault of the neighbour or of the link."""
    sentences = []
    for record in chaos.trial.story.records:
        if record.get("kind") != "dead":
            continue
        me, other, at = record["reporter"], record["peer"], record["heard"]
        if other in chaos.liars or me in chaos.liars:
            continue
        if not any(event.began <= at and (event.ended is None or at <= event.ended + dead_after + STARTS_WITHIN)
                   and concerns(chaos, event.fault, me, other) for event in chaos.happened):
            sentences.append(f"peer {me} called peer {other} dead")
    return sentences


def concerns(chaos: Chaos, fault: Fault, me: int, other: int) -> bool:
    """Whether a fault hits one of two peers, or their link."""
    if fault.kind == "cut":
        return (me in fault.peers) != (other in fault.peers)
    if fault.kind in ("one-way", "break"):
        return set(fault.peers) == {me, other}
    return fault.peers[0] in (me, other)


def leaks(chaos: Chaos) -> list[str]:
    """Return the leaks of the peers: unfinished files, and growing numbers of descriptors."""
    sentences = [f"{path.name} of peer {i}" for i in chaos.honest if i in chaos.trial.gone
                 for path in chaos.folder(i).rglob(".partial-*")]
    for pid, counts in chaos.descriptors.items():
        settled = counts[len(counts) // 4:]
        if len(settled) > 8 and min(settled[-4:]) > max(settled[:4]) + 24:
            sentences.append(f"descriptors of process {pid}: {settled[0]} to {settled[-1]}")
    return sentences


def tracebacks(log: Path) -> Iterator[str]:
    """Yield the last line of each traceback in what the peers wrote to standard error."""
    last: str | None = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Traceback"):
            last = ""
        elif last is not None and line and not line[0].isspace():
            yield line
            last = None


def summary_of(chaos: Chaos, name: str) -> dict[int, Any]:
    """Return a field of each honest peer's summary."""
    return {i: summary.get(name) for i, summary in chaos.trial.story.summaries.items() if i in chaos.honest}
