"""The systems beside p2pser, and the virtual environment of each."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"
ROOT = Path(__file__).parents[2]


class Missing(Exception):
    """A system cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Source:
    """A public git repository at a commit. With ``installs`` pip installs it; else it is put on the path."""

    url: str
    commit: str
    installs: bool = False


@dataclass(frozen=True)
class System:
    """A system, or another way to run it.

    environment : the name of its environment; empty: that of this benchmark. requires : the packages that pip installs
    into it. python : the oldest and the newest minor version of Python 3 that it supports. cores : number of processors
    of all its processes together.
    """

    name: str
    driver: str
    arguments: tuple[str, ...] = ()
    environment: str = ""
    requires: tuple[str, ...] = ()
    source: Source | None = None
    python: tuple[int, int] = (10, 99)
    cores: int = 1
    path: tuple[str, ...] = field(default=())


GOSSIPY = Source("https://github.com/makgyver/gossipy", "ea85ab1da0048df41df82ba958a635dd968f1f01")
DECENTRALIZEPY = Source("https://github.com/sacs-epfl/decentralizepy", "a5d46be907bc745652d5482c34117be388324439", True)
# gossipy requires versions of 2021, which no current Python supports; these are the current releases.
AROUND_GOSSIPY = ("numpy", "scipy", "scikit-learn", "pandas", "networkx", "rich", "dill", "requests", "tqdm",
                  "matplotlib")
FLOWER = ("flwr[simulation]==1.42.0",)

SIMULATORS = (
    System("p2pser", "on_p2pser.py"),
    System("gossipy", "on_gossipy.py", (), "gossipy", AROUND_GOSSIPY, GOSSIPY),
    System("gossipy, one random neighbour", "on_gossipy.py", ("--push",), "gossipy", AROUND_GOSSIPY, GOSSIPY),
    System("gossipy-dfl 0.0.1, one random neighbour", "on_gossipy.py", ("--push",), "gossipy-dfl",
           (*AROUND_GOSSIPY, "gossipy-dfl==0.0.1")),
    System("Flower's simulation", "on_flower.py", (), "flower", FLOWER, python=(11, 13)),
    System("Flower's simulation, two processors", "on_flower.py", (), "flower", FLOWER, python=(11, 13), cores=2),
    System("pfl", "on_pfl.py", (), "pfl", ("pfl[pytorch]==0.6.0",), python=(10, 12)),
    System("krum", "on_krum.py", (), "krum", ("krum==0.9.0",), python=(12, 14)),
    System("floor: a loop over N models", "on_floor.py"),
    System("floor: the same in two processes", "on_floor.py", ("--two",), cores=2),
)
NETWORKS = (
    System("p2pser", "on_p2pser_peers.py", cores=0),
    System("decentralizepy", "on_decentralizepy.py", (), "decentralizepy", (), DECENTRALIZEPY, cores=0),
)
"""Systems whose peers are processes; 0 cores: all that the machine has."""


def prepared(system: System, folder: Path, sources: Mapping[str, Path], say: Callable[[str], None]
             ) -> tuple[str, list[str]]:
    """Return the interpreter of a system and the folders for its PYTHONPATH; make its environment where it is missing.

    folder : of all environments. sources : local copies of repositories by the environment's name. Raises Missing.
    """
    path = [str(DRIVERS)]
    if not system.environment:
        return sys.executable, [str(ROOT), str(ROOT / "benchmarks"), *path]
    place = folder / system.environment
    code = None
    if system.source is not None:
        code = _checked_out(system.source, folder / "sources" / system.environment, sources.get(system.environment))
    torch = importlib.metadata.version("torch").partition("+")[0]
    wanted = [f"torch=={torch}", *system.requires, *([str(code)] if code and system.source.installs else [])]
    python = place / "bin" / "python"
    digest = hashlib.sha256(json.dumps([wanted, str(system.source)]).encode()).hexdigest()
    done = place / "made"
    if not done.exists() or done.read_text() != digest:
        say(f"making the environment of {system.environment}")
        shutil.rmtree(place, ignore_errors=True)
        _interpreted(system, place)
        try:
            _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], 1800)
        except Missing:
            shutil.rmtree(place, ignore_errors=True)
            raise
        done.write_text(digest)
    return str(python), [*path, *([str(code)] if code and not system.source.installs else [])]


def _interpreted(system: System, place: Path) -> None:
    """Make an empty environment with a Python that the system takes. Raises Missing where there is none."""
    oldest, newest = system.python
    if oldest <= sys.version_info.minor <= newest:
        venv.create(place, with_pip=True)
        return
    for minor in range(oldest, min(newest, 20) + 1):
        interpreter = shutil.which(f"python3.{minor}")
        if interpreter and subprocess.run([interpreter, "-c", ""], capture_output=True, timeout=60).returncode == 0:
            _run([interpreter, "-m", "venv", str(place)], 300)
            return
    raise Missing(f"it needs Python 3.{oldest} to 3.{newest}, and there is none here")


def _checked_out(source: Source, place: Path, local: Path | None) -> Path:
    """Return a folder with the repository at its commit. Raises Missing where it cannot be had."""
    marker = place / ".git"
    if not marker.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        _run(["git", "clone", "--quiet", "--no-checkout", str(local or source.url), str(place)], 600)
    _run(["git", "-C", str(place), "checkout", "--quiet", "--force", source.commit], 120)
    return place


def _run(command: list[str], limit: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL,
                              env=None)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{' '.join(command[:3])} …: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        raise Missing(lines[-1][:300] if lines else f"{command[0]} ended with {done.returncode}")
