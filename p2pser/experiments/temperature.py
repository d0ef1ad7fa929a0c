"""Temperatures of a run's model, fitted on inner folds: the models' logits for speakers outside their training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from p2pser.config import Config
from p2pser.evaluation import calibration
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import enrolment
from p2pser.experiments.execution import final_outputs
from p2pser.experiments.tuning import inner
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.models.heard import Heard, counts
from p2pser.simulation.engine import simulate


def fit(config: Config, topology: Topology, federation: Federation, folds: int,
        done: Callable[[int], None] | None = None) -> tuple[float | None, tuple[Heard, ...]]:
    """Return the divisor of the logits of a run's model, None where no emotion is learned, and the figures by the
    number of clips heard of a speaker, () where they are not known.

    Parameters
    ----------
    config, topology, federation : the run's. Each inner fold is trained with the same settings.
    folds : the number of inner folds.
    done : called with the number of runs done.
    """
    peer = config.peer.model_copy(update={"evaluate_every": max(1, config.training.rounds)})
    config = config.model_copy(update={"peer": peer})
    held_out: list[Predictions] = []
    heard: dict[int, list[Predictions]] = {}
    numbers = counts(Counter(speaker for examples in federation.train.values() for speaker in examples.speakers))
    for number in range(folds):
        run = simulate(config, topology, inner(federation, number, folds), each_peer=False)
        outputs = [outputs.predictions for outputs in final_outputs(run) if outputs.predictions is not None]
        held_out += outputs
        by_count = enrolment.predicted(run, numbers) or ({0: run.predictions} if run.predictions is not None else {})
        for count, predictions in by_count.items():
            heard.setdefault(count, []).append(predictions)
        if done is not None:
            done(number + 1)
    if any(predictions.logits is None for several in heard.values() for predictions in several):
        heard = {}
    return calibration.fit(held_out), calibration.by_clips_heard(
        {count: Predictions.concatenate(several) for count, several in heard.items()})
