"""The learner of the family ``svm``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.config import TrainingSettings
from p2pser.models.networks.svm import SVM
from p2pser.models.rows import Schema
from p2pser.training.learner import Learner
from p2pser.training.losses import Objective, Targets


class MachineLearner(Learner):
    """A ``Learner`` whose weight decay is the machines' own L2 penalty, over all peers' clips (``objective.clips``).

    Features that do not vary by step are mapped once, instead of in every step.

    Raises ConfigError where the optimiser is not sgd.
    """

    def __init__(self, module: SVM, schema: Schema, training: TrainingSettings, features: Tensor,
                 targets: Targets | Tensor, objective: Objective | None = None, **options: Any) -> None:
        if training.optimizer != "sgd":
            raise ConfigError("model.name=svm has its L2 penalty in the loss, and weight decay in "
                              f"training.optimizer={training.optimizer} is not in it: set training.optimizer=sgd")
        objective = objective or Objective(training)
        training = training.model_copy(update={"weight_decay": module.decay(max(1, objective.clips))})
        self.machines = module
        self.mapped = options.get("augmentation") is None and features.numel() > 0
        if self.mapped:
            features = module.mapped(features)
            if options.get("copies") is not None:
                options["copies"] = module.mapped(options["copies"])
        super().__init__(module, schema, training, features, targets, objective, **options)

    def outputs(self, batch: Tensor) -> Tensor:
        """Return the machines' scores (n, classes) of a batch."""
        return self.machines.scores(batch) if self.mapped else self.machines(batch)
