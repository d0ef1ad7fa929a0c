"""Temperatures of a run's model and its sets of emotions, from inner folds: the models' logits for speakers outside
their training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from p2pser.config import Config
from p2pser.evaluation import calibration
from p2pser.evaluation.conformal import sets_by_clips_heard
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import enrolment
from p2pser.experiments.execution import final_outputs
from p2pser.experiments.tuning import inner
from p2pser.features.federation import Federation
from p2pser.features.unlike import distances
from p2pser.graph.spec import Topology
from p2pser.models.calibrated import Calibrated
from p2pser.models.heard import counts
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation


def fit(config: Config, topology: Topology, federation: Federation, folds: int,
        done: Callable[[int], None] | None = None) -> Calibrated:
    """Return what inner folds say of the probabilities of a run's model; None and () where no emotion is learned.

    Parameters
    ----------
    config, topology, federation : the run's. Each inner fold is trained with the same settings.
    folds : the number of inner folds.
    done : called with the number of runs done.
    """
    peer = config.peer.model_copy(update={"evaluate_every": max(1, config.training.rounds)})
    config = config.model_copy(update={"peer": peer})
    held_out: list[Predictions] = []
    by_count: dict[int, list[Predictions]] = {}
    apart: list[NDArray[np.float64] | None] = []
    numbers = counts(Counter(speaker for examples in federation.train.values() for speaker in examples.speakers))
    for number in range(folds):
        run = simulate(config, topology, inner(federation, number, folds), each_peer=False)
        held_out += [outputs.predictions for outputs in final_outputs(run) if outputs.predictions is not None]
        enrolled = enrolment.predicted(run, numbers) or ({0: run.predictions} if run.predictions is not None else {})
        for count, predictions in enrolled.items():
            by_count.setdefault(count, []).append(predictions)
        apart.append(_distances(run))
        if done is not None:
            done(number + 1)
    if any(predictions.logits is None for several in by_count.values() for predictions in several):
        by_count = {}
    temperature = calibration.fit(held_out)
    heard = calibration.by_clips_heard({count: Predictions.concatenate(several)
                                        for count, several in by_count.items()})
    how = f"{folds} inner folds: each training speaker by a model that was not trained on them"
    return Calibrated(how, temperature, heard, sets_by_clips_heard(by_count, heard, how, apart))


def _distances(run: Simulation) -> NDArray[np.float64] | None:
    """Return how far the held-out clips with an emotion are from the training's; None where that is not known."""
    test = run.federation.test
    if test is None or run.statistics is None:
        return None
    return distances(run.statistics.apply(test.features[test.labels >= 0]))
