"""From a peer's examples and what all peers' are taken together to its local work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pser.base.errors import ConfigError
from p2pser.config import Config, TrainingSettings
from p2pser.features.federation import Examples
from p2pser.models.rows import Schema
from p2pser.models.svm import SVM
from p2pser.models.xgb import TreeEnsemble
from p2pser.training.augmentation import Augmentation
from p2pser.training.boosting import TreeLearner
from p2pser.training.learner import Learner
from p2pser.training.losses import Targets, classes_of, loss_of_classes
from p2pser.training.target_statistics import TargetStatistics, read_training_sums, training_sums


def targets(examples: Examples, training: TrainingSettings) -> Targets:
    """Return what the examples should give: what ``training.task`` and ``training.soft_labels`` ask for."""
    classes = examples.labels if examples.soft is None else examples.soft
    dimensions = examples.dimensions
    return Targets(None if training.task == "dimensions" else torch.from_numpy(classes),
                   None if training.task == "classes" or dimensions is None else torch.from_numpy(dimensions))


def learner(module: nn.Module, schema: Schema, config: Config, examples: Examples, features: NDArray[np.float32],
            labels: tuple[str, ...], *, peer: int, target_statistics: TargetStatistics | None = None,
            training: TrainingSettings | None = None, copies: NDArray[np.float32] | None = None) -> Learner:
    """Return the local work of the peer that holds ``examples``; none (a hub's) make an idle one.

    features: the examples', normalised. labels: of the federation. target_statistics: of all peers' clips; default:
    of these alone. training: where it is not the run's. copies: varied ones of the
    examples, (copies, n, …), normalised.
    """
    training = training or config.training
    if target_statistics is None and len(examples):
        sums = training_sums(examples, training, len(labels))
        _, target_statistics = read_training_sums(sums, training, len(labels), len(examples))
    target_statistics = target_statistics or TargetStatistics()
    often = None
    if training.balance == "sampling" and target_statistics.weights is not None:
        often = np.where(examples.labels < 0, 1.0, target_statistics.weights.numpy()[examples.labels])
    objective = target_statistics.objective(training, loss_of_classes(training, config.model.name))
    aims = targets(examples, training)
    if training.own_classes and aims.classes is not None and len(examples):
        objective = replace(objective, present=classes_of(aims.classes))
    values, varied = torch.from_numpy(features), None if copies is None else torch.from_numpy(copies)
    augmentation = Augmentation.of(config, features.shape[1:], len(labels))
    forward = None
    if isinstance(module, SVM):
        training = training.model_copy(update={"weight_decay": _penalty(module, training, target_statistics.clips)})
        if augmentation is None and values.numel():  # every step would map the same clips again
            values, forward = module.mapped(values), module.scores
            varied = None if varied is None else module.mapped(varied)
    kind = TreeLearner if isinstance(module, TreeEnsemble) else Learner
    return kind(module, schema, training, values, aims, objective,
                seed=config.seed, peer=peer, often=often, idle=len(examples) == 0, copies=varied,
                augmentation=augmentation, forward=forward)


def _penalty(module: SVM, training: TrainingSettings, clips: int) -> float:
    """Return the L2 penalty of a support vector machine, in the place of ``training.weight_decay``."""
    if training.optimizer != "sgd":
        raise ConfigError("model.name=svm has its L2 penalty in the loss, from which training.optimizer="
                          f"{training.optimizer} would keep it apart: set training.optimizer=sgd")
    return module.decay(max(1, clips))
