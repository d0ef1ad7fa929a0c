"""Attacks that ask whether a peer trained on a given recording, from what its local steps did to the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from p2pser.models.inference import logits
from p2pser.models.rows import Schema
from p2pser.privacy.attacks.layers import NEGLIGIBLE
from p2pser.training.learner import Learner
from p2pser.training.optimisers import learning_rate


def decayed(learner: Learner, row: Tensor, round: int) -> Tensor:
    """Return a row (D,) after a round's local steps whose gradients are zero: what weight decay alone does to it."""
    after, memory = row.clone(), learner.memory()
    for _ in range(learner.training.local_steps):
        learner.optimizer.step_(after, torch.zeros_like(after), memory, learning_rate(learner.training, round))
    return after


@dataclass(frozen=True)
class RowSpace:
    """The inputs that an update of the first layer is made of.

    The gradient of a layer y = W x + b is a sum of outer products with its inputs, so the rows of its update [W b] are
    combinations of the inputs [x 1] of the clips trained on: a clip that lies in their span was (almost surely) among
    them, as long as they are fewer than the layer has units. basis : (r, F + 1), orthonormal.
    """

    basis: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64], clips: int) -> RowSpace:
        """Return the row space of an update [W b] (H, F + 1), weight decay taken out, of a peer with so many clips."""
        values, directions = np.linalg.svd(matrix, full_matrices=False)[1:]
        known = (values > NEGLIGIBLE * values[0]) & (np.arange(len(values)) < clips)
        return cls(directions[known])

    def scores(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each clip's input [x 1] (n, F + 1) the share of it that lies in the row space, from 0 to 1."""
        lengths = np.maximum(np.linalg.norm(inputs, axis=1), 1e-12)  # a part of an input may be 0
        shares: NDArray[np.float64] = np.linalg.norm(inputs @ self.basis.T, axis=1) / lengths
        return shares


def row_space_scores(matrix: NDArray[np.float64], seen: NDArray[np.bool_], clips: int,
                     features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each clip's features (n, F) the share of it that lies in the row space, from 0 to 1.

    Units of which the same weights were seen have a row space of their own, over these weights; the scores are the mean
    over such groups of units.

    matrix : (H, F + 1), the update [W b]. seen : (H, F + 1), which entries of it are known. clips : the number of clips
    that the peer trained on, or more.
    """
    inputs = np.concatenate([features, np.ones((len(features), 1))], axis=1, dtype=np.float64)
    groups, group_of = np.unique(seen, axis=0, return_inverse=True)
    scores = [RowSpace.of(matrix[group_of.ravel() == number][:, columns], clips).scores(inputs[:, columns])
              for number, columns in enumerate(groups) if columns.any()]
    mean: NDArray[np.float64] = np.mean(scores, axis=0)
    return mean


def loss_scores(module: nn.Module, schema: Schema, start: Tensor, update: Tensor, features: NDArray[np.float32],
                labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each clip (n, …) by how much the update (D,) lowered its loss."""
    before, after = (_after(module, schema, row, features, labels) for row in (start, start + update))
    return before - after


def losses(module: nn.Module, features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each clip (n,); of whatever family the model is, its outputs count as logits.

    features : (n, …), scaled. labels : (n,).
    """
    scores = torch.from_numpy(logits(module, features)).double()
    each: NDArray[np.float64] = functional.cross_entropy(scores, torch.from_numpy(labels), reduction="none").numpy()
    return each


def _after(module: nn.Module, schema: Schema, row: Tensor, features: NDArray[np.float32],
           labels: NDArray[np.int64]) -> NDArray[np.float64]:
    schema.bind(module, row.clone())
    return losses(module, features, labels)
