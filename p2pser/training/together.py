"""The local steps of many peers at once: those of ``Learner``, on the stacked rows of several learners of one network.

All draws are those of the learners: the same clips, the same augmentation, the same dropped units. Only sums are in
another order, so rows differ in their last bits from those that the learners train one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from p2pser.corpora.emotions import DIMENSIONS
from p2pser.models.networks.layers import dropping
from p2pser.training.learner import Learner
from p2pser.training.losses import Targets, as_shares
from p2pser.training.optimisers import learning_rate

Dropped = tuple[tuple[int, ...], float]
"""Shape and probability of a dropout."""


def kind(learner: object) -> object:
    """Return a key that is equal for learners that can take their steps together; None: this one takes them alone."""
    if type(learner) is not Learner or not learner.clips or learner.objective.present is not None or learner.fairness:
        return None
    objective, targets = learner.objective, learner.targets
    numbers = [objective.weights, *(objective.moments or ())]
    return (id(learner.module), id(learner.training), id(learner.augmentation), learner.features.shape[1:],
            min(learner.training.batch_size, learner.clips), objective.loss, objective.clips,
            *(None if each is None else tuple(each.tolist()) for each in numbers),
            *(part is None for part in targets))


class Together:
    """The local work of several learners of one ``kind``, in row order, on a device.

    Raises RuntimeError (of torch) where the network cannot compute with the parameters of several peers.
    """

    def __init__(self, learners: Sequence[object], device: str = "cpu") -> None:
        self.learners = tuple(learner for learner in learners if isinstance(learner, Learner))
        first = self.learners[0]
        self.module, self.schema, self.training = first.module, first.schema, first.training
        self.size = min(self.training.batch_size, first.clips)
        self.device = torch.device(device)
        self.objective = first.objective.on(self.device)
        self.stacks: bool = getattr(self.module, "stacks", False)

    def train_(self, rows: Tensor, memory: dict[str, Tensor], round: int, correction: Tensor | None = None) -> Tensor:
        """Take the round's local steps in place, and return each peer's loss in each of them (N, K).

        Parameters
        ----------
        rows : (N, D) float32, the parameters.
        memory : the optimiser's rows, (N, D) or (N, 1).
        round : keys the draws and sets the learning rate.
        correction : (N, D), added to every gradient.
        """
        settings, lr, home, kept = self.training, learning_rate(self.training, round), rows, memory
        rows, memory = rows.to(self.device), {name: value.to(self.device) for name, value in memory.items()}
        start = rows.clone() if settings.proximal else None
        losses = []
        for features, targets, masks in self._batches(round):
            gradient, loss = self._gradient(rows, features, targets, masks)
            if start is not None:
                gradient.add_(rows - start, alpha=settings.proximal)
            if correction is not None:
                gradient.add_(correction.to(self.device))
            self.learners[0].optimizer.steps_(rows, gradient, memory, lr)
            losses.append(loss)
        if rows is not home:
            home.copy_(rows)
            for name, value in memory.items():
                kept[name].copy_(value)
        return torch.stack(losses, 1).to(home.device)

    def gradient(self, rows: Tensor, round: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Return the gradients (N, D) at ``rows`` (N, D) on the clips of a local step, and the losses (N,).

        They include weight decay (as L2) and clipping, as ``Learner.gradient`` does.
        """
        there = rows.to(self.device)
        gradient, losses = self._gradient(there, *next(self._batches(round, step)))
        return gradient.add_(there, alpha=self.training.weight_decay).to(rows.device), losses.to(rows.device)

    def _batches(self, round: int, first: int = 0) -> Iterator[tuple[Tensor, Targets, tuple[Tensor, ...]]]:
        """Yield the features (N, b, …), the targets, and the factors of dropped values of each local step."""
        steps, count, shape = self.training.local_steps, len(self.learners), self.learners[0].features.shape[1:]
        drawn = [learner.drawn(round) for learner in self.learners]
        features = torch.stack([learner.versions(places.reshape(-1)) for learner, (_, places)
                                in zip(self.learners, drawn)]).view(count, steps, self.size, *shape)
        aims = stacked([learner.targets.at(chosen.reshape(-1)) for learner, (chosen, _) in zip(self.learners, drawn)])
        aims = Targets(*(None if part is None else part.view(count, steps, self.size, *part.shape[2:])
                         for part in aims))
        outputs, shapes = self._probed(features[0, 0])
        draws = [torch.Generator().manual_seed(learner.dropout_key(round)) for learner in self.learners if shapes]
        for k in range(first, steps):
            batch, targets = features[:, k], Targets(*(None if part is None else part[:, k] for part in aims))
            if self.learners[0].augmentation is not None:
                varied = [learner.varied(batch[i], Targets(*(None if part is None else part[i] for part in targets)),
                                         round, k) for i, learner in enumerate(self.learners)]
                batch, targets = torch.stack([values for values, _ in varied]), stacked([each for _, each in varied])
            if targets.classes is not None:
                labels = targets.classes
                classes = outputs - (0 if targets.dimensions is None else len(DIMENSIONS))
                if not labels.is_floating_point():
                    labels = as_shares(labels.flatten(), classes).view(*labels.shape, classes)
                targets = Targets(labels, targets.dimensions)
            targets = Targets(*(None if part is None else part.to(self.device) for part in targets))
            yield batch.to(self.device), targets, tuple(mask.to(self.device) for mask in self._masks(shapes, draws))

    def _masks(self, shapes: Sequence[Dropped], draws: Sequence[torch.Generator]) -> list[Tensor]:
        """Return the factors (N, …) of the values after each dropout of a local step: 0 where they are dropped."""
        masks = [torch.empty(len(draws), *shape) for shape, _ in shapes]
        for i, generator in enumerate(draws):
            for mask, (_, probability) in zip(masks, shapes):
                mask[i].bernoulli_(1 - probability, generator=generator)
        return [mask.div_(1 - probability) for mask, (_, probability) in zip(masks, shapes)]

    def _probed(self, batch: Tensor) -> tuple[int, list[Dropped]]:
        """Return the number of the network's outputs, and each dropout of a peer's local step."""
        dropouts: list[Dropped] = []

        def note(values: Tensor, probability: float) -> Tensor:
            dropouts.append((tuple(values.shape), probability))
            return values

        self.module.train()
        with dropping(note), torch.no_grad():
            return self.module(batch).shape[-1], dropouts

    def _gradient(self, rows: Tensor, features: Tensor, targets: Targets, masks: tuple[Tensor, ...]
                  ) -> tuple[Tensor, Tensor]:
        """Return the clipped gradients (N, D), and the losses (N,)."""
        leaves, gradient, at = {}, torch.empty_like(rows), 0
        for name, shape in self.schema.entries:
            count = math.prod(shape)
            leaf = leaves[name] = rows[:, at : at + count].view(len(rows), *shape).detach().requires_grad_()
            leaf.into = gradient[:, at : at + count].view(len(rows), *shape)  # type: ignore[attr-defined]
            at += count
        outputs = self._outputs(leaves, features, masks)
        losses = self.objective(outputs, targets)
        slopes = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        for leaf, slope in zip(leaves.values(), slopes):
            if slope.data_ptr() != leaf.into.data_ptr():  # type: ignore[attr-defined]
                leaf.into.copy_(slope)  # type: ignore[attr-defined]
        limit = self.training.clip_norm
        if limit and bool(((norms := torch.linalg.vector_norm(gradient, dim=1)) > limit).any()):
            gradient.mul_((limit / norms).clamp_(max=1.0).unsqueeze(1))
        return gradient, losses.detach()

    def _outputs(self, leaves: dict[str, Tensor], features: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
        """Return the outputs (N, b, C) of the network with each peer's parameters."""
        if self.stacks:
            return called(self.module, leaves, features, masks)
        mapped = torch.func.vmap(partial(called, self.module))
        outputs: Tensor = mapped(leaves, features, masks)
        return outputs


def stacked(targets: Sequence[Targets]) -> Targets:
    """Return the targets of as many clips of several peers as (N, …)."""
    return Targets(*(None if parts[0] is None else torch.stack(parts) for parts in zip(*targets)))


def called(module: nn.Module, parameters: dict[str, Tensor], features: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
    """Return the outputs of a module with these parameters, its dropped values multiplied by ``masks`` one by one."""
    left = iter(masks)
    with having(module, parameters), dropping(lambda values, probability: values * next(left)):
        return module(features)  # type: ignore[no-any-return]


@contextmanager
def having(module: nn.Module, parameters: dict[str, Tensor]) -> Iterator[None]:
    """Replace the parameters of a module, by tensors of any shape, within the block.

    (torch.func.functional_call does the same, and its import costs more than a short run.)
    """
    kept: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for path, value in parameters.items():
            owner, _, name = path.rpartition(".")
            slots: dict[str, Any] = module.get_submodule(owner)._parameters
            kept.append((slots, name, slots[name]))
            slots[name] = value
        yield
    finally:
        for slots, name, value in kept:
            slots[name] = value
