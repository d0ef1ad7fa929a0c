"""Local work on a network that is a part of the whole one, whose row a simulator keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from p2pser.models.nested import Nested
from p2pser.models.rows import Schema
from p2pser.training.learner import Learner


class SubnetworkLearner(Learner):
    """A learner of a narrow network that takes and gives rows (D,) of the whole one, its other entries untouched.

    It takes the very steps that the narrow learner takes on its own row.
    """

    def __init__(self, narrow: Learner, network: Nested, whole: Schema) -> None:
        vars(self).update(vars(narrow))
        self.schema = whole
        self.narrow = narrow
        self._own = network.held.nonzero()[:, 0]

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Train the narrow network's entries of ``row`` (D,) in place; see ``Learner.train_``."""
        own, kept = row[self._own], {name: self._part(value) for name, value in memory.items()}
        loss = self.narrow.train_(own, kept, round, report, None if correction is None else correction[self._own])
        row[self._own] = own
        for name, value in kept.items():
            memory[name][self._own if len(memory[name]) == self.schema.size else slice(None)] = value
        return loss

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Return the gradient (D,), 0 where the narrow network has no parameter; see ``Learner.gradient``."""
        found, loss = self.narrow.gradient(row[self._own], round, step)
        gradient = torch.zeros_like(row)
        gradient[self._own] = found
        return gradient, loss

    def _part(self, value: Tensor) -> Tensor:
        """What a narrow optimiser remembers of a whole one's (D,); what has another length, it has whole."""
        return value[self._own] if len(value) == self.schema.size else value.clone()
