"""One schedule: its seed gives topology, algorithm, settings and faults; it is run to its end and judged."""

from __future__ import annotations

import functools
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from p2pser.base.errors import P2PSERError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology, load
from p2pser.network import awaited
from p2pser.wire.messages import Phase, Progress
from schedules import data
from schedules.disk import Disks, tear
from schedules.faults import Fault, draw_faults
from schedules.judge import judge
from schedules.lies import Lies, draw_lies
from schedules.machine import Machine, Process, SimulatedPeer
from schedules.stand_ins import instead_of_the_machine
from schedules.wires import Network
from schedules.world import START, World

TOPOLOGIES: dict[str, tuple[int, ...]] = {
    "ring": (3, 4, 5, 6), "chain": (3, 4, 5), "star": (4, 5), "complete": (3, 4, 5), "grid": (4, 6), "tree": (5, 6),
    "random-regular": (6,), "exponential": (5, 6, 7), "directed-exponential": (4, 5, 6), "directed-ring": (3, 4, 5),
    "one-peer-exponential": (4, 4, 8), "one-peer-hypercube": (4,), "random-matching": (4, 6), "base-2": (5, 6),
    "erdos-renyi": (5,), "barbell": (6,), "hypercube": (8,), "epidemic": (4, 5), "random-digraph": (5,),
    "watts-strogatz": (6,), "server": (3, 4, 5)}
"""The topologies by name, and how many peers each has."""
STATIC = ("ring", "chain", "star", "complete", "grid", "tree", "random-regular", "erdos-renyi", "barbell")
"""Those whose weights may follow the clips."""
DEAD_AFTER, ROUND_TIMEOUT = 3.0, 6.0
QUIET = (awaited.LONGEST + 4) * ROUND_TIMEOUT
"""Where no training thread goes on for so long, and no fault is left, it is a hang [s]."""
HOSTILE = 0.15
"""The share of schedules in which a peer lies."""
AGREED = 4
"""In one of so many schedules the peers agree on how features are scaled."""
MOST_EVENTS = 500_000
"""Most events of a schedule."""
LONGEST = 900.0
"""Longest time of a schedule [s]."""


@functools.cache
def topology_of(name: str, peers: int) -> Topology:
    return load(name, peers=peers)


@functools.cache
def base(algorithm: str, weighting: str) -> Config:
    """Return the settings that all schedules share."""
    return Config().with_settings([
        "name=run", f"gossip.algorithm={algorithm}", f"gossip.weighting={weighting}", "training.batch_size=4",
        "training.momentum=0", "training.local_steps=1", "model.name=mlp", "model.hidden=[2]", "model.dropout=0",
        f"network.dead_after={DEAD_AFTER}",
        "network.suspect_after=1.5", "network.ping_after=0.7", f"network.round_timeout={ROUND_TIMEOUT}",
        "network.linger=0.5", "gossip.consensus_tolerance=1e-3", "privacy.draws=seed"])


@functools.cache
def fits(algorithm: str, topology: str, peers: int, steps: int = 1, weighting: str = "uniform") -> bool:
    """Whether an algorithm can run on a topology with so many local steps and these weights."""
    config, graph = base(algorithm, weighting), topology_of(topology, peers)
    config = _varied(config, {"training.local_steps": steps})
    try:
        validate(create(algorithm, {}, config, graph), config, graph)
    except P2PSERError:
        return False
    return True


@functools.cache
def algorithms() -> list[str]:
    return sorted(name for name in ALGORITHMS if any(
        fits(name, topology, sizes[0]) for topology, sizes in TOPOLOGIES.items()))


