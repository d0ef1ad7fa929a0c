"""Optimisers on flat rows, step for step equal to torch.optim (by test).

torch.optim itself is not used: its import loads torch._dynamo, which costs each child process seconds and tens of
megabytes, and its operations per parameter cost more than the arithmetic of a small model. An optimiser's state is
rows, so that checkpoints, restarts and the simulator treat it like parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from p2pser.config import TrainingSettings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""AdamW's decay of the mean and of the mean square of gradients, and the term that its denominator adds."""

_FUSED = getattr(torch, "_fused_sgd_", None)
"""The kernel of torch.optim.SGD with ``fused=True``; None: torch has none."""


def learning_rate(training: TrainingSettings, round: int) -> float:
    """Return the learning rate of a round, 0 .. rounds-1: constant, or half a cosine from ``lr`` towards 0.

    Cosine (Loshchilov and Hutter 2017, equation 5, without restarts): lr (1 + cos(pi round / rounds)) / 2.
    Rounds past the last keep the last round's rate.
    """
    if training.schedule == "constant" or training.rounds <= 1:
        return training.lr
    at = min(max(round, 0), training.rounds - 1)
    return training.lr * 0.5 * (1.0 + math.cos(math.pi * at / training.rounds))


def clip_(gradient: Tensor, limit: float) -> None:
    """Shorten a gradient (D,) in place to norm ``limit`` where it is longer (Pascanu et al. 2013); 0: no limit.

    Without it SGD with momentum diverges on hundreds of correlated features at a learning rate that suits gossip.
    """
    if limit and (norm := gradient.norm().item()) > limit:
        gradient.mul_(limit / norm)


class Optimizer:
    """SGD with momentum (weight decay as L2) or AdamW (decoupled), as the settings say.

    Its state is the rows that ``init`` returns.
    """

    def __init__(self, training: TrainingSettings) -> None:
        self.kind = training.optimizer
        self.momentum = training.momentum
        self.weight_decay = training.weight_decay

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rows that ``init`` returns."""
        if self.kind == "sgd":
            return ("momentum",) if self.momentum else ()
        return ("mean", "square", "steps")

    def init(self, row: Tensor) -> dict[str, Tensor]:
        """Return the initial state for a row (D,): momentum (D,), or mean (D,), square (D,) and steps (1,)."""
        if self.kind == "sgd":
            return {"momentum": torch.zeros_like(row)} if self.momentum else {}
        return {"mean": torch.zeros_like(row), "square": torch.zeros_like(row), "steps": row.new_zeros(1)}

    def step_(self, row: Tensor, gradient: Tensor, memory: dict[str, Tensor], lr: float) -> None:
        """Take one step in place.

        Parameters
        ----------
        row : (D,), the parameters.
        gradient : (D,); its values afterwards are undefined.
        memory : the state, as from ``init``.
        lr : learning rate.
        """
        if self.kind == "sgd":
            if self.weight_decay:
                gradient.add_(row, alpha=self.weight_decay)
            if self.momentum:
                gradient = memory["momentum"].mul_(self.momentum).add_(gradient)
            row.add_(gradient, alpha=-lr)
        else:
            self._adamw(row, gradient, memory, lr)

    def steps_(self, rows: Tensor, gradients: Tensor, memory: dict[str, Tensor], lr: float) -> None:
        """Take a step of N rows in place, equal to ``step_`` up to rounding.

        Parameters
        ----------
        rows, gradients : (N, D).
        memory : the state, (N, D) and (N, 1).
        lr : learning rate.
        """
        if self.kind == "adamw" and bool((memory["steps"] != memory["steps"][0]).any()):
            for i, (row, gradient) in enumerate(zip(rows, gradients)):
                self.step_(row, gradient, {name: value[i] for name, value in memory.items()}, lr)
        elif self.kind == "sgd" and _FUSED is not None and self.momentum:
            # One pass over memory in place of five, which is a third of the time of a small model's step.
            _FUSED([rows], [gradients], [memory["momentum"]], weight_decay=self.weight_decay, momentum=self.momentum,
                   lr=lr, dampening=0.0, nesterov=False, maximize=False, is_first_step=False)
        else:
            self.step_(rows, gradients, memory, lr)

    def _adamw(self, row: Tensor, gradient: Tensor, memory: dict[str, Tensor], lr: float) -> None:
        """Take a step of AdamW (Loshchilov and Hutter 2019, algorithm 2)."""
        steps = memory["steps"].add_(1.0).flatten()[0].item()
        if self.weight_decay:
            row.mul_(1.0 - lr * self.weight_decay)
        mean = memory["mean"].lerp_(gradient, 1.0 - BETA1)
        square = memory["square"].mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
        size = lr / (1.0 - BETA1**steps)
        denominator = square.sqrt().div_(math.sqrt(1.0 - BETA2**steps)).add_(EPSILON)
        row.addcdiv_(mean, denominator, value=-size)
