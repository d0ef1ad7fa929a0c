"""Statistics of all peers' clips: of their features, of their targets, and their number.

They come from a row of sums of each peer, [count, sum x, sum x^2] (``features.normalisation``), whose columns x are
those that the run's settings ask for and no others: the features, a column for each class, six for the dimensions.
Gossip or a secure sum adds up the rows. A row without columns, [count], gives the number of clips; where nothing is
asked for there is no row.
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
from p2pser.features.normalisation import ATTACHED, sums
from p2pser.training.losses import Moments, Objective

MOST_CLIPS = 1e12
"""More clips than this are not those of one peer."""
ROUNDING = 1e-6
"""Rounding of a consensus, or of a secure sum, relative to what sums of clips allow."""


@dataclass(frozen=True)
class TargetStatistics:
    """Statistics of all peers' targets.

    counts : clips of each class (C,), up to a common factor, or None where they are not needed.
    moments : of the dimensions' targets, or None where these are not learned.
    clips : number of all peers' clips; 0 where it is not needed.
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
        """Return the objective of local work. loss : of the classes, cross-entropy or squared-hinge."""
        weights = self.weights if training.balance == "weights" else None
        return Objective(training, loss, weights, self.moments, clips=self.clips)


@dataclass(frozen=True)
class Asked:
    """The statistics of all peers' clips that a run asks for.

    features : the shape of a clip's features, where they are normalised by all peers' clips; else None.
    classes : number of classes, where clips are balanced by all peers' counts; else 0.
    dimensions : whether the dimensions' moments are needed.
    clips : whether the number of clips is needed.
    """

    features: tuple[int, ...] | None = None
    classes: int = 0
    dimensions: bool = False
    clips: bool = False

    @classmethod
    def of(cls, training: TrainingSettings, classes: int, *, features: tuple[int, ...] | None = None,
           clips: bool = False) -> Asked:
        """Return what the settings of local work ask for.

        Parameters
        ----------
        training : the settings.
        classes : C.
        features, clips : as in the class.
        """
        counted = classes if training.balance != "none" and training.task != "dimensions" else 0
        return cls(features, counted, training.task != "classes", clips)

    def __bool__(self) -> bool:
        return self.features is not None or self.classes > 0 or self.dimensions or self.clips

    @property
    def targets(self) -> int:
        """The number of columns of targets."""
        return self.classes + (2 * len(DIMENSIONS) if self.dimensions else 0)

    @property
    def _frames(self) -> int:
        """How often a clip counts in a row: 1, or the frames of its matrix."""
        if self.features is None or len(self.features) == ATTACHED - 1:
            return 1
        return int(np.prod(self.features[1:], dtype=np.int64))

    def sums(self, examples: Examples) -> NDArray[np.float64]:
        """Return the row of the examples' sums, (1 + 2 columns,) float64; (0,) where nothing is asked for."""
        if not self:
            return np.zeros(0)
        row = np.array([float(len(examples))]) if self.features is None else sums(examples.features)
        beside = np.zeros((len(examples), self.targets))
        labelled = np.flatnonzero(examples.labels >= 0)
        if self.classes:
            beside[labelled, examples.labels[labelled]] = 1.0
        if self.dimensions and examples.dimensions is not None:
            known = ~np.isnan(examples.dimensions)
            beside[:, self.classes :] = np.concatenate([known, np.where(known, examples.dimensions, 0.0)], axis=1)
        features, targets = len(row) // 2, sums(beside)
        return np.concatenate([row[: 1 + features], targets[1 : 1 + self.targets],
                               row[1 + features :], targets[1 + self.targets :]])

    def flaw(self, row: NDArray[np.float64]) -> str:
        """Return why a row (S,) is not one of ``sums``, nor a sum or mean of such rows; "" where it may be one.

        Counts are not negative and not more than clips; sums of squares are at least the squares of sums by the count
        (Cauchy and Schwarz). These limits hold for every sum and every mean of rows for which they hold.
        """
        if not self:
            return ""
        frames = self._frames
        count, half = float(row[0]), len(row) // 2
        if not 0 <= count <= MOST_CLIPS * frames:
            return f"sums over {count / frames:.4g} clips"
        first, second = row[1 : half + 1], row[half + 1 :]
        most = count * (1 + ROUNDING)
        if (second < 0).any() or (first * first > most * second + ROUNDING**3 * count * count).any():
            return "sums of squares that are less than numbers of these sums can have"
        counts = first[half - self.targets :][: self.classes + len(DIMENSIONS) * self.dimensions]
        if (counts < -ROUNDING * count).any() or (counts > most / frames).any():
            return "numbers of clips of an emotion, or with a rating, that are negative or more than all"
        return ""

    def read(self, row: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, TargetStatistics]:
        """Return the features' sums, None where they are not asked for, and the target statistics.

        row : the sum of the peers' rows; a positive multiple of it gives the same statistics but the number of clips.
        """
        if not self:
            return None, TargetStatistics()
        features = len(row) // 2 - self.targets
        first, second = row[1 : len(row) // 2 + 1], row[len(row) // 2 + 1 :]
        moments = None
        if self.dimensions:
            known, total = np.split(first[features + self.classes :], 2)
            squares = second[features + self.classes + len(DIMENSIONS) :]
            there = np.maximum(known, 1e-12)
            mean = total / there
            variance = np.maximum(squares / there - mean**2, 0.0)
            moments = Moments(_on_grid(mean), _on_grid(variance))
        plain = None if self.features is None else np.concatenate([row[:1], first[:features], second[:features]])
        counts = first[features : features + self.classes] if self.classes else None
        return plain, TargetStatistics(counts, moments, round(row[0] / self._frames) if self.clips else 0)


def _on_grid(values: NDArray[np.float64]) -> Tensor:
    """Return values as float32, rounded to multiples of 2^-20: peers, whose sums agree to 1e-12 only, and the simulator
    continue with the same bits. The offset keeps common values of ratings and counts away from the rounding's limits.
    """
    return torch.from_numpy((np.floor(values * 2.0**20 + 0.31) / 2.0**20).astype(np.float32))
