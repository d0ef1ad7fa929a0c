"""A peer's local work: K optimiser steps on its own clips, as a function of its row, its optimiser's rows and the
round.

No draw comes from a stream: the clips of a batch and the units that dropout sets to 0 depend on (seed, peer, round)
alone, so that a resumed run, another layout of processes and the simulator take the same steps. The seed is that of a
peer's draws: between processes a secret (``p2pser.peer.draws``).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pser.base import seeding
from p2pser.base.errors import CorpusError, P2PSERError
from p2pser.config import TrainingSettings
from p2pser.models.rows import Schema
from p2pser.training.augmentation import Augmentation, variants
from p2pser.training.fairness import Fairness
from p2pser.training.losses import Objective, Targets
from p2pser.training.optimisers import Optimizer, clip_, learning_rate

ALIGNMENT = 64
"""Bytes to which torch aligns its allocations; rows are trained at this alignment."""


def batches(clips: int, batch_size: int, steps: int, *, seed: int, peer: int,
            round: int, often: NDArray[np.floating] | None = None) -> NDArray[np.int64]:
    """Return the clips of a round's steps.

    Epoch e is a permutation keyed by (seed, "batches", peer, e), and each step continues where the previous one ended.
    So all clips are drawn equally often over a run (without replacement within an epoch), and a round's batches are a
    pure function of the round.

    Parameters
    ----------
    clips : number of the peer's clips.
    batch_size : clips of a step, at most ``clips``.
    steps : steps of a round.
    seed, peer, round : key the draws.
    often : (clips,), the relative frequency with which each clip is drawn; default: all equal. An epoch of ``clips``
        draws has each clip in this proportion, rounded up or down at random (systematic resampling).

    Returns
    -------
    (steps, b) int64, indices below ``clips``, b = min(batch_size, clips).
    """
    size = min(batch_size, clips)
    first, count = round * steps * size, steps * size
    epochs = range(first // clips, (first + count - 1) // clips + 1)
    order = np.concatenate([_epoch(seeding.generator(seed, "batches", peer, e), clips, often) for e in epochs])
    at = first - epochs[0] * clips
    return order[at : at + count].reshape(steps, size).astype(np.int64, copy=False)


def _epoch(draws: np.random.Generator, clips: int, often: NDArray[np.floating] | None) -> NDArray[np.int64]:
    """Return the order of an epoch's draws, (clips,)."""
    order = draws.permutation(clips)
    if often is None:
        return order
    ends = np.cumsum(often[order], dtype=np.float64)
    drawn = np.searchsorted(ends, (np.arange(clips) + draws.random()) * (ends[-1] / clips), side="right")
    return draws.permutation(order[np.minimum(drawn, clips - 1)])