class Schedule:
    """One schedule.

    Parameters
    ----------
    seed : gives everything that the other arguments do not.
    algorithm, topology : fixed ones; default: by the seed.
    folder : where the peers write; it is removed before and after.
    faults : whether there are any.
    hostile : whether a peer lies; default: by the seed.
    """

    def __init__(self, seed: int, folder: Path, algorithm: str | None = None, topology: str | None = None,
                 faults: bool = True, hostile: bool | None = None) -> None:
        draw = random.Random(f"schedule {seed}")
        self.seed, self.folder, self.agreed = seed, folder, seed % AGREED == 0
        self.algorithm, name, size = _choice(seed, draw, algorithm, topology)
        self.topology = topology_of(name, size)
        self.rounds = draw.choice((3, 4, 7))
        self.pace = draw.choice((0.02, 0.1, 0.4))
        self.patient = draw.random() < 0.5
        weighting = "clips" if draw.random() < 0.2 and name in STATIC and fits(
            self.algorithm, name, size, weighting="clips") else "uniform"
        steps = 2 if draw.random() < 0.3 and fits(self.algorithm, name, size, 2) else 1
        self.config = _varied(base(self.algorithm, weighting), {
            "training.rounds": self.rounds, "training.local_steps": steps,
            "peer.checkpoint_every": draw.choice((1, 2, 3)), "peer.out": str(folder), "seed": seed % 7,
            "network.secret": str(folder.parent / "secret"),
            "network.start_timeout": None if self.patient else 12.0,
            "network.hub_wait": None if self.patient else 12.0})
        length = 1.0 + self.rounds * (2 * self.pace + 0.1)
        self.faults: list[Fault] = draw_faults(draw, size, self.rounds, length, self.patient) if faults else []
        self.restarts_failed = draw.random() < 0.8
        self.world = World(seed)
        self.network = Network(self.world, self.config.network.base_port)
        self.machines = {i: Machine(i, self.world, self.network, partial(self._peer, i), self.pace * draw.choice(
            (1, 1, 1, 3))) for i in range(size)}
        self.disks = Disks(self.machines)
        self.liar: int | None = None
        self.lies: Lies | None = None
        if hostile or (hostile is None and faults and random.Random(f"hostile {seed}").random() < HOSTILE):
            self.liar, self.lies = draw_lies(seed, size)
            self.network.mutate[self.liar] = self.lies
        self.given_up: set[int] = set()
        """Peers that are not started again."""
        self.violations: list[str] = []
        self.pending = 0
        """Faults, and ends of faults, that are to come."""
        self._begins = {i: draw.random() * draw.choice((0.05, 1.0)) for i in self.machines}
        self._failures: dict[int, int] = {}
        self._roused: set[int] = set()

    def __str__(self) -> str:
        name, size = self.topology.name, self.topology.size
        return f"{self.algorithm} on {name} of {size}, {self.rounds} rounds, a step of {self.pace} s, " \
               f"{'start without limit' if self.patient else 'start_timeout 12 s'}; " + \
               ("; ".join(map(str, self.faults)) or "no faults") + (
                   "" if self.lies is None else f"; peer {self.liar} lies ({self.lies.kind})")

    # Running --------------------------------------------------------------------------------------------------

    def run(self) -> Schedule:
        """Run it to its end; ``violations`` then says what was wrong."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with instead_of_the_machine(self.world, self.network), self.disks:
            try:
                self._begin()
                while self._goes_on() and self.world.step():
                    pass
                judge(self)
            finally:
                for machine in self.machines.values():
                    for process in machine.past:
                        process.bury()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def _begin(self) -> None:
        for i, machine in self.machines.items():
            self.later(self._begins[i], partial(self._start, i, False))
            machine.on_progress = partial(self._progressed, i)
            machine.on_end = partial(self._ended, i)
        for fault in self.faults:
            if fault.when.peer is None:
                self.later(fault.when.seconds, partial(self._happen, fault))
        self._instants = [fault for fault in self.faults if fault.when.peer is not None]

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Let something happen that the schedule has to wait for."""
        self.pending += 1

        def happen() -> None:
            self.pending -= 1
            do()

        self.world.after(seconds, happen)

    def _happen(self, fault: Fault) -> None:
        self.world.note("schedule", fault.words)
        fault.do(self)

    def _progressed(self, peer: int, progress: Progress) -> None:
        for fault in list(self._instants):
            when = fault.when
            in_time = progress.phase > when.phase or (progress.phase == when.phase and (
                when.phase not in (Phase.TRAIN, Phase.EXCHANGE) or progress.round >= when.round))
            if peer == when.peer and in_time:
                self._instants.remove(fault)
                self.later(when.seconds, partial(self._happen, fault))

    def _goes_on(self) -> bool:
        if self.pending:
            return True
        world = self.world
        living = [m.process for m in self.machines.values() if m.process is not None and m.id != self.liar]
        if not living:
            return False
        if all(self._serves(process) for process in living):
            for process in living:
                process.interrupt()
        if any(process.stopped for process in living):
            return True
        if world.handled > MOST_EVENTS:
            self.violations.append(f"not over after {MOST_EVENTS} events")
            return False
        if world.now - START > LONGEST:
            self.violations.append(f"not over after {LONGEST:g} s")
            return False
        if world.now - self._quiet_since > QUIET and all(world.now - process.advanced_at > QUIET for process in living):
            if self._rouse():
                return True
            if self._waits_for_one_that_stays_away(living):
                return False
            self.violations.append("hang: " + "; ".join(_waits(self, process) for process in living))
            return False
        return True

    _quiet_since = START

    def _waits_for_one_that_stays_away(self, living: list[Process]) -> bool:
        """Whether peers wait, as they were told to, for a hostile peer that has not said a HELLO that fits, or for one
        that has ended with an error and is not started again, or for such a hub in training.
        """
        away = {self.liar, *(i for i, machine in self.machines.items() if machine.process is None and machine.past
                             and machine.past[-1].ended is not None and machine.past[-1].ended[0] == "error")}
        hub = self.topology.hub

        def waits(process: Process) -> bool:
            if process.mixer is None:
                return False
            roster = process.mixer.roster
            if process.io.progress.phase is Phase.START:
                return not away.isdisjoint(roster.missing())
            return hub is not None and hub in away and process.machine.id != hub and not roster.awaited(hub)

        return self.patient and any(map(waits, living))

    def _serves(self, process: Process) -> bool:
        """Whether a process only serves its model, until it is told to leave."""
        return process.machine.id in self._roused and process.io is not None and \
            process.io.progress.phase is Phase.END

    def _rouse(self) -> bool:
        """Start finished peers again, once each, so that they serve those that still wait; False where all were."""
        ended = [i for i, m in self.machines.items() if m.process is None and m.past and i not in self._roused
                 and i not in self.given_up]
        for i in ended:
            self._roused.add(i)
            self.machines[i].start()
        self._quiet_since = self.world.now
        return bool(ended)

    def _ended(self, peer: int) -> None:
        self._quiet_since = self.world.now
        process = self.machines[peer].past[-1]
        failed = process.ended is not None and process.ended[0] == "error"
        if failed and self.restarts_failed and self._failures.get(peer, 0) < 3:
            self._failures[peer] = self._failures.get(peer, 0) + 1
            self.later(1.0, partial(self._start, peer, False))

    def _start(self, peer: int, fresh: bool) -> None:
        if self.world.now >= self.machines[peer].delayed_until:
            self._quiet_since = self.world.now
            self.machines[peer].start(fresh)

    def _peer(self, me: int, fresh: bool) -> SimulatedPeer:
        return SimulatedPeer(self.config, self.topology, me, fresh=fresh, federation=self.data_of(me),
                             say=lambda sentence: self.world.note(me, "says", sentence))

    def data_of(self, me: int) -> Federation:
        """A peer's clips."""
        return data.federation(me, self.topology.hub, agreed=self.agreed)

    # What faults do -------------------------------------------------------------------------------------------

    def kill(self, peer: int, quietly: bool) -> bool:
        """Kill a peer; False where it does not run."""
        running = self.machines[peer].process is not None
        self.machines[peer].kill(quietly)
        return running

    def start_again(self, peer: int, after: float, way: str) -> None:
        """Start a killed peer after some seconds: as it was, with a torn checkpoint, an empty folder, or --fresh."""
        def start() -> None:
            if self.machines[peer].process is None:
                place = self.folder / "run" / f"peer-{peer}"
                if way == "empty":
                    shutil.rmtree(place, ignore_errors=True)
                elif way == "torn":
                    tear(place, self.world.random)
                self._start(peer, way == "fresh")

        self.later(after, start)

    def stop(self, peer: int, seconds: float) -> None:
        process = self.machines[peer].process
        if process is not None and not process.stopped:
            process.stop()
            self.later(seconds, process.go_on)

    def cut(self, pairs: list[tuple[int, int]], seconds: float, reset: bool) -> None:
        for i, j in pairs:
            self.network.block(i, j)
            if reset:
                self.network.reset(i, j)
        self.later(seconds, lambda: [self.network.unblock(i, j) for i, j in pairs] and None)

    def slow(self, i: int, j: int, more: float, seconds: float) -> None:
        self.network.slow[i, j] = more
        self.later(seconds, lambda: self.network.slow.pop((i, j), None) and None)

    def fill(self, peer: int, seconds: float) -> None:
        disk = self.disks.of[peer]
        disk.full = True
        self.later(seconds, lambda: setattr(disk, "full", False))

    def die_writing(self, peer: int, calls: int, then: Callable[[], None]) -> None:
        disk = self.disks.of[peer]
        disk.dies_at = disk.calls + calls
        disk.then = then

    def interrupt(self, peer: int, seconds: float) -> None:
        process = self.machines[peer].process
        if process is not None and process.io is not None:
            process.interrupt()
            self.later(seconds, partial(self._start, peer, False))

    def jump(self, peer: int, seconds: float) -> None:
        process = self.machines[peer].process
        if process is not None:
            process.offset += seconds

    def delay_start(self, peer: int, seconds: float) -> None:
        if not self.machines[peer].past:
            self.machines[peer].delayed_until = self.world.now + seconds
            self.later(seconds, partial(self._start, peer, False))


