"""Support vector machines as a module: the network of the family ``svm``, whose docstring has the formulas."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from p2pser.base import seeding
from p2pser.models.networks.layers import Linear

SCALE = 3.0
"""R: a larger one speeds up learning in directions of small gradients, and lets steps of 0.05 overshoot sooner."""


class Machine(Linear):
    """A hyperplane for each class; begins with zeros."""

    empty = True


class SVM(nn.Module):
    """(n, D) float32 to scores (n, classes), above 0 where a machine predicts its class.

    inputs, classes : D and the number of classes. kernel, c, gamma, features : as in the family's settings, features
    as ``random_features``.
    """

    def __init__(self, inputs: int, classes: int, kernel: str, c: float, gamma: float, features: int) -> None:
        super().__init__()
        self.kernel, self.c, self.gamma = kernel, c, gamma
        self.inputs, self.frequencies = inputs, features // 2
        self.machines = Machine(inputs if kernel == "linear" else 2 * self.frequencies, classes)
        # Neither a parameter nor a buffer: it is a function of the seed, and is not mixed.
        self.directions = torch.empty(inputs, 0)

    def seeded_(self, seed: int) -> None:
        """Draw the random features of this seed."""
        if self.kernel == "rbf":
            self.directions = _directions(seed, self.inputs, self.frequencies) * math.sqrt(2.0 * self.gamma)

    def decay(self, clips: int) -> float:
        """Return the L2 penalty on the stored parameters, for this number of training clips of all peers."""
        return SCALE**2 / (self.c * clips)

    def forward(self, features: Tensor) -> Tensor:
        return self.scores(self.mapped(features))

    def scores(self, mapped: Tensor) -> Tensor:
        """Return the scores (n, classes) of mapped features (n, ·)."""
        return SCALE * self.machines(mapped)  # type: ignore[no-any-return]

    def mapped(self, features: Tensor) -> Tensor:
        """Return phi (n, ·) of features (n, D)."""
        if self.kernel == "linear":
            return features * math.sqrt(self.gamma)
        angles = features @ self.directions
        return torch.cat([angles.cos(), angles.sin()], dim=-1) * (1.0 / math.sqrt(self.frequencies))


@lru_cache(maxsize=2)
def _directions(seed: int, inputs: int, count: int) -> Tensor:
    """Return ``count`` random directions as columns (D, count): orthogonal in each block of D, of chi(D) lengths."""
    draws = seeding.generator(seed, "random features")
    blocks, left = [], count
    while left > 0:
        orthogonal, upper = np.linalg.qr(draws.standard_normal((inputs, min(inputs, left))))
        blocks.append(orthogonal * np.sign(np.diagonal(upper)))  # makes the decomposition unique, and uniform
        left -= inputs
    lengths = np.sqrt(draws.chisquare(inputs, count))
    return torch.from_numpy((np.concatenate(blocks, axis=1) * lengths).astype(np.float32))
