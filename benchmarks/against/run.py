"""p2pser beside gossipy, decentralizepy, Flower's simulation, pfl and krum, and beside plain loops, on the same job.

All systems have the same model, batch, number of local steps, optimiser and shapes of clips, evaluate nothing, and use
one thread and one processor unless a row names more. The systems take turns, each run in a separate process, so that a
slow minute of the machine affects all of them. Each system has a virtual environment, made on the first call. The rows
of a system that cannot be installed or run give the reason.

The figures of each run are kept in a file in --results: the next call continues an interrupted one. Figures belong to
one version of p2pser's code.

    python benchmarks/against/run.py                                  # everything
    python benchmarks/against/run.py --models mlp --peers 100 --systems p2pser,gossipy --repeats 5
    python benchmarks/against/run.py --source gossipy=FOLDER          # a local copy of a repository
    python benchmarks/against/run.py --table                          # only print what is there
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import table
from systems import DRIVERS, NETWORKS, ROOT, SIMULATORS, Missing, System, prepared

FOUND = "FIGURES "
ROUNDS = {8: 40, 100: 10, 1000: 2}
"""Measured rounds by the number of peers; for other numbers 1000 / peers, between 2 and 40. They suffice for p2pser to
measure how many peers take their steps at once, as in runs of usual length (training.at_once).
"""

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Cell:
    """One job of the systems: the model, the number of peers, and whether these are processes."""

    model: str
    peers: int
    processes: bool = False

    @property
    def name(self) -> str:
        return f"{'processes' if self.processes else 'simulated'}-{self.model}-{self.peers}"

    @property
    def systems(self) -> tuple[System, ...]:
        return NETWORKS if self.processes else SIMULATORS

    @property
    def job(self) -> dict[str, Any]:
        rounds = 30 if self.processes else ROUNDS.get(self.peers, min(40, max(2, 1000 // self.peers)))
        return {"model": self.model, "peers": self.peers, "rounds": rounds}


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=_of("mlp", "cnn"), default=["mlp", "cnn"], metavar="mlp,cnn")
    parser.add_argument("--peers", type=_counts, default=[8, 100, 1000], metavar="8,100,1000",
                        help="simulated peers; 0: none")
    parser.add_argument("--processes", type=_counts, default=[8, 16], metavar="8,16",
                        help="peers that are processes; 0: none")
    parser.add_argument("--systems", type=_list, default=[], metavar="NAME,...",
                        help="only systems whose name begins so (p2pser, gossipy, flower, pfl, krum, floor, "
                             "decentralizepy)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of which medians are taken (default 3)")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a run is given up (default 600)")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "against" / "environments")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "against" / "results")
    parser.add_argument("--source", action="append", default=[], metavar="NAME=FOLDER", type=_source,
                        help="a local copy of the repository of gossipy or decentralizepy")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table of what is there")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of the table")
    return parser


def _list(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _of(*known: str) -> Any:
    def read(text: str) -> list[str]:
        names = _list(text)
        if not names or set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{text!r} must be some of {', '.join(known)}")
        return names
    return read


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in _list(text)]
    except ValueError:
        counts = [-1]
    if not counts or min(counts) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers of peers, as in 8,100; 0 for none")
    if any(count in (1, 2) for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r}: a ring needs 3 peers at least")
    return [count for count in counts if count]


def _source(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if name not in {system.environment for system in (*SIMULATORS, *NETWORKS) if system.source}:
        raise argparse.ArgumentTypeError(f"{text!r} must be gossipy=FOLDER or decentralizepy=FOLDER")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such folder")
    return name, Path(folder)


def cells(given: argparse.Namespace) -> list[Cell]:
    """Return the cells in the order in which they are measured."""
    return [*(Cell(model, peers) for model in given.models for peers in given.peers),
            *(Cell("mlp", peers, True) for peers in given.processes)]


def chosen(systems: Sequence[System], names: Sequence[str]) -> list[System]:
    """Return the systems that were asked for, p2pser always among them."""
    return [system for system in systems if not names or system.name == "p2pser"
            or any(system.name.lower().startswith(name) for name in names)]


def version() -> str:
    """Return a digest of p2pser's code and of the drivers."""
    digest = hashlib.sha256()
    for folder in (ROOT / "p2pser", DRIVERS):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def turns(given: argparse.Namespace) -> Iterator[tuple[Cell, System, int]]:
    """Yield the runs in order: in each cell the systems alternate, and so does the system that begins."""
    for cell in cells(given):
        systems = chosen(cell.systems, given.systems)
        for repeat in range(given.repeats):
            start = repeat % len(systems)
            for system in (*systems[start:], *systems[:start]):
                yield cell, system, repeat


