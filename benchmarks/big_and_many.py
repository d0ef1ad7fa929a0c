"""Large models, many peers and many rounds on this machine: whether memory, descriptors and disk stay bounded.

Each part starts `p2pser demo` on the synthetic corpus in a separate folder and prints one line, with the aim and
whether it is met. It measures counts and sizes, no times: other load on the machine changes the duration only.

    python benchmarks/big_and_many.py --part large     # 100 million parameters between 3 peers: 12 GiB of memory
    python benchmarks/big_and_many.py --part rounds    # 10,000 rounds of a tiny model between 3 peers
    python benchmarks/big_and_many.py --part many      # 64 peers
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from watched_run import NEVER, Run, running

HOUR = 3600.0
"""Seconds after which a part is given up."""


def large(hidden: int = 9660) -> str:
    """100 million parameters (691 x h + h^2 + 8 h) between 3 peers, to the end: the largest memory of one peer."""
    aim = 6.0
    with running(3, 3, f"model.hidden=[{hidden},{hidden}]", "training.local_steps=1", "training.batch_size=4",
                 f"peer.checkpoint_every={NEVER}", patience=HOUR) as run:
        with _peaks(run) as peaks:
            summaries = run.ended()
        most = max(peaks.values()) / 2**30
        agreed = sum(bool(summary["consensus"]) for summary in summaries)
    return (f"{hidden} x {hidden} hidden units, 3 peers, 3 rounds and the final consensus: at most {most:.2f} GiB of a "
            f"peer, {agreed} of 3 agreed; aim: at most {aim:g} GiB, {_verdict(most <= aim and agreed == 3)}")


def rounds(count: int = 10_000) -> str:
    """A tiny model between 3 peers: memory, descriptors and disk after a tenth of the rounds, and after all."""
    with running(3, count + count // 100, "model.hidden=[4]", "training.local_steps=1", "training.batch_size=4",
                 "peer.log_bytes=131072", "peer.checkpoint_every=50", patience=8 * HOUR) as run:
        run.reached(count // 10)
        early = _taken(run)
        run.reached(count)
        late = _taken(run)
    grown = [after / before for before, after in zip(early, late)]
    shown = ", ".join(f"{name} {before:,.0f} -> {after:,.0f} {unit} ({ratio:.3f})" for name, unit, before, after, ratio
                      in zip(("memory", "descriptors", "disk"), ("KiB", "", "KiB"), early, late, grown))
    return (f"3 peers, round {count // 10:,} and {count:,}, all processes together: {shown}; aim: no growth (1.05), "
            f"{_verdict(max(grown) <= 1.05)}")


def many(peers: int = 64, count: int = 10) -> str:
    """Many peers in a ring, to the end: neighbours that were declared dead, though none died."""
    with running(peers, count, patience=HOUR) as run:
        run.reached(1)
        run.reached(count)
        memory = run.pss() / 2**30
        summaries = run.ended()
        dead, suspect = run.events("dead"), run.events("suspect")
        agreed = sum(bool(summary["consensus"]) for summary in summaries)
    return (f"{peers} peers, {count} rounds: {dead} false deaths, {suspect} suspected, {agreed} of {peers} agreed, "
            f"{memory:.2f} GiB; aim: 0 false deaths, {_verdict(dead == 0 and agreed == peers)}")


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _taken(run: Run) -> tuple[float, float, float]:
    """The memory [KiB] and the open descriptors of the launcher and the peers, and the run's disk [KiB]."""
    disk = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    return run.pss() / 1024, sum(process.num_fds() for process in run.processes()), disk / 1024


@contextlib.contextmanager
def _peaks(run: Run) -> Iterator[dict[int, int]]:
    """The largest resident memory [B] of each process of a run, by its id, looked at twice a second."""
    peaks: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            for process in run.processes()[1:]:
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    _, _, peak = status.partition("VmHWM:")
                    if peak:  # one that has ended has none
                        peaks[process.pid] = 1024 * int(peak.split()[0])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


PARTS: dict[str, Callable[[], str]] = {"large": large, "rounds": rounds, "many": many}


def main() -> None:
    options = argparse.ArgumentParser(description="Whether memory, descriptors and disk stay bounded.")
    options.add_argument("--part", choices=tuple(PARTS), action="append", help="only this part (several times)")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for part in options.parse_args().part or PARTS:
        print(PARTS[part](), flush=True)


if __name__ == "__main__":
    main()
