"""Training losses: of classes, and one minus the concordance of dimensions.

Targets of classes are labels (n,) int64, -1 where unknown, or shares of each class (n, C) float32, each row summing to
1, NaN where unknown: soft labels, or labels mixed by mixup (Zhang et al. 2018). Every loss is a mean over the batch's
clips, in which unknown targets count 0. A class's weight multiplies its clips' terms and is not divided out again: so
the mean over many small batches, and over many peers, equals the loss of one large batch.

**The concordance of small batches.** CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2) (Lin 1989) is one minus
E (x - y)^2 over that denominator, and the denominator equals E (x - m)^2 + s^2, with m and s^2 the mean and variance
of the targets y. Over a batch of 16 clips of one speaker m and s^2 are mostly noise, and over one clip they are
meaningless. So m and s^2 are those of all peers' training clips, which gossip computes
(``training.target_statistics``). The batch gives two plain means, and each peer lowers its share of one function, which
over all clips is exactly 1 - CCC.

**Many peers at once.** Outputs and targets (soft ones) may have leading dimensions (N, …): the losses are then (N,).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from p2pser.base.errors import LocalProtocolError
from p2pser.config import TrainingSettings
from p2pser.corpora.emotions import DIMENSIONS


class Targets(NamedTuple):
    """Targets of n clips: classes (n,) int64 or (n, C) float32, dimensions (n, 3) float32; None: not learned."""

    classes: Tensor | None
    dimensions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.of_classes() if self.dimensions is None else self.dimensions)

    def of_classes(self) -> Tensor:
        """Return the targets of classes. Raises LocalProtocolError where they are not learned."""
        if self.classes is None:
            raise LocalProtocolError("targets of classes are used where only dimensions are learned")
        return self.classes

    def of_dimensions(self) -> Tensor:
        """Return the targets of dimensions. Raises LocalProtocolError where they are not learned."""
        if self.dimensions is None:
            raise LocalProtocolError("targets of dimensions are used where only classes are learned")
        return self.dimensions

    def at(self, places: Tensor) -> Targets:
        """Return the targets of the clips at these places (k,)."""
        return Targets(*(None if part is None else part.index_select(0, places) for part in self))

    def mixed(self, share: Tensor | float, partner: Tensor, classes: int) -> Targets:
        """Return ``share`` times each clip's targets plus 1 - ``share`` times its partner's, for mixup.

        share : a number, or (n,). partner : (n,) places of the partners. classes : C. A target that is unknown for a
        clip or its partner is unknown for the mixture.
        """
        share = torch.as_tensor(share, dtype=torch.float32).reshape(-1, 1)
        soft = None if self.classes is None else as_shares(self.classes, classes)
        return Targets(*(None if part is None else share * part + (1.0 - share) * part[partner]
                         for part in (soft, self.dimensions)))


class Moments(NamedTuple):
    """Mean and variance of the dimensions' targets, each (3,) float32."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Moments:
        """Return the moments of targets (n, 3), NaN where unknown; 0 for a dimension without known targets."""
        known = ~targets.isnan()
        count = known.sum(0).clamp(min=1)
        mean = targets.nan_to_num(0.0).sum(0) / count
        return cls(mean, (torch.where(known, targets - mean, 0.0) ** 2).sum(0) / count)


def as_shares(targets: Tensor, classes: int) -> Tensor:
    """Return targets of classes as shares (n, C) float32, NaN where unknown."""
    if targets.is_floating_point():
        return targets
    shares = functional.one_hot(targets.clamp(min=0), classes).to(torch.float32)
    return shares.masked_fill((targets < 0)[:, None], float("nan"))


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy, a scalar, with label smoothing (Szegedy et al. 2016, section 7).

    Parameters
    ----------
    logits : (n, C).
    targets : (n,) labels or (n, C) shares.
    smoothing : share of each target that is spread evenly over all classes.
    weights : (C,) of each class.
    """
    if targets.dim() == 1 and weights is None and bool((targets >= 0).all()):
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    shares = as_shares(targets, logits.shape[-1])
    known = ~shares.isnan().any(-1)
    shares = shares.nan_to_num(0.0)
    aims = (1.0 - smoothing) * shares + smoothing / logits.shape[-1]
    return _mean(-(aims * logits.log_softmax(-1)).sum(-1), shares, known, weights)


def squared_hinge(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared hinge loss, each class against the rest, summed over the classes: a scalar.

    scores : (n, C), above 0 for a class that is predicted. targets : (n,) labels or (n, C) shares p; each class's term
    is p max(0, 1 - f)^2 + (1 - p) max(0, 1 + f)^2. weights : (C,) of each class.
    """
    shares = as_shares(targets, scores.shape[-1])
    known = ~shares.isnan().any(-1)
    shares = shares.nan_to_num(0.0)
    terms = shares * (1.0 - scores).relu() ** 2 + (1.0 - shares) * (1.0 + scores).relu() ** 2
    return _mean(terms.sum(-1), shares, known, weights)