class Learner:
    """One peer's local work on its own clips.

    Parameters
    ----------
    module : the network, whose parameters are bound to the row being trained; several learners may share one module.
    schema : of the module.
    training : the settings of the local work.
    features : (n, ...) float32, normalised.
    targets : of the n clips, or the labels (n,) int64 alone.
    objective : the loss; default: that of ``training``, with the statistics of each batch.
    seed, peer : key all draws, with the round. A secret number in place of the run's seed keeps the draws secret.
    often : as in ``batches``.
    idle : this peer never trains and needs no clip (a hub).
    copies : (copies, n, …) float32, changed copies of the clips; each draw takes one of them or the clip itself.
    augmentation : of batches; default: none.
    groups : (n,) int64, the unit of each clip, from 0 on (``privacy.unit``); default: all clips are one unit.
    fairness : the weighting of groups by their loss; default: none.

    Raises
    ------
    CorpusError : where there is no clip or the counts differ.
    """

    def __init__(self, module: nn.Module, schema: Schema, training: TrainingSettings, features: Tensor,
                 targets: Targets | Tensor, objective: Objective | None = None, *, seed: int, peer: int,
                 often: NDArray[np.floating] | None = None, idle: bool = False, copies: Tensor | None = None,
                 augmentation: Augmentation | None = None, groups: NDArray[np.int64] | None = None,
                 fairness: Fairness | None = None) -> None:
        if isinstance(targets, Tensor):
            targets = Targets(targets.to(torch.int64))
        if (len(features) == 0 and not idle) or len(features) != len(targets):
            raise CorpusError(f"peer {peer} has {len(features)} clips and {len(targets)} labels to train on; "
                              "it needs at least one clip, and a label for each")
        self.module = module
        self.schema = schema
        self.training = training
        self.features = features.to(torch.float32).contiguous()
        self.copies = 0 if copies is None else len(copies)
        self._versions = self.features if copies is None else \
            torch.cat([self.features, copies.to(torch.float32).flatten(0, 1)])
        self.augmentation = augmentation
        self.targets = targets
        self.objective = objective or Objective(training)
        self.often = often
        self.groups = np.zeros(len(features), dtype=np.int64) if groups is None else groups
        self.fairness = fairness
        self.seed = seed
        self.peer = peer
        self.optimizer = Optimizer(training)

    @property
    def clips(self) -> int:
        """The number of this peer's training clips."""
        return len(self.features)

    @property
    def units(self) -> int:
        """The number of units of this peer's clips."""
        return int(self.groups.max(initial=-1)) + 1

    def of_unit(self, unit: int) -> Learner:
        """Return the learner of the clips of one unit alone, all drawn equally often."""
        part, places = copy.copy(self), torch.from_numpy(np.flatnonzero(self.groups == unit))
        part.features, part.targets = self.features[places], self.targets.at(places)
        versions = self._versions.view(1 + self.copies, self.clips, *self.features.shape[1:])
        part._versions = versions[:, places].flatten(0, 1)
        part.groups, part.often = np.zeros(len(places), dtype=np.int64), None
        part.fairness = None if self.fairness is None else self.fairness.at(places)
        return part

    def update(self, row: Tensor, round: int, unit: int, report: Callable[[int], None] | None = None
               ) -> tuple[Tensor, float]:
        """Return what the round's steps on the clips of one unit add to ``row`` (D,), and their mean loss.

        The optimiser begins anew, since its memory would depend on other units' clips.

        Parameters
        ----------
        row : (D,), which does not change.
        round : keys the draws and sets the learning rate.
        unit : its number.
        report : as in ``train_``.
        """
        trained = row.clone()
        loss = self.of_unit(unit).train_(trained, self.memory(), round, report)
        return trained - row, loss

    def outputs(self, batch: Tensor) -> Tensor:
        """Return the outputs of the network for a batch of clips, as ``features`` holds them."""
        return self.module(batch)  # type: ignore[no-any-return]

    def with_training(self, training: TrainingSettings) -> Learner:
        """Return a copy with other settings of the local work."""
        again = copy.copy(self)
        again.training, again.optimizer = training, Optimizer(training)
        return again

    def memory(self) -> dict[str, Tensor]:
        """Return initial rows of the optimiser, each (D,) or (1,)."""
        return self.optimizer.init(torch.zeros(self.schema.size))

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Take the round's local steps in place.

        Parameters
        ----------
        row : (D,) float32, the parameters.
        memory : the optimiser's rows.
        round : keys the draws and sets the learning rate.
        report : called with k = 1 .. K after each local step.
        correction : (D,), added to every gradient.

        Returns
        -------
        The mean loss of the steps. torch's global generator is left unchanged.

        Raises
        ------
        P2PSERError : where the loss is no longer finite.
        """
        settings = self.training
        lr = learning_rate(settings, round)
        # Matrix products round differently at different alignments: a row of the simulator's (N, D) and a peer's own
        # row would differ in the last bits.
        home = row
        if home.data_ptr() % ALIGNMENT:
            row = home.clone()
        start = row.clone() if settings.proximal else None
        total = 0.0
        with self._drawing(round):
            for k, (gradient, loss, weight) in enumerate(self._gradients(row, round)):
                if weight != 1 and self.optimizer.kind == "sgd":  # steps of adamw do not scale with the gradient
                    gradient, weight = gradient.mul_(weight), 1.0
                if start is not None:
                    gradient.add_(row - start, alpha=settings.proximal)
                if correction is not None:
                    gradient.add_(correction)
                self.optimizer.step_(row, gradient, memory, lr * weight)
                self.require_finite(loss, round, k)
                total += loss
                if report is not None:
                    report(k + 1)
        if row is not home:
            home.copy_(row)
        return total / settings.local_steps

    def require_finite(self, loss: float, round: int, step: int) -> None:
        """Raise P2PSERError where the loss of a local step is not finite."""
        if not math.isfinite(loss):
            raise P2PSERError(
                f"the loss of peer {self.peer} is {loss} in round {round} (local step {step}) with learning rate "
                f"{learning_rate(self.training, round):g}; lower training.lr or look for features of extreme size")

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Return the gradient (D,) at ``row`` (D,) on the clips of one local step of a round, and their mean loss.

        It includes weight decay (as L2) and clipping; the optimiser's rows do not change. Without clips it is zero, and
        the loss NaN.
        """
        if not self.clips:
            return torch.zeros_like(row), math.nan
        row = row.clone()
        with self._drawing(round):
            gradient, loss, weight = next(self._gradients(row, round, step))
        if weight != 1:
            gradient.mul_(weight)
        if self.training.weight_decay:
            return gradient.add(row, alpha=self.training.weight_decay), loss
        return gradient.clone(), loss

    def _gradients(self, row: Tensor, round: int, first: int = 0) -> Iterator[tuple[Tensor, float, float]]:
        """Yield the clipped gradient at the current ``row``, the loss, and the weight of the step (1 without fairness),
        for each local step from ``first`` on.
        """
        settings = self.training
        weights = self._weights(row, round)
        chosen, places = (drawn[first:] for drawn in self.drawn(round))
        steps, size = chosen.shape
        features = self.versions(places.reshape(-1)).view(steps, size, *self.features.shape[1:])
        gradient = self.schema.bind(self.module, row)
        self.module.train()
        for k in range(steps):
            gradient.zero_()
            batch, targets = self.varied(features[k], self.targets.at(chosen[k]), round, first + k)
            outputs, weight = self.outputs(batch), 1.0
            if self.fairness is None or weights is None:
                loss = self.objective(outputs, targets)
            else:
                loss, weight = self.fairness.loss(self.objective, outputs, targets, chosen[k], weights)
            loss.backward()  # type: ignore[no-untyped-call]
            clip_(gradient, settings.clip_norm)
            yield gradient, loss.item(), weight

    def _weights(self, row: Tensor, round: int) -> Tensor | None:
        """Return the weights of the groups at ``row``, by the clips of the round's steps; None without fairness."""
        if self.fairness is None:
            return None
        self.schema.bind(self.module, row)
        self.module.eval()
        with torch.no_grad():
            return self.fairness.weights(lambda clips: self.outputs(self.features[clips]), self.objective, self.targets,
                                         torch.unique(self.drawn(round)[0]))

    def drawn(self, round: int) -> tuple[Tensor, Tensor]:
        """Return the clips of a round's local steps (K, b), and their places for ``versions`` (K, b)."""
        settings = self.training
        chosen = torch.from_numpy(batches(self.clips, settings.batch_size, settings.local_steps, seed=self.seed,
                                          peer=self.peer, round=round, often=self.often))
        if not self.copies:
            return chosen, chosen
        taken = variants(self.copies, *chosen.shape, seed=self.seed, peer=self.peer, round=round)
        return chosen, chosen + self.clips * torch.from_numpy(taken)

    def versions(self, places: Tensor) -> Tensor:
        """Return the features at these places (k,), among the clips and then their copies."""
        return self._versions.index_select(0, places)

    def varied(self, batch: Tensor, targets: Targets, round: int, step: int) -> tuple[Tensor, Targets]:
        """Return the batch of a local step after augmentation, if any."""
        if self.augmentation is None:
            return batch, targets
        return self.augmentation(batch, targets, seed=self.seed, peer=self.peer, round=round, step=step)

    def dropout_key(self, round: int) -> int:
        """Return the seed of dropout's draws in a round."""
        return seeding.key(self.seed, "dropout", self.peer, round)

    @contextmanager
    def _drawing(self, round: int) -> Iterator[None]:
        """Make dropout's draws a function of (seed, peer, round); restore torch's generator afterwards."""
        generator = torch.default_generator
        state = generator.get_state()
        generator.manual_seed(self.dropout_key(round))
        try:
            yield
        finally:
            generator.set_state(state)
