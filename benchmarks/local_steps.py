"""One local step of N peers by the loop over peers that p2pser runs, and by three batched forms.

An MLP (32 -> 84 -> 84 -> 3, batches of 8 clips) and a CNN (1 x 16 x 16 -> 8 -> 16 channels -> 3), SGD with momentum.
Batched products (bmm), torch.func.vmap over the gradient, and grouped convolutions compute the same gradients, on rows
(N, D) as the simulator keeps them. Times are medians of processor milliseconds a peer, and ratios to the loop.

    python benchmarks/local_steps.py [--peers 8,64,512,4096] [--threads 1] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, LR, MOMENTUM = 8, 0.05, 0.9
Step = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""(rows, velocity, clips (N, batch, …), labels (N, batch)): the step in place."""


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.one(x)), 2)
        logits: Tensor = self.head(F.relu(self.two(x)).mean((2, 3)))
        return logits


def views(module: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    """Return the parameters of all peers (N, *shape) as views of rows (N, D)."""
    parameters, at = {}, 0
    for name, parameter in module.named_parameters():
        parameters[name] = rows[:, at : at + parameter.numel()].view(len(rows), *parameter.shape)
        at += parameter.numel()
    return parameters


def moved_(rows: Tensor, velocity: Tensor, gradient: Tensor) -> None:
    rows.sub_(velocity.mul_(MOMENTUM).add_(gradient), alpha=LR)


def loop(module: nn.Module) -> Step:
    """Bind the module to one row after another, as ``training.learner`` does."""
    from p2pser.models.rows import Schema

    schema = Schema.of(module)

    def step(rows: Tensor, velocity: Tensor, x: Tensor, y: Tensor) -> None:
        for i in range(len(rows)):
            gradient = schema.bind(module, rows[i])
            gradient.zero_()
            F.cross_entropy(module(x[i]), y[i]).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                moved_(rows[i], velocity[i], gradient)
    return step


def vmapped(module: nn.Module) -> Step:
    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(module, parameters, (x,)), y)

    gradients = torch.func.vmap(torch.func.grad(loss))

    def step(rows: Tensor, velocity: Tensor, x: Tensor, y: Tensor) -> None:
        gradient = gradients(views(module, rows), x, y)
        moved_(rows, velocity, torch.cat([gradient[name].flatten(1) for name, _ in module.named_parameters()], 1))
    return step


def batched(module: nn.Module, forward: Callable[[dict[str, Tensor], Tensor], Tensor]) -> Step:
    def step(rows: Tensor, velocity: Tensor, x: Tensor, y: Tensor) -> None:
        leaf = rows.detach().requires_grad_()
        logits = forward(views(module, leaf), x)
        F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").div(BATCH).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            moved_(rows, velocity, leaf.grad)  # type: ignore[arg-type]
    return step


def products(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    for layer in ("0", "2", "4"):
        x = torch.baddbmm(parameters[f"{layer}.bias"].unsqueeze(1), x, parameters[f"{layer}.weight"].mT)
        x = x if layer == "4" else F.relu(x)
    return x


def grouped(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    n = len(x)
    x = x.transpose(0, 1).flatten(1, 2)  # (batch, N * channels, height, width)
    for name in ("one", "two"):
        x = F.relu(F.conv2d(x, parameters[f"{name}.weight"].flatten(0, 1), parameters[f"{name}.bias"].flatten(),
                            padding=1, groups=n))
        x = F.max_pool2d(x, 2) if name == "one" else x.mean((2, 3))
    features = x.view(BATCH, n, -1).transpose(0, 1)
    return torch.baddbmm(parameters["head.bias"].unsqueeze(1), features, parameters["head.weight"].mT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="8,64,512,4096")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [measured(name, int(peers), given.repeats) for name in ("mlp", "cnn") for peers in given.peers.split(",")]
    if given.json:
        print(json.dumps(rows))
        return
    for row in rows:
        others = ", ".join(f"{form} {row['ms']['loop'] / ms:.2f}" for form, ms in row["ms"].items() if form != "loop")
        print(f"{row['model']} {row['peers']:5d} peers: loop {row['ms']['loop']:.3f} ms a peer; "
              f"times the loop's speed: {others}")


def measured(name: str, peers: int, repeats: int) -> dict[str, Any]:
    """Return the processor milliseconds a peer of each form, in turns, after a check that all take the same step."""
    module: nn.Module = Cnn() if name == "cnn" else nn.Sequential(
        nn.Linear(32, 84), nn.ReLU(), nn.Linear(84, 84), nn.ReLU(), nn.Linear(84, 3))
    size = sum(parameter.numel() for parameter in module.parameters())
    forms = {"loop": loop(module), "vmap": vmapped(module),
             **({"grouped": batched(module, grouped)} if name == "cnn" else {"bmm": batched(module, products)})}
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(peers, size, generator=draw) / math.sqrt(84)
    shape = (1, 16, 16) if name == "cnn" else (32,)
    x, y = torch.randn(peers, BATCH, *shape, generator=draw), torch.randint(0, 3, (peers, BATCH), generator=draw)
    times: dict[str, list[float]] = {form: [] for form in forms}
    ends = {}
    for _ in range(repeats):
        for form, step in forms.items():
            rows, velocity = start.clone(), torch.zeros_like(start)
            began = time.process_time()
            step(rows, velocity, x, y)
            times[form].append((time.process_time() - began) / peers * 1e3)
            ends[form] = rows
    for form in forms:
        torch.testing.assert_close(ends[form], ends["loop"], rtol=1e-4, atol=1e-5)
    return {"model": name, "peers": peers, "parameters": size,
            "ms": {form: statistics.median(each) for form, each in times.items()}}


if __name__ == "__main__":
    main()