def _mean(terms: Tensor, shares: Tensor, known: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of the terms (n,) over the known clips, each times its class's weight; 0 where none is known."""
    if weights is not None:
        terms = terms * (shares @ weights)
    return torch.where(known, terms, 0.0).sum(-1) / known.sum(-1).clamp(min=1)


def concordance_loss(predicted: Tensor, targets: Tensor, moments: Moments | None = None) -> Tensor:
    """Return 1 - CCC, a scalar: the mean over the dimensions.

    predicted, targets : (n, 3), NaN where a target is unknown. moments : of the targets of all clips (see the module's
    docstring); default: of these. A dimension with constant targets has the loss 0 where the predictions equal them,
    else 1.
    """
    known = ~targets.isnan()
    moments = moments or Moments.of(targets)
    count = known.sum(-2)
    wrong = torch.where(known, predicted - targets.nan_to_num(0.0), 0.0).square().sum(-2)
    spread = torch.where(known, predicted - moments.mean, 0.0).square().sum(-2) + count * moments.variance
    there = count > 0
    each = wrong / torch.where(there, spread, 1.0).clamp(min=1e-12)
    return torch.where(there, each, 0.0).sum(-1) / there.sum(-1).clamp(min=1)


def classes_of(targets: Tensor) -> Tensor:
    """Return the classes (k,), ascending, with a share in any target (n,) or (n, C)."""
    if targets.dim() == 2:
        return (targets.nan_to_num(0.0) > 0).any(0).nonzero()[:, 0]
    classes: Tensor = torch.unique(targets[targets >= 0])
    return classes


@dataclass(frozen=True)
class Objective:
    """The loss that local work minimises.

    Parameters
    ----------
    training : the settings of the local work.
    loss : of the classes: cross-entropy or squared-hinge.
    weights : (C,) of each class, or None.
    moments : of the dimensions' targets of all peers, or None for each batch's own.
    present : (k,) the classes in the softmax, ascending, None for all. The scores of the others have no gradient (Diao
        et al. 2021, "HeteroFL", leave out the classes of which a peer has no clip). All targets must be of these.
    clips : number of training clips of all peers together; 0 unless the model's family ``weighs_clips``.
    """

    training: TrainingSettings
    loss: str = "cross-entropy"
    weights: Tensor | None = None
    moments: Moments | None = None
    present: Tensor | None = None
    clips: int = 0

    def on(self, device: torch.device) -> Objective:
        """Return the objective with its tensors on a device."""
        moved = [None if part is None else part.to(device) for part in (self.weights, self.present)]
        moments = None if self.moments is None else Moments(*(part.to(device) for part in self.moments))
        return replace(self, weights=moved[0], present=moved[1], moments=moments)

    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the loss, a scalar, of outputs (n, C), (n, 3) or (n, C + 3), as ``training.task`` is."""
        training, total = self.training, outputs.new_zeros(())
        scores = outputs if training.task == "classes" else outputs[..., : -len(DIMENSIONS)]
        if training.task != "dimensions":
            classes, weights = targets.of_classes(), self.weights
            if self.present is not None:
                classes = as_shares(classes, scores.shape[1])[:, self.present]
                scores, weights = scores[:, self.present], None if weights is None else weights[self.present]
            total = squared_hinge(scores, classes, weights) if self.loss == "squared-hinge" else \
                cross_entropy(scores, classes, training.label_smoothing, weights)
        if training.task != "classes":
            weight = training.dimension_weight if training.task == "both" else 1.0
            total = total + weight * concordance_loss(outputs[..., -len(DIMENSIONS):], targets.of_dimensions(),
                                                      self.moments)
        return total
