"""A peer's own model: the common one, trained on for some steps on the peer's own clips."""

from __future__ import annotations

import copy

from torch import Tensor

from p2pser.config import TrainingSettings
from p2pser.training.learner import Learner
from p2pser.training.optimisers import Optimizer
from p2pser.training.subnetwork import SubnetworkLearner


def fine_tuned(learner: Learner, row: Tensor) -> Tensor:
    """Return ``row`` (D,) float32 after ``training.fine_tune`` steps on the learner's clips, at a constant
    ``training.fine_tune_lr``, with an optimiser that remembers nothing of the run.

    The clips and dropout's draws are those of one more round, after the last. A peer without clips keeps the row.
    """
    training = learner.training
    if not learner.clips or not training.fine_tune:
        return row.clone()
    again = _with(learner, training.model_copy(update={
        "local_steps": training.fine_tune, "lr": training.fine_tune_lr, "schedule": "constant", "proximal": 0.0}))
    tuned = row.clone()
    again.train_(tuned, again.memory(), training.rounds)
    return tuned


def _with(learner: Learner, training: TrainingSettings) -> Learner:
    """A copy of a learner with other settings."""
    again = copy.copy(learner)
    again.training, again.optimizer = training, Optimizer(training)
    if isinstance(again, SubnetworkLearner):
        again.narrow = _with(again.narrow, training)
    return again
