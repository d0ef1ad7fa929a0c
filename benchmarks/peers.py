"""The cost of peers on one machine: start, memory, a round and its floor, bytes, and the transport alone.

Every figure is the median of several runs of `p2pser demo` on the synthetic corpus (whose features are computed
before), each in a fresh folder and observed from outside: its processes through /proc, its rounds through the
metrics.jsonl of each peer. One table on standard output, and one JSON document with --json.

    python benchmarks/peers.py                       # everything: some minutes, nothing else running
    python benchmarks/peers.py --part transport --repeats 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import floor
import transport
from rich.console import Console
from rich.table import Table
from watched_run import NEVER, Run, running

ROUND_OF_MEMORY = 10
"""Memory is read when every peer has finished so many rounds."""

ROUND_OF_START = 2
"""Rounds that a time per round leaves out: first batches, first credits."""

SPARE_ROUNDS = 20
"""Rounds asked for beyond the last one looked at, so that the peers are still at work then."""

LIGHT, HEAVY = 5, 200
"""Local steps a round: the default, and enough that the floor of a round is 0.3 s or more."""

AIMS = {"start, 8 peers": 4.0, "memory, 8 peers": 0.45, "round / floor, heavy": 1.10,
        "exchange, light": 4.0, "bytes per payload byte": 1.005}
"""What each figure should be at most, where there is an aim."""


@dataclass
class Figure:
    """One line of the table: a value for each run."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "unit": self.unit, "median": self.median, "lowest": min(self.values),
                "highest": max(self.values), "runs": len(self.values), "aim": AIMS.get(self.name)}


@contextlib.contextmanager
def working(peers: int, rounds: int, local_steps: int, checkpoint_every: int = 5) -> Iterator[Run]:
    """A run whose peers are still at work after so many rounds."""
    with running(peers, rounds + SPARE_ROUNDS, f"training.local_steps={local_steps}",
                 f"peer.checkpoint_every={checkpoint_every}") as run:
        yield run


def start_and_memory(peers: int) -> dict[tuple[str, str], float]:
    """From the call to the end of the last peer's first round, and all memory after ten rounds."""
    with working(peers, ROUND_OF_MEMORY, LIGHT) as run:
        first = run.reached(1)
        run.reached(ROUND_OF_MEMORY)
        return {(f"start, {peers} peers", "s"): first, (f"memory, {peers} peers", "GiB"): run.pss() / 2**30}


def rounds_and_bytes(peers: int, local_steps: int, rounds: int) -> dict[tuple[str, str], float]:
    """A round and the cost of its exchange, beside the same local work without exchanges.

    The floor is measured before and after, since the machine may get faster or slower meanwhile. With LIGHT rounds
    checkpoints are measured too, by a second run that takes one every round.
    """
    from p2pser.config import Config

    name = "light" if local_steps == LIGHT else "heavy"
    config = Config().with_settings([f"training.local_steps={local_steps}", f"training.rounds={rounds + 100}"])
    before = floor.measure(config, peers, rounds)
    with working(peers, ROUND_OF_START + rounds, local_steps, NEVER) as run:
        took, cpu = _cost(run, rounds)
        ratio = run.bytes_per_payload_byte() if local_steps == LIGHT else None
    after = floor.measure(config, peers, rounds)
    alone = {key: (before[key] + after[key]) / 2 for key in before}
    exchange = 1000 * cpu / peers / rounds - alone["CPU ms per peer and round"]
    figures = {(f"round, {name}", "s"): took / rounds,
               (f"floor, {name}", "s"): alone["s per round"],
               (f"round / floor, {name}", ""): took / rounds / alone["s per round"],
               (f"exchange, {name}", "CPU ms per peer and round"): exchange}
    if ratio is not None:
        figures["bytes per payload byte", ""] = ratio
        with working(peers, ROUND_OF_START + rounds, local_steps, 1) as run:
            figures["checkpoint", "CPU ms"] = 1000 * (_cost(run, rounds)[1] - cpu) / peers / rounds
    return figures


def _cost(run: Run, rounds: int) -> tuple[float, float]:
    """Seconds and the peers' processor seconds of so many rounds."""
    began, cpu = run.reached(ROUND_OF_START), run.cpu()
    took = run.reached(ROUND_OF_START + rounds) - began
    return took, run.cpu() - cpu


