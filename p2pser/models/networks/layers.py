"""torch's layers without their own initialisation: ``models.initialise`` draws all parameters.

So no draw comes from torch's global generator, and no initialisation is computed twice. (The meta device would do as
well, but its first use imports sympy: a third of a second in every peer.)
"""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Linear):
    """torch.nn.Linear with uninitialised parameters. sources: number of vectors side by side in its input."""

    sources = 1

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d with uninitialised parameters; ``he`` asks for an initialisation that keeps variance through
    ReLU.
    """

    he = True

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


class Conv1d(nn.Conv1d):
    """torch.nn.Conv1d with uninitialised parameters; ``he`` asks for an initialisation that keeps variance through
    ReLU.
    """

    he = True

    def reset_parameters(self) -> None:
        """Do nothing: see the module's docstring."""


def dropped(values: Tensor, probability: float, training: bool) -> Tensor:
    """Return values after dropout; outside training, or with probability 0, without a draw."""
    return nn.functional.dropout(values, probability) if training and probability else values
