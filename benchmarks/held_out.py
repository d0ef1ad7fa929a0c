"""Cost and gain of holding speakers out of training: UAR and calibration error on EMO-DB's test speakers.

9 peers of one speaker each on a ring, simulated, seed 0, all ten folds, default settings: without held-out speakers,
and with one in five (``training.held_out``). Mean UAR; calibration errors over the clips of all folds, since those of
one speaker are too few for the intervals, with 0 and 10 enrolled clips of the test speaker; scaled: by the temperatures
on which the peers agreed.

    python benchmarks/held_out.py --data FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.config import Config
from p2pser.evaluation import calibration
from p2pser.evaluation.metrics import uar_pooled
from p2pser.experiments import enrolment
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.heard import nearest
from p2pser.simulation.engine import simulate

HEARD, PEERS, FOLDS = (0, 10), 9, 10


def measured(config: Config) -> tuple[float, dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]]:
    """Return the UAR, and by name the probabilities and targets whose calibration is judged."""
    run = simulate(config, load("ring", peers=PEERS), federate(config, PEERS), each_peer=False)
    assert run.predictions is not None
    judged = {}
    for clips, predictions in enrolment.predicted(run, HEARD).items():
        judged[f"{clips} clips"] = calibration.probabilities(predictions), predictions.targets
        if (known := nearest(run.calibrated.heard, clips)) is not None:
            judged[f"scaled, {clips} clips"] = calibration.probabilities(
                calibration.scaled(predictions, known.temperature)), predictions.targets
    return uar_pooled(run.predictions), judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of EMO-DB")
    given = parser.parse_args()
    for share in (0.0, 0.2):
        folds = [measured(Config().with_settings([
            "corpus.name=emodb", f"corpus.data={given.data}", f"corpus.fold={fold}", f"training.held_out={share}",
            "peer.evaluate_every=1000000"])) for fold in range(FOLDS)]
        errors = {name: calibration.ece(*(np.concatenate(parts) for parts in zip(*(judged[name] for _, judged in folds),
                                                                                 strict=True)))
                  for name in folds[0][1]}
        print(f"held out {share:g}: UAR {np.mean([uar for uar, _ in folds]):.3f}; ECE "
              + ", ".join(f"{name} {error:.3f}" for name, error in errors.items()))


if __name__ == "__main__":
    main()
