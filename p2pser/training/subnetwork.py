"""Local work on a narrow network, where the rows are those of the whole network of which it is a part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from p2pser.config import TrainingSettings
from p2pser.models.nested import Nested
from p2pser.models.rows import Schema
from p2pser.training.learner import Learner


class SubnetworkLearner:
    """The learner of a narrow network on rows (D,) of the whole network, whose other entries it does not change.

    Its steps are those of the narrow learner on the narrow network's own row.

    Parameters
    ----------
    narrow : the learner of the narrow network.
    network : the narrow network, and where its parameters lie in the whole row.
    whole : the schema of the whole network.
    """

    def __init__(self, narrow: Learner, network: Nested, whole: Schema) -> None:
        self.narrow, self.network, self.schema = narrow, network, whole
        self.training, self.optimizer, self.peer = narrow.training, narrow.optimizer, narrow.peer
        self._places = network.held.nonzero()[:, 0]

    @property
    def clips(self) -> int:
        """The number of this peer's training clips."""
        return self.narrow.clips

    def memory(self) -> dict[str, Tensor]:
        """Return initial rows of the optimiser, each (D,) or (1,)."""
        return self.optimizer.init(torch.zeros(self.schema.size))

    def with_training(self, training: TrainingSettings) -> SubnetworkLearner:
        """Return a copy with other settings of the local work."""
        return SubnetworkLearner(self.narrow.with_training(training), self.network, self.schema)

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Train the narrow network's entries of ``row`` (D,) in place; see ``Learner.train_``."""
        part, kept = row[self._places], {name: self._part(value) for name, value in memory.items()}
        loss = self.narrow.train_(part, kept, round, report, None if correction is None else correction[self._places])
        row[self._places] = part
        for name, value in kept.items():
            memory[name][self._places if len(memory[name]) == self.schema.size else slice(None)] = value
        return loss

    def require_finite(self, loss: float, round: int, step: int) -> None:
        """Raise P2PSERError where the loss of a local step is not finite."""
        self.narrow.require_finite(loss, round, step)

    @property
    def units(self) -> int:
        """The number of units of this peer's clips."""
        return self.narrow.units

    def update(self, row: Tensor, round: int, unit: int, report: Callable[[int], None] | None = None
               ) -> tuple[Tensor, float]:
        """Return what a unit's steps add to ``row`` (D,), 0 where the narrow network has no parameter; see
        ``Learner.update``.
        """
        update, loss = self.narrow.update(row[self._places], round, unit, report)
        added = torch.zeros_like(row)
        added[self._places] = update
        return added, loss

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Return the gradient (D,), 0 where the narrow network has no parameter; see ``Learner.gradient``."""
        part, loss = self.narrow.gradient(row[self._places], round, step)
        gradient = torch.zeros_like(row)
        gradient[self._places] = part
        return gradient, loss

    def _part(self, value: Tensor) -> Tensor:
        """Return the narrow network's entries of an optimiser's row (D,); a row of another length as a whole."""
        return value[self._places] if len(value) == self.schema.size else value.clone()


RowLearner = Learner | SubnetworkLearner
"""The learner of a hosted row."""
