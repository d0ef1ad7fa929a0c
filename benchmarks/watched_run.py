"""A running `p2pser demo` on the synthetic corpus, watched from outside: its processes through /proc, its rounds and
events through the files of each peer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

LOOK_EVERY = 0.02
"""Seconds between two looks at the metrics files."""

TIMEOUT = 300.0
"""Seconds after which a run without progress is given up."""

LINE = 1 << 16
"""Most bytes of a line of metrics."""

NEVER = 1_000_000
"""Rounds between two evaluations or checkpoints: none in a run."""


class Run:
    """A running `p2pser demo`, observed from outside.

    patience : seconds after which a wait for it is given up.
    """

    def __init__(self, peers: int, rounds: int, folder: Path, settings: Sequence[str],
                 patience: float = TIMEOUT) -> None:
        self.peers, self._patience = peers, patience
        self.folder = folder / "demo"
        command = [sys.executable, "-m", "p2pser.cli.main", "demo", "--peers", str(peers), "--topology", "ring.yaml",
                   "--rounds", str(rounds), "--out", str(folder), "--name", "demo", "--seed", "0"]
        for setting in (f"peer.evaluate_every={NEVER}", *settings):
            command += ["--set", setting]
        self._errors = (folder / "stderr").open("w+b")
        self.began = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._errors,
                                         start_new_session=True)

    def processes(self) -> list[psutil.Process]:
        """Return the launcher and its descendants."""
        try:
            launcher = psutil.Process(self._process.pid)
            return [launcher, *launcher.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def reached(self, rounds: int) -> float:
        """Wait until every peer has finished so many rounds; return the seconds since the start."""
        return self._wait(lambda: all(self._count(peer) >= rounds for peer in range(self.peers)),
                          f"round {rounds}")

    def ended(self) -> list[dict[str, Any]]:
        """Wait until every peer has its model; return their summaries."""
        self._wait(lambda: len(self._finished()) == self.peers, "its end")
        return [json.loads(path.read_text()) for path in self._finished()]

    def events(self, *kinds: str) -> int:
        """Return how many events of these kinds all peers have written."""
        lines = [json.loads(line) for path in self.folder.glob("peer-*/events.jsonl")
                 for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return sum(line["kind"] in kinds for line in lines)

    def bytes_per_payload_byte(self) -> float:
        """Wait until every peer has its model; return what all sent on the wire over what of it were rows."""
        summaries = self.ended()
        sent = sum(summary["bytes_sent"] for summary in summaries)
        return float(sent / sum(summary["payload_sent"] for summary in summaries))

    def pss(self) -> int:
        """Proportional set size of all its processes [B]: shared pages are counted once in all."""
        return sum(pss(process.pid) for process in self.processes())

    def cpu(self) -> float:
        """Processor seconds of the peers, that is, of all its processes but the launcher."""
        total = 0.0
        for process in self.processes()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def stop(self) -> None:
        """End the launcher and its descendants."""
        mine = self.processes()
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in mine:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
            psutil.wait_procs(mine, timeout=5)
        self._process.wait()
        self._errors.close()

    def _wait(self, over: Callable[[], bool], what: str) -> float:
        """Look again and again until ``over``; return the seconds since the start."""
        end = time.perf_counter() + self._patience
        while not over():
            if self._process.poll() is not None or time.perf_counter() > end:
                self._errors.seek(0)
                why = "ended" if self._process.returncode is not None else f"took more than {self._patience:.0f} s"
                last = self._errors.read().decode(errors="replace").strip().splitlines()[-5:]
                raise SystemExit("\n".join([f"the demo {why} before {what}; its last output:", *last]))
            time.sleep(LOOK_EVERY)
        return time.perf_counter() - self.began

    def _count(self, peer: int) -> int:
        """How many rounds a peer has finished, by the last complete line of its metrics."""
        try:
            with (self.folder / f"peer-{peer}" / "metrics.jsonl").open("rb") as metrics:
                metrics.seek(max(0, metrics.seek(0, os.SEEK_END) - LINE))
                lines = metrics.read().split(b"\n")
        except FileNotFoundError:
            return 0
        return 1 + int(json.loads(lines[-2])["round"]) if len(lines) > 1 else 0

    def _finished(self) -> list[Path]:
        return list(self.folder.glob("peer-*/finished.json"))


def pss(pid: int) -> int:
    """Proportional set size of a process [B] (Linux); 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


@contextlib.contextmanager
def running(peers: int, rounds: int, *settings: str, patience: float = TIMEOUT) -> Iterator[Run]:
    """A run in a folder of its own with these settings (SECTION.FIELD=VALUE), ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="p2pser-benchmark-") as folder:
        run = Run(peers, rounds, Path(folder), settings, patience)
        try:
            yield run
        finally:
            run.stop()
