"""A peer's learner, made from its examples and the target statistics of all peers."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pser.base.registries import FAMILIES
from p2pser.config import Config, TrainingSettings
from p2pser.features.federation import Examples
from p2pser.models.rows import Schema
from p2pser.training.augmentation import Augmentation
from p2pser.training.fairness import Fairness
from p2pser.training.learner import Learner
from p2pser.training.losses import Targets, classes_of
from p2pser.training.target_statistics import Asked, TargetStatistics


def targets(examples: Examples, training: TrainingSettings) -> Targets:
    """Return the targets of examples that ``training.task`` and ``training.soft_labels`` ask for."""
    classes = examples.labels if examples.soft is None else examples.soft
    dimensions = examples.dimensions
    return Targets(None if training.task == "dimensions" else torch.from_numpy(classes),
                   None if training.task == "classes" or dimensions is None else torch.from_numpy(dimensions))


def learner(module: nn.Module, schema: Schema, config: Config, examples: Examples, features: NDArray[np.float32],
            labels: tuple[str, ...], *, peer: int, draws: int | None = None,
            target_statistics: TargetStatistics | None = None, training: TrainingSettings | None = None,
            copies: NDArray[np.float32] | None = None) -> Learner:
    """Return the learner of the peer that holds ``examples``, of the class that the model's family names; without
    examples (a hub) an idle one.

    Parameters
    ----------
    module, schema : the network and its schema.
    config : the run's settings.
    examples : the peer's clips.
    features : the examples', normalised.
    labels : of the federation.
    peer : the peer's id, which keys its draws together with ``draws``.
    draws : a secret number of the peer's; default: the run's seed.
    target_statistics : of all peers' clips; default: of these alone.
    training : the settings of the local work, where they are not the run's.
    copies : (copies, n, …), changed copies of the examples, normalised.

    Raises
    ------
    ConfigError, CorpusError : where the settings, the model and the examples do not fit together.
    """
    training = training or config.training
    if target_statistics is None and len(examples):
        asked = Asked.of(training, len(labels), clips=True)
        _, target_statistics = asked.read(asked.sums(examples))
    target_statistics = target_statistics or TargetStatistics()
    often = None
    if training.balance == "sampling" and target_statistics.weights is not None:
        often = np.where(examples.labels < 0, 1.0, target_statistics.weights.numpy()[examples.labels])
    family = FAMILIES[config.model.name]
    loss = family.loss if training.loss == "auto" else training.loss
    objective = target_statistics.objective(training, loss)
    aims = targets(examples, training)
    if training.own_classes and aims.classes is not None and len(examples):
        objective = replace(objective, present=classes_of(aims.classes))
    make: Callable[..., Learner] = pkgutil.resolve_name(family.learner)
    return make(module, schema, training, torch.from_numpy(features), aims, objective,
                seed=config.seed if draws is None else draws, peer=peer,
                often=often, idle=len(examples) == 0, copies=None if copies is None else torch.from_numpy(copies),
                augmentation=Augmentation.of(config, features.shape[1:], len(labels)),
                groups=units(examples, config.privacy.unit),
                fairness=Fairness.of(training, examples, loss, len(labels)))


def units(examples: Examples, unit: str) -> NDArray[np.int64]:
    """Return the unit (clip, speaker or site) of each clip (n,), from 0 on."""
    if unit == "clip":
        return np.arange(len(examples))
    if unit == "speaker":
        return np.unique(np.array(examples.speakers, dtype=str), return_inverse=True)[1].astype(np.int64)
    return np.zeros(len(examples), dtype=np.int64)
