"""The job that all systems do, for the drivers: one model, one batch, one number of local steps, made-up clips.

It needs nothing but torch, since it runs in every system's own environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 4
HIDDEN = 138
CHANNELS = (16, 32, 64, 128)
LEAST_VARIANCE = 1e-5
SHAPES = {"mlp": (691,), "cnn": (32, 32)}
"""The features of a clip: a vector of functionals, or 32 bands by 32 frames."""

FOUND = "FIGURES "
"""What a driver's line of figures begins with."""


@dataclass(frozen=True)
class Job:
    """What a driver does: so many peers on a ring, each taking ``steps`` of SGD on batches of ``batch`` a round."""

    model: str
    peers: int
    rounds: int
    warm_up: int = 1
    steps: int = 5
    batch: int = 16
    lr: float = 0.05
    momentum: float = 0.9

    @classmethod
    def given(cls) -> Job:
        """Read the job from the command line."""
        torch.set_num_threads(1)
        return cls(**json.loads(sys.argv[1]))

    @property
    def all_rounds(self) -> int:
        """Rounds with those that are not measured."""
        return self.warm_up + self.rounds

    @property
    def optimizer(self) -> dict[str, float]:
        """The arguments of torch.optim.SGD."""
        return {"lr": self.lr, "momentum": self.momentum}


class Mlp(nn.Sequential):
    """96 thousand parameters."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(SHAPES["mlp"][0], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


class Cnn(nn.Module):
    """98 thousand parameters: blocks of a 3 x 3 convolution, GroupNorm, ReLU and max pooling, mean and deviation over
    time, then a linear layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=1 if at else 2, padding=1, bias=False),
                          nn.GroupNorm(8, after), nn.ReLU(), nn.MaxPool2d(2))
            for at, (before, after) in enumerate(zip((1, *CHANNELS), CHANNELS))))
        self.head = nn.Linear(2 * CHANNELS[-1], CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.blocks(features.unsqueeze(1)).flatten(1, 2)
        return self.head(torch.cat((maps.mean(2), (maps.var(2, correction=0) + LEAST_VARIANCE).sqrt()), 1))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": Mlp, "cnn": Cnn}


def build(job: Job) -> nn.Module:
    """Return the initial model, the same for all peers."""
    torch.manual_seed(0)
    return MODELS[job.model]()


def clips(job: Job, peer: int) -> tuple[Tensor, Tensor]:
    """Return a peer's features and labels: as many clips as its local steps of a round take."""
    draw = torch.Generator().manual_seed(peer)
    count = job.steps * job.batch
    return (torch.randn(count, *SHAPES[job.model], generator=draw),
            torch.randint(0, CLASSES, (count,), generator=draw))


def step(module: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Take one local step, and return its loss."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(module(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


class Watch:
    """Times the rounds of this process and of those that it has started, and looks at their memory in between."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._ends: list[tuple[float, float]] = []
        self._begins: list[tuple[float, float]] = []
        self._memory = 0

    def mark(self) -> None:
        """A round begins, and the one before has ended. Also called after the last round."""
        wall, own = time.perf_counter(), time.process_time()
        family = descendants()
        self._ends.append((wall, own + sum(map(cpu, family))))
        self._memory = max(self._memory, sum(map(pss, [os.getpid(), *family])))
        others = sum(map(cpu, family))
        self._begins.append((time.perf_counter(), time.process_time() + others))

    def report(self, **others: Any) -> None:
        """Print the figures of the rounds that count; raise SystemExit where there are too few."""
        if len(self._ends) != self.job.all_rounds + 1:
            raise SystemExit(f"{len(self._ends) - 1} rounds were seen instead of {self.job.all_rounds}")
        each = [(end[0] - begin[0], end[1] - begin[1]) for begin, end in zip(self._begins, self._ends[1:])]
        counted = each[self.job.warm_up :]
        figures = {"round_s": [wall for wall, _ in counted], "cpu_s": [cpu for _, cpu in counted],
                   "setup_s": self._ends[0][0] - BORN, "memory_mb": self._memory / 1e6,
                   "torch": torch.__version__, **others}
        print(FOUND + json.dumps(figures), flush=True)


def descendants() -> list[int]:
    """The processes that this one has started, and theirs."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents[int(folder.name)] = int(fields[1])
    pids, new = [], {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in new}:
        pids += new
    return pids


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu(pid: int) -> float:
    """The processor seconds that a process has used (in hundredths); 0 when it has ended."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def pss(pid: int) -> int:
    """The proportional set size of a process [B]; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


BORN = int(_stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
"""When this process started, by ``time.perf_counter`` (both count from the machine's start)."""
