"""torch's layers without their own initialisation: ``models.initialise`` draws all parameters.

So nothing is drawn from torch's global generator, and nothing is computed twice. (The meta device would do as
well, but its first use imports sympy: a third of a second in every peer.)
"""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Linear):
    """torch.nn.Linear, its parameters left as memory was. sources: how many vectors its inputs are, side by side."""

    sources = 1

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d, its parameters left as memory was; ``he`` asks for initialisation that keeps variance
    through ReLU.
    """

    he = True

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


class Conv1d(nn.Conv1d):
    """torch.nn.Conv1d, its parameters left as memory was; ``he`` asks for initialisation that keeps variance
    through ReLU.
    """

    he = True

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


def dropped(values: Tensor, probability: float, training: bool) -> Tensor:
    """Return values after dropout; where nothing is dropped, nothing is drawn."""
    return nn.functional.dropout(values, probability) if training and probability else values
