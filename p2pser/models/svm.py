"""Support vector machines in the primal, one a class against the rest, so that they mix like any other row.

f(x) = R (w . phi(x) + b) for each class, where phi(x) . phi(y) is the kernel:

* linear: gamma x . y. So C means what it means in scikit-learn's LinearSVC on features times sqrt(gamma).
* rbf: exp(-gamma |x - y|^2), by orthogonal random features (F. X. Yu, A. T. Suresh, K. Choromanski, D. Holtmann-Rice,
  S. Kumar, "Orthogonal Random Features", NeurIPS 2016): cosine and sine of W x over sqrt(m), the m rows of W blocks of
  random orthogonal directions, as long as rows of Gaussian numbers would be. Independent directions (Rahimi and Recht
  2007) need several times as many. W is drawn from the run's seed, equal at all peers, and neither learned nor sent.

Training lowers C sum_clips (squared hinge) + |w|^2 / 2 over all peers' clips, the bias counted in w as LinearSVC does:
per clip, an L2 penalty of 1 / (C n) that takes the place of ``training.weight_decay``. Features are normalised, so
gamma = 1 / D is scikit-learn's ``scale``. R is no setting of the machine: w is held as w / R, with which the steps that
suit networks suit it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from p2pser.base import seeding
from p2pser.base.errors import ModelError
from p2pser.config import ModelSettings
from p2pser.models.layers import Linear

SETTINGS = ("kernel", "svm_c", "gamma", "random_features")
"""The fields of ``model`` that count."""

SCALE = 3.0
"""R: the stronger, the faster the slow directions are learned, and the sooner steps of 0.05 overshoot."""


class Machine(Linear):
    """One hyperplane a class; begins with zeros."""

    empty = True


class SVM(nn.Module):
    """(n, D) float32 to scores (n, classes): above 0 where a machine says its class. ``c`` and ``kernel`` as set."""

    def __init__(self, inputs: int, classes: int, kernel: str, c: float, gamma: float, features: int) -> None:
        super().__init__()
        self.kernel, self.c, self.gamma = kernel, c, gamma
        self.inputs, self.frequencies = inputs, features // 2
        self.machines = Machine(inputs if kernel == "linear" else 2 * self.frequencies, classes)
        self.directions: Tensor | None = None  # no parameter and no buffer: it is not mixed, and a function of the seed

    def seeded_(self, seed: int) -> None:
        """Draw the random features of this seed."""
        if self.kernel == "rbf":
            self.directions = _directions(seed, self.inputs, self.frequencies) * math.sqrt(2.0 * self.gamma)

    def decay(self, clips: int) -> float:
        """Return the L2 penalty on the parameters, as they are held, of training on so many clips in all."""
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
        assert self.directions is not None
        angles = features @ self.directions
        return torch.cat([angles.cos(), angles.sin()], dim=-1) * (1.0 / math.sqrt(self.frequencies))


@lru_cache(maxsize=2)
def _directions(seed: int, inputs: int, count: int) -> Tensor:
    """Return ``count`` random directions as columns (D, count): orthogonal within each block of D, of chi(D) length."""
    draws = seeding.generator(seed, "random features")
    blocks, left = [], count
    while left > 0:
        orthogonal, upper = np.linalg.qr(draws.standard_normal((inputs, min(inputs, left))))
        blocks.append(orthogonal * np.sign(np.diagonal(upper)))  # which makes it the one decomposition, and uniform
        left -= inputs
    lengths = np.sqrt(draws.chisquare(inputs, count))
    return torch.from_numpy((np.concatenate(blocks, axis=1) * lengths).astype(np.float32))


def make(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the machines with parameters and random features yet to be drawn. Raises ModelError where the features are
    not a vector.
    """
    if len(shape) != 1:
        raise ModelError(f"model 'svm' takes functionals, one vector a clip, not features of shape {shape}; "
                         "set features.kind=functionals or take a network")
    return SVM(shape[0], classes, settings.kernel, settings.svm_c, settings.gamma or 1.0 / shape[0],
               settings.random_features)