def transport_alone(size: int, exchanges: int) -> dict[tuple[str, str], float]:
    """Rows of ``size`` bytes between two processes, beside plain pyzmq in the same run."""
    figures: dict[tuple[str, str], float] = {}
    label = f"{size / 1e6:g} MB rows"
    for kind in transport.ENDS:
        for unit, value in transport.measure(kind, size, exchanges).items():
            if unit != "rows":
                figures[f"transport, {label}, {kind}", unit] = value
    ours, plain = (f"transport, {label}, {kind}" for kind in ("p2pser", "pyzmq with CURVE"))
    figures[f"{ours} / pyzmq with CURVE", ""] = figures[ours, "MB/s"] / figures[plain, "MB/s"]
    # On a machine that is busy with other work, processor time says more.
    figures[f"{ours} / pyzmq with CURVE, by processor time", ""] = (
        figures[plain, "CPU ms per MB"] / figures[ours, "CPU ms per MB"])
    return figures


def memory_of_rows(size: int, exchanges: int) -> dict[tuple[str, str], float]:
    """The memory that a pair of peers takes at its peak to exchange rows of ``size`` bytes, beyond the row itself."""
    return {(f"memory, rows of {size / 2**20:g} MiB", "rows"): transport.measure("p2pser", size, exchanges)["rows"]}


def measured(parts: list[Callable[[], dict[tuple[str, str], float]]], repeats: int,
             say: Callable[[str], None]) -> list[Figure]:
    """Run all parts in turn, ``repeats`` times, so that a slow minute of the machine affects all of them."""
    figures: dict[tuple[str, str], Figure] = {}
    for repeat in range(repeats):
        for part in parts:
            for key, value in part().items():
                figures.setdefault(key, Figure(*key)).values.append(value)
        say(f"{repeat + 1} of {repeats} done")
    return list(figures.values())


def main() -> None:
    options = argparse.ArgumentParser(description="What peers on this machine cost.")
    options.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken (default 5)")
    options.add_argument("--peers", type=int, nargs="+", default=[8, 32], help="sizes to start (default 8 32)")
    options.add_argument("--part", choices=("start", "round", "transport", "rows"), action="append",
                         help="only this part (may be given several times)")
    options.add_argument("--rounds", type=int, default=30, help="rounds that are timed (default 30)")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    chosen = options.parse_args()
    if chosen.repeats < 1 or chosen.rounds < 1:
        options.error("--repeats and --rounds must be at least 1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    wanted = chosen.part or ["start", "round", "transport", "rows"]
    say = Console(stderr=True).print

    parts: list[Callable[[], dict[tuple[str, str], float]]] = []
    if "start" in wanted:
        parts += [partial(start_and_memory, peers) for peers in chosen.peers]
    if "round" in wanted:
        parts += [lambda: rounds_and_bytes(chosen.peers[0], LIGHT, chosen.rounds),
                  lambda: rounds_and_bytes(chosen.peers[0], HEAVY, max(3, chosen.rounds // 3))]
    if "transport" in wanted:
        parts += [lambda: transport_alone(400_000, 250), lambda: transport_alone(4_000_000, 25)]
    if "rows" in wanted:
        parts.append(lambda: memory_of_rows(90 << 20, 12))
    if "start" in wanted or "round" in wanted:
        from p2pser.config import Config
        from p2pser.features.federation import federate

        say("computing the features once")
        federate(Config(), max(chosen.peers))
    figures = measured(parts, chosen.repeats, say)

    table = Table(title=f"medians of {chosen.repeats}; {platform.machine()}, {os.cpu_count()} processors, "
                        f"Python {platform.python_version()}", title_justify="left")
    for heading in ("figure", "median", "lowest", "highest", "unit", "aim"):
        table.add_column(heading, justify="left" if heading in ("figure", "unit") else "right")
    for figure in figures:
        aim = AIMS.get(figure.name)
        shown = "" if aim is None else f"≤ {aim:g} {'✓' if figure.median <= aim else '✕'}"
        table.add_row(figure.name, f"{figure.median:.4g}", f"{min(figure.values):.4g}",
                      f"{max(figure.values):.4g}", figure.unit, shown)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if chosen.json:
        document = {"repeats": chosen.repeats, "machine": platform.machine(), "processors": os.cpu_count(),
                    "python": platform.python_version(), "figures": [figure.as_dict() for figure in figures]}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