def measured(system: System, cell: Cell, python: str, path: Sequence[str], limit: float) -> dict[str, Any]:
    """Return the figures of one run, or {"error": why there are none}."""
    command = [python, str(DRIVERS / system.driver), json.dumps(cell.job), *system.arguments]
    environment = {**os.environ, **THREADS, "PYTHONPATH": os.pathsep.join(path)}
    cores = sorted(os.sched_getaffinity(0))[-system.cores:] if system.cores else None
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment, start_new_session=True,
                               preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores))
    try:
        out, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:g} s"}
    finally:
        _end(process)
    for line in out.splitlines():
        if line.startswith(FOUND):
            return json.loads(line.removeprefix(FOUND))  # type: ignore[no-any-return]
    last = [line for line in (errors or out).splitlines() if line.strip()]
    return {"error": last[-1][:300] if last else f"it ended with {process.returncode}"}


def _end(process: subprocess.Popen[str]) -> None:
    """End a run and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read(folder: Path, given: argparse.Namespace) -> dict[Cell, dict[str, list[dict[str, Any]]]]:
    """Return the figures that are there: by cell, by system, one for each repeat."""
    figures: dict[Cell, dict[str, list[dict[str, Any]]]] = {}
    for cell, system, repeat in turns(given):
        path = place(folder, cell, system, repeat)
        if path.exists():
            figures.setdefault(cell, {}).setdefault(system.name, []).append(
                {"repeat": repeat, **json.loads(path.read_text(encoding="utf-8"))})
    return figures


def place(folder: Path, cell: Cell, system: System, repeat: int) -> Path:
    """Return where the figures of a run are kept."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in system.name.lower())
    return folder / cell.name / f"{plain}-{repeat}.json"


def kept(path: Path) -> bool:
    """Whether a run has figures already; one that failed is tried again."""
    try:
        return "error" not in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def keep(path: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures of a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(figures), encoding="utf-8")
    new.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    if given.repeats < 1:
        options().error("--repeats must be at least 1")
    folder = given.results / version()
    if not given.table:
        measure(given, folder)
    figures = read(folder, given)
    if given.json:
        print(json.dumps([{"cell": cell.name, "job": cell.job, "systems": systems}
                          for cell, systems in figures.items()]))
    else:
        print(table.text(figures))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Run what is not there yet."""
    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    ready: dict[str, tuple[str, list[str]] | str] = {}
    todo = list(turns(given))
    for at, (cell, system, repeat) in enumerate(todo, 1):
        path = place(folder, cell, system, repeat)
        if kept(path):
            continue
        if system.environment not in ready:
            try:
                ready[system.environment] = prepared(system, given.environments, dict(given.source), say)
            except Missing as missing:
                ready[system.environment] = f"it could not be installed: {missing}"
        environment = ready[system.environment]
        figures = {"error": environment} if isinstance(environment, str) else \
            measured(system, cell, *environment, given.limit)
        keep(path, figures)
        say(f"{at} of {len(todo)}: {cell.name}, {system.name}, {repeat + 1}: {table.short(figures)}")


if __name__ == "__main__":
    main()
