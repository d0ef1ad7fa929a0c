"""A peer's personal model: the common model after further steps on the peer's own clips."""

from __future__ import annotations

from torch import Tensor

from p2pser.training.subnetwork import RowLearner


def fine_tuned(learner: RowLearner, row: Tensor) -> Tensor:
    """Return ``row`` (D,) float32 after ``training.fine_tune`` steps on the learner's clips, at a constant
    ``training.fine_tune_lr``, with a fresh optimiser.

    The clips and the draws of dropout are those of a further round after the last. Without clips the row does not
    change.
    """
    training = learner.training
    if not learner.clips or not training.fine_tune:
        return row.clone()
    tuner = learner.with_training(training.model_copy(update={
        "local_steps": training.fine_tune, "lr": training.fine_tune_lr, "schedule": "constant", "proximal": 0.0}))
    tuned = row.clone()
    tuner.train_(tuned, tuner.memory(), training.rounds)
    return tuned
