"""Statistics of all peers' targets: the number of clips of each class, and the moments of the dimensions.

They come from the same sums as the feature statistics: each clip's targets are columns beside its features, so that a
peer's row [count, sum x, sum x^2] (``features.normalisation``) holds its class counts and the sums of its dimensions
too. Gossip gives every peer the total.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.config import TrainingSettings
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.features.federation import Examples
from p2pser.features.normalisation import sums
from p2pser.training.losses import Moments, Objective


@dataclass(frozen=True)
class TargetStatistics:
    """Statistics of all peers' targets.

    counts: clips of each class (C,), up to a common factor, or None where they are not needed. moments: of the
    dimensions' targets, or None where these are not learned. clips: number of all peers' clips.
    """

    counts: NDArray[np.float64] | None = None
    moments: Moments | None = None
    clips: int = 0

    @property
    def weights(self) -> Tensor | None:
        """Weight of each class (C,) float32: all classes have the same total weight, and a clip 1 on average.

        None where counts are not needed; 1 for a class without clips.
        """
        if self.counts is None:
            return None
        there = self.counts > 0
        each = np.divide(self.counts.sum(), self.counts * there.sum(), out=np.ones(len(there)), where=there)
        return torch.from_numpy(each.astype(np.float32))

    def objective(self, training: TrainingSettings, loss: str) -> Objective:
        """Return the objective of local work; loss: of the classes, cross-entropy or squared-hinge."""
        weights = self.weights if training.balance == "weights" else None
        return Objective(training, loss, weights, self.moments, clips=self.clips)


def columns(training: TrainingSettings, classes: int) -> tuple[int, int]:
    """Return the number of columns of class counts and of dimensions beside the features; 0 where not needed."""
    counted = classes if training.balance != "none" and training.task != "dimensions" else 0
    return counted, 0 if training.task == "classes" else 2 * len(DIMENSIONS)


def training_sums(examples: Examples, training: TrainingSettings, classes: int) -> NDArray[np.float64]:
    """Return the row of sums of the examples' features and targets, (1 + 2 (F + columns),) float64."""
    counted, placed = columns(training, classes)
    row = sums(examples.features)
    if not counted + placed:
        return row
    beside = np.zeros((len(examples), counted + placed))
    labelled = np.flatnonzero(examples.labels >= 0)
    if counted:
        beside[labelled, examples.labels[labelled]] = 1.0
    if placed and examples.dimensions is not None:
        known = ~np.isnan(examples.dimensions)
        beside[:, counted:] = np.concatenate([known, np.where(known, examples.dimensions, 0.0)], axis=1)
    features, targets = len(row) // 2, sums(beside)
    return np.concatenate([row[: 1 + features], targets[1 : 1 + counted + placed],
                           row[1 + features :], targets[1 + counted + placed :]])


def read_training_sums(row: NDArray[np.float64], training: TrainingSettings,
                classes: int, clips: int) -> tuple[NDArray[np.float64], TargetStatistics]:
    """Return the features' sums and the target statistics.

    Parameters
    ----------
    row : of ``training_sums``, or any positive multiple of a sum of such rows.
    training : the settings of the local work.
    classes : number of classes.
    clips : number of clips that the row sums over.
    """
    counted, placed = columns(training, classes)
    features = len(row) // 2 - counted - placed
    first, second = row[1 : len(row) // 2 + 1], row[len(row) // 2 + 1 :]
    plain = np.concatenate([row[:1], first[:features], second[:features]])
    moments = None
    if placed:
        known, total = np.split(first[features + counted :], 2)
        squares = second[features + counted + len(DIMENSIONS) :]
        there = np.maximum(known, 1e-12)
        mean = total / there
        variance = np.maximum(squares / there - mean**2, 0.0)
        moments = Moments(_on_grid(mean), _on_grid(variance))
    return plain, TargetStatistics(first[features : features + counted] if counted else None, moments, clips)


def _on_grid(values: NDArray[np.float64]) -> Tensor:
    """Return values as float32 on a grid of 2^-20, so that peers, whose sums agree to 1e-12 only, and the simulator
    continue with the same bits. The offset keeps the grid's limits away from the values of ratings and counts.
    """
    return torch.from_numpy((np.floor(values * 2.0**20 + 0.31) / 2.0**20).astype(np.float32))
