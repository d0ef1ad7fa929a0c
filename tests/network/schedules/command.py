"""The command ``scripts/schedules``."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import itertools
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

import torch

from schedules.schedule import Schedule, algorithms, own_folder

AHEAD = 4
"""Schedules of each process that are begun, or wait to be, before the oldest is over."""
TOO_LONG = 120.0
"""Processor time [s] after which a schedule is taken for an endless loop: the command ends with a traceback."""


def main() -> int:
    """Run schedules; exit code 1 where one has a violation."""
    parser = argparse.ArgumentParser(prog="scripts/schedules", description=__doc__)
    parser.add_argument("--count", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, whatever --count says")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="processes; default: one for each usable processor")
    parser.add_argument("--algorithm", help="this algorithm only")
    parser.add_argument("--topology", help="this topology only")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--progress", action="store_true", help="name each seed before it is run")
    parser.add_argument("--hostile", action="store_true", help="a peer lies in every schedule")
    parser.add_argument("--trace", action="store_true", help="print all that happens in each schedule")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    ends = time.perf_counter() + 60 * chosen.minutes if chosen.minutes else float("inf")
    endless = chosen.minutes and chosen.count == 1
    seeds = itertools.takewhile(lambda seed: time.perf_counter() <= ends,
                                range(chosen.seed, chosen.seed + (1 << 60 if endless else chosen.count)))
    names, began, done, failed, topologies, kinds = algorithms(), time.perf_counter(), 0, [], set(), Counter()
    seconds = 0.0
    for played in _played(chosen, seeds):
        done += 1
        seconds += played.seconds
        topologies.add(played.topology)
        for line in played.trace:
            print(line)
        if played.violations:
            failed.append(played.seed)
            kinds.update({kind(what) for what in played.violations})
            more = "".join(f" --{name} {value}" for name, value in (
                ("algorithm", chosen.algorithm), ("topology", chosen.topology)) if value)
            more += " --no-faults" * chosen.no_faults + " --hostile" * chosen.hostile
            print(f"seed {played.seed}: {played.words}\n" + "".join(f"  {what}\n" for what in played.violations) +
                  f"  replay: scripts/schedules --seed {played.seed}{more} --trace", flush=True)
    print(f"{done} schedules of {len(names) if not chosen.algorithm else 1} algorithms on {len(topologies)} "
          f"topologies, {len(failed)} with violations, {seconds / max(1, done) * 1e3:.0f} ms of processor each, "
          f"{done / (time.perf_counter() - began):.1f} a second")
    for what, times in kinds.most_common():
        print(f"{times:6}  {what}")
    return 1 if failed else 0


class Played(NamedTuple):
    """A schedule that was run: what it was in words, its violations, its processor time [s] and its trace."""

    seed: int
    words: str
    topology: str
    violations: list[str]
    seconds: float
    trace: list[str]


def _played(chosen: argparse.Namespace, seeds: Iterable[int]) -> Iterator[Played]:
    """Yield the schedules of the seeds, in their order."""
    if chosen.jobs == 1 or (chosen.count == 1 and not chosen.minutes):
        with _folder():
            yield from (_play(chosen, seed) for seed in seeds)
        return
    running: deque[Future[Played]] = deque()
    with ProcessPoolExecutor(chosen.jobs, get_context("fork"), initializer=_in_a_folder) as pool:
        for seed in seeds:
            running.append(pool.submit(_play, chosen, seed))
            if len(running) > AHEAD * chosen.jobs:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _in_a_folder() -> None:
    """Let a worker's folder be removed when it ends."""
    Finalize(None, shutil.rmtree, (own_folder().parent, True), exitpriority=1)


def _play(chosen: argparse.Namespace, seed: int) -> Played:
    if chosen.progress:
        print(f"seed {seed}", file=sys.stderr, flush=True)
    began = time.process_time()
    one = Schedule(seed, own_folder(), chosen.algorithm, chosen.topology, not chosen.no_faults,
                   True if chosen.hostile else None)
    faulthandler.register(signal.SIGPROF, chain=True)  # the default action of the signal ends the process
    signal.setitimer(signal.ITIMER_PROF, TOO_LONG)
    try:
        one.run()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
    trace = [str(one), *lines(one)] if chosen.trace else []
    return Played(seed, str(one), one.topology.name, one.violations, time.process_time() - began, trace)


def kind(violation: str) -> str:
    """Return what a violation has in common with others."""
    if violation.startswith("hang: "):
        phases = sorted({part.split(" in ")[1].split()[0] for part in violation[6:].split("; ") if " in " in part})
        whom = sorted(set(re.findall(r"\(([a-z ]+)\)|(nobody)", violation)))
        return f"hang in {', '.join(phases)}, waiting for {', '.join(sorted(a or b for a, b in whom))}"
    if "Traceback" in violation:
        *_, place, _, error = [""] * 3 + [line for line in violation.strip().splitlines() if "^^^" not in line]
        return f"traceback: {error[:100]} at {place.strip()[-80:]}"
    return re.sub(r"\[.*?\]|\d+\.\d+|\d+", "N", violation)


def lines(one: Schedule) -> Iterator[str]:
    """Yield the trace in words, without what differs from one folder to another."""
    for at, who, what, *more in one.world.trace:
        text = " ".join(_word(word) for word in more).replace(str(one.folder), "DISK")
        yield f"{at - 1000:9.4f} {who} {what} {text}"


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 16 else f"{value[:8].hex()}... ({len(value)} B, {hash_of(value)})"
    return str(value)


def hash_of(data: bytes) -> str:
    import hashlib

    return hashlib.blake2b(data, digest_size=4).hexdigest()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = own_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
