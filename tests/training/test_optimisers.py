"""Optimisers on flat rows take torch's own steps."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from p2pser.config import TrainingSettings
from p2pser.training.optimisers import Optimizer, clip_, learning_rate


def run_ours(training: TrainingSettings, start: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    row = start.clone()
    optimizer = Optimizer(training)
    memory = optimizer.init(row)
    for gradient in gradients:
        optimizer.step_(row, gradient.clone(), memory, training.lr)
    return row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adamw", 0.9)])
def test_equal_to_torch(kind: str, momentum: float, decay: float, dtype: torch.dtype) -> None:
    training = TrainingSettings.model_validate(
        {"optimizer": kind, "momentum": momentum, "weight_decay": decay, "lr": 0.02})
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(1003, generator=generator, dtype=dtype)
    gradients = torch.randn(20, 1003, generator=generator, dtype=dtype)
    parameter = torch.nn.Parameter(start.clone())
    theirs: torch.optim.Optimizer
    if kind == "sgd":
        theirs = torch.optim.SGD([parameter], lr=0.02, momentum=momentum, weight_decay=decay)
    else:
        theirs = torch.optim.AdamW([parameter], lr=0.02, weight_decay=decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        theirs.step()
    assert torch.equal(run_ours(training, start, gradients), parameter.detach())


def test_memory_is_all_that_is_remembered() -> None:
    """Stopping after any step and going on from copies of row and memory changes no bit."""
    training = TrainingSettings(optimizer="adamw")
    gradients = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    straight = run_ours(training, torch.ones(50), gradients)
    row, memory = torch.ones(50), Optimizer(training).init(torch.ones(50))
    for gradient in gradients:
        row, memory = row.clone(), {name: value.clone() for name, value in memory.items()}
        Optimizer(training).step_(row, gradient.clone(), memory, training.lr)
    assert torch.equal(row, straight)


def test_memory_rows() -> None:
    row = torch.ones(5)
    assert Optimizer(TrainingSettings(momentum=0.0)).init(row) == {}
    assert set(Optimizer(TrainingSettings()).init(row)) == {"momentum"}
    memory = Optimizer(TrainingSettings(optimizer="adamw")).init(row)
    shapes = {name: tuple(value.shape) for name, value in memory.items()}
    assert shapes == {"mean": (5,), "square": (5,), "steps": (1,)}


def test_clipping_shortens_long_gradients_only() -> None:
    for gradient, limit, expected in (([3.0, 4.0], 1.0, [0.6, 0.8]), ([0.3, 0.4], 1.0, [0.3, 0.4]),
                                      ([3.0, 4.0], 0.0, [3.0, 4.0])):
        values = torch.tensor(gradient)
        clip_(values, limit)
        torch.testing.assert_close(values, torch.tensor(expected))


def test_schedule() -> None:
    constant = TrainingSettings(schedule="constant", lr=0.1)
    assert {learning_rate(constant, r) for r in range(40)} == {0.1}
    cosine = TrainingSettings(schedule="cosine", lr=0.1, rounds=10)
    rates = [learning_rate(cosine, r) for r in range(10)]
    assert rates[0] == 0.1
    assert rates[5] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] == pytest.approx(0.05 * (1 + math.cos(0.9 * math.pi)))
    assert learning_rate(cosine, 10) == learning_rate(cosine, 99) == rates[-1]
    assert {learning_rate(TrainingSettings(rounds=r), 0) for r in (0, 1)} == {0.05}


def test_training_does_not_load_dynamo() -> None:
    """It would cost every child process seconds and tens of megabytes."""
    code = ("import sys, torch\n"
            "from p2pser import models\n"
            "from p2pser.config import ModelSettings, TrainingSettings\n"
            "from p2pser.models.rows import Schema\n"
            "from p2pser.training.learner import Learner\n"
            "m = models.build(ModelSettings(), (8,), 3, 0); s = Schema.of(m)\n"
            "x, y = torch.zeros(4, 8), torch.zeros(4)\n"
            "l = Learner(m, s, TrainingSettings(), x, y, seed=0, peer=0)\n"
            "l.train_(s.flatten(m), l.memory(), 0)\n"
            "heavy = ('torch._dynamo', 'sympy', 'librosa', 'scipy', 'matplotlib')\n"
            "sys.exit(', '.join(n for n in heavy if n in sys.modules) or 0)\n")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