def _choice(seed: int, draw: random.Random, algorithm: str | None, topology: str | None) -> tuple[str, str, int]:
    names = algorithms()
    chosen = algorithm or names[seed % len(names)]
    kinds = [topology] if topology else list(TOPOLOGIES)
    draw.shuffle(kinds)
    for name in kinds:
        size = draw.choice(TOPOLOGIES[name])
        if fits(chosen, name, size):
            return chosen, name, size
    raise SystemExit(f"{chosen} runs on none of {', '.join(kinds)}")


def _varied(config: Config, settings: dict[str, Any]) -> Config:
    """Return a copy with other settings, without reading any text: that takes most of a schedule's time."""
    sections: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, field = name.rpartition(".")
        if section:
            sections.setdefault(section, {})[field] = Path(value) if field in ("out", "secret") else value
        else:
            top[field] = value
    return config.model_copy(update={
        **top, **{name: getattr(config, name).model_copy(update=fields) for name, fields in sections.items()}})


def _waits(schedule: Schedule, process: Process) -> str:
    """Return what a peer that hangs is doing, and whom it waits for."""
    if process.io is None or process.mixer is None:
        return f"{process.name} in NOTHING before its sockets open"
    progress, mixer = process.io.progress, process.mixer
    at = f"{progress.round}.{progress.slot}" if progress.phase else ""
    if progress.phase is Phase.START:
        missing = mixer.roster.missing()
    else:
        missing = mixer.exchange.waiting(process.clock()) if mixer.exchange.awaited.step is not None else ()
    whom = ", ".join(f"{j} ({schedule.machines[j].what()})" for j in missing)
    return f"{process.name} in {progress.phase.name} {at} waits for {whom or 'nobody'}, lost {sorted(mixer.lost)}, " \
           f"links {process.io.states()}"


def own_folder() -> Path:
    """Return a folder in memory where there is one."""
    shm = Path("/dev/shm")
    return (shm if os.access(shm, os.W_OK) else Path("/tmp")) / f"p2pser-schedules-{os.getpid()}" / "disk"
