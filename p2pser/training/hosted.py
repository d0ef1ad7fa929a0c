"""The local work of the peers that a process hosts, one learner per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from p2pser.training.at_once import Choice, groups
from p2pser.training.optimisers import learning_rate
from p2pser.training.subnetwork import RowLearner
from p2pser.training.together import Together

PREFIX = "optimizer."
"""Prefix of the names of the optimiser's rows in a gossip state."""


class RowState(Protocol):
    """The part of a gossip algorithm's state (``gossip.algorithm.State``) that local work uses: its rows by name."""

    rows: dict[str, Tensor]


class LocalWork:
    """The local work of the hosted peers (``gossip.algorithm.Local``), one learner per hosted row, in row order.

    Attributes
    ----------
    losses : mean loss of each hosted peer since ``take_losses``, NaN for a peer that has not trained.
    report : called with (peer, k) after each local step; None: not.
    trained : called with the round and the trained rows (B, D).
    choice : the number of peers that take their steps at once; None: one after another.
    """

    def __init__(self, learners: Sequence[RowLearner], report: Callable[[int, int], None] | None = None) -> None:
        self.learners = tuple(learners)
        self.report = report
        self.losses: list[float] = [math.nan] * len(self.learners)
        self.trained: Callable[[int, Tensor], None] = lambda round, rows: None
        self.choice: Choice | None = None

    def take_losses(self) -> list[float]:
        """Return the losses of the round that has ended: the next may pass without training."""
        losses, self.losses = self.losses, [math.nan] * len(self.learners)
        return losses

    def prepare(self, state: RowState) -> None:
        """Add initial rows of the optimiser to ``state`` as ``optimizer.NAME`` (B, ·) where they are missing."""
        for name in self.learners[0].optimizer.names:
            if PREFIX + name not in state.rows:
                state.rows[PREFIX + name] = torch.stack([learner.memory()[name] for learner in self.learners])

    @property
    def clips(self) -> tuple[int, ...]:
        """The number of clips of each hosted peer."""
        return tuple(learner.clips for learner in self.learners)

    @property
    def units(self) -> tuple[int, ...]:
        """The number of units (``privacy.unit``) of each hosted peer's clips."""
        return tuple(learner.units for learner in self.learners)

    def update(self, b: int, row: Tensor, round: int, unit: int) -> Tensor:
        """Return what the steps on a unit of the ``b``-th hosted peer add to ``row`` (D,); see ``Learner.update``.

        It is called for each unit, in order, from 0 on.
        """
        learner = self.learners[b]
        report = None if self.report is None else partial(self.report, learner.peer)
        added, loss = learner.update(row, round, unit, report)
        if not unit:
            self.losses = [*self.losses[:b], 0.0, *self.losses[b + 1 :]]
        self.losses[b] += loss / learner.units
        return added

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the model's parameters, in the order of a row."""
        return tuple(shape for _, shape in self.learners[0].schema.entries)

    @property
    def steps(self) -> int:
        """K: local steps per round."""
        return self.learners[0].training.local_steps

    def lr(self, round: int) -> float:
        """Return the learning rate of a round."""
        return learning_rate(self.learners[0].training, round)

    def train(self, state: RowState, round: int, *, rows: Tensor | None = None,
              correction: Tensor | None = None, only: Collection[int] | None = None) -> Tensor:
        """Train a copy of each hosted row, and the optimiser's rows in place.

        Parameters
        ----------
        state : its rows of the optimiser are trained.
        round : keys the draws and sets the learning rate.
        rows : (B, D); default: ``state.rows["x"]``.
        correction : (B, D), added to every gradient.
        only : the places of the rows that train; default: all rows with clips. The other rows, and their rows of the
            optimiser, do not change.

        Returns
        -------
        The trained rows (B, D).
        """
        self.prepare(state)
        rows = (state.rows["x"] if rows is None else rows).clone()
        names = self.learners[0].optimizer.names
        memory = {name: state.rows[PREFIX + name] for name in names}
        places = [b for b, learner in enumerate(self.learners) if learner.clips and (only is None or b in only)]
        self.losses = [math.nan] * len(self.learners)
        for part in self._parts(places, rows, round):
            if len(part) > 1:
                self._train_together(part, rows, memory, round, correction)
                continue
            b, learner = part[0], self.learners[part[0]]
            report = None if self.report is None else partial(self.report, learner.peer)
            self.losses[b] = learner.train_(rows[b], {name: value[b] for name, value in memory.items()}, round, report,
                                            None if correction is None else correction[b])
        self.trained(round, rows)
        return rows

    def _parts(self, places: Sequence[int], rows: Tensor, round: int) -> Iterable[list[int]]:
        """Return the places of the learners that take their steps together."""
        if self.choice is None:
            return ([place] for place in places)
        return groups(self.learners, places, self.choice.of(self.learners, rows, round))

    def _together(self, part: Sequence[int]) -> Together:
        return Together([self.learners[b] for b in part], "cpu" if self.choice is None else self.choice.device)

    def _train_together(self, part: list[int], rows: Tensor, memory: dict[str, Tensor], round: int,
                        correction: Tensor | None) -> None:
        """Train the rows of several learners of a kind and their rows of the optimiser in place."""
        learners = self._together(part)
        where: slice | list[int] = slice(part[0], part[-1] + 1) if part[-1] - part[0] == len(part) - 1 else part
        own, kept = rows[where], {name: value[where] for name, value in memory.items()}
        losses = learners.train_(own, kept, round, None if correction is None else correction[where])
        if not isinstance(where, slice):
            rows[where] = own
            for name, value in kept.items():
                memory[name][where] = value
        for b, each in zip(part, losses.tolist()):
            for k, loss in enumerate(each):
                self.learners[b].require_finite(loss, round, k)
                if self.report is not None:
                    self.report(self.learners[b].peer, k + 1)
            self.losses[b] = sum(each) / len(each)

    def gradient(self, rows: Tensor, round: int, step: int = 0) -> Tensor:
        """Return the gradients (B, D) at ``rows`` (B, D) on the clips of local step ``step``; sets ``losses``."""
        gradients, self.losses = torch.empty_like(rows), [math.nan] * len(self.learners)
        for part in self._parts(range(len(self.learners)), rows, round):
            if len(part) == 1:
                b = part[0]
                gradients[b], self.losses[b] = self.learners[b].gradient(rows[b], round, step)
                continue
            gradients[part], losses = self._together(part).gradient(rows[part], round, step)
            for b, loss in zip(part, losses.tolist()):
                self.losses[b] = loss
        if self.report is not None:
            for learner in self.learners:
                self.report(learner.peer, step + 1)
        return gradients
