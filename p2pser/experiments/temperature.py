"""The temperature of a run's model, fitted on inner folds: the models' logits for speakers outside their training."""

from __future__ import annotations

from collections.abc import Callable

from p2pser.config import Config
from p2pser.evaluation import calibration
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.execution import final_outputs
from p2pser.experiments.tuning import inner
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.simulation.engine import simulate


def fit(config: Config, topology: Topology, federation: Federation, folds: int,
        done: Callable[[int], None] | None = None) -> float | None:
    """Return the divisor of the logits of a run's model; None where no emotion is learned.

    Parameters
    ----------
    config, topology, federation : the run's. Each inner fold is trained with the same settings.
    folds : the number of inner folds.
    done : called with the number of runs done.
    """
    peer = config.peer.model_copy(update={"evaluate_every": max(1, config.training.rounds)})
    config = config.model_copy(update={"peer": peer})
    held_out: list[Predictions] = []
    for number in range(folds):
        run = simulate(config, topology, inner(federation, number, folds), each_peer=False)
        held_out += [outputs.predictions for outputs in final_outputs(run) if outputs.predictions is not None]
        if done is not None:
            done(number + 1)
    return calibration.fit(held_out)
