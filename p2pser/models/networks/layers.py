"""torch's layers without their own initialisation: ``models.initialise`` draws all parameters.

So no draw comes from torch's global generator, and no initialisation is computed twice. (The meta device has the same
effect, but its first use imports sympy: a third of a second in every peer.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

Dropping = Callable[[Tensor, float], Tensor]
"""(values, probability) to the values after dropout."""

_dropping: ContextVar[Dropping] = ContextVar("dropping", default=nn.functional.dropout)

LEAST_VARIANCE = 1e-5
"""Added to a variance under its root, whose derivative is infinite at 0."""


class Undrawn:
    """Base class of layers whose constructor leaves their parameters uninitialised."""

    def reset_parameters(self) -> None:
        """Do nothing: ``models.initialise`` draws all parameters."""


class Linear(Undrawn, nn.Linear):
    """torch.nn.Linear. sources : number of vectors side by side in its input.

    Where the weight is that of N networks, (N, outputs, inputs), it maps (N, n, inputs) to (N, n, outputs).
    """

    sources = 1

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(input)
        product: Tensor = _Products.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.unsqueeze(1)


class _Products(torch.autograd.Function):
    """Products (N, n, inputs) by (N, outputs, inputs)^T.

    The gradient of a weight has the weight's layout in memory, and is written to its attribute ``into``, if any.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.into = getattr(weight, "into", None)
        return torch.bmm(values, weight.mT)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor]:
        values, weight = ctx.saved_tensors
        slope, = slopes
        return (torch.bmm(slope, weight) if ctx.needs_input_grad[0] else None,
                torch.bmm(slope.mT, values, out=ctx.into))


class Conv2d(Undrawn, nn.Conv2d):
    """torch.nn.Conv2d. he : it is followed by a ReLU, and is initialised so that the variance stays the same."""

    he = True


class Conv1d(Undrawn, nn.Conv1d):
    """torch.nn.Conv1d. he : as of ``Conv2d``."""

    he = True


def dropped(values: Tensor, probability: float, training: bool) -> Tensor:
    """Return values after dropout; outside training, or with probability 0, without a draw."""
    return _dropping.get()(values, probability) if training and probability else values


@contextmanager
def dropping(how: Dropping) -> Iterator[None]:
    """Replace the dropout of ``dropped`` within the block."""
    before = _dropping.set(how)
    try:
        yield
    finally:
        _dropping.reset(before)
