"""What a grid will cost on this machine, before it starts."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from dataclasses import dataclass

from p2pser.base import memory
from p2pser.base.errors import ConfigError
from p2pser.base.wording import duration
from p2pser.experiments import pool
from p2pser.experiments.execution import execute
from p2pser.experiments.grid.cells import Cell, missing, undisturbed
from p2pser.experiments.jobs import Job, Plan

PROBE = (1, 3)
"""Rounds of the two short runs by whose difference a round's time is measured."""


@dataclass(frozen=True)
class Estimate:
    """trials : of the whole grid; missing : those to compute; seconds : for these, with ``processes`` processes.

    memory : bytes of one process at its largest. available : bytes that the machine has left; None where unknown.
    """

    trials: int
    missing: int
    processes: int
    seconds: float
    memory: int
    available: int | None

    def __str__(self) -> str:
        done = "" if self.missing == self.trials else f", {self.trials - self.missing} of them finished"
        cost = "" if not self.missing else (f": about {duration(self.seconds)} in {self.processes} "
                                            f"process{'es' * (self.processes != 1)}")
        memory = f", {self.memory / 2**30:.1f} GiB of memory each" if self.missing else ""
        return f"{self.trials} trials{done}{cost}{memory}"

    def require_memory(self) -> None:
        """Raise ConfigError where the processes need more memory than there is."""
        needed = self.memory * self.processes
        if self.available is not None and self.missing and needed > self.available:
            raise ConfigError(f"{self.processes} processes need about {needed / 2**30:.1f} GiB of memory, and "
                              f"{self.available / 2**30:.1f} GiB are free: take --workers "
                              f"{max(1, self.available // self.memory)}")


def estimate(cells: list[Cell], processes: int | str | None = None) -> Estimate:
    """Estimate by finished trials where a place has some, else by two short runs of its first scheme.

    Of a cluster (``processes`` is its address) the time is that of one core, and the memory of its machines is unknown.
    """
    open_trials = missing(cells)
    wanted = {place.undisturbed for place, number in open_trials.items() if number}
    by_place = {cell.place: _trial_seconds(cell) for cell in undisturbed(cells) if cell.place in wanted}
    seconds = sum(number * by_place.get(place.undisturbed, 0.0) for place, number in open_trials.items())
    number = 1 if isinstance(processes, str) else processes or os.cpu_count() or 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    available = None if isinstance(processes, str) else memory.available()
    return Estimate(sum(cell.number for cell in cells), sum(open_trials.values()), number, seconds / number,
                    peak if sys.platform == "darwin" else peak * 1024, available)


def _trial_seconds(cell: Cell) -> float:
    known = [document["wall_s"] for document in pool.known(cell.plan).outer.values() if document.get("wall_s")]
    if known:
        return float(statistics.median(known))
    plan, job = cell.plan, next(job for job in cell.plan.jobs() if job.kind == "gossip")
    first, second = (_timed(plan, job, rounds) for rounds in PROBE)
    a_round = max(0.0, second - first) / (PROBE[1] - PROBE[0])
    return first + a_round * (plan.config.training.rounds - PROBE[0])


def _timed(plan: Plan, job: Job, rounds: int) -> float:
    """Return the seconds of a run with so few rounds, its data and evaluation with it."""
    config = plan.settings(job)
    short = config.model_copy(update={"training": config.training.model_copy(update={"rounds": rounds})})
    began = time.perf_counter()
    execute(job, short, plan.topologies[job.scheme], plan.peers, plan.hub, None, plan.data)
    return time.perf_counter() - began
