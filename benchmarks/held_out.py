"""Cost and gain of holding speakers out of training: UAR and calibration error on EMO-DB's test speakers.

9 peers of one speaker each on a ring, simulated, seed 0, all ten folds, default settings: without held-out speakers,
and with one in five (``training.held_out``). Calibration errors with 0 and 10 enrolled clips of the test speaker;
scaled: by the temperatures on which the peers agreed.

    python benchmarks/held_out.py --data FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from p2pser.config import Config
from p2pser.evaluation import calibration
from p2pser.evaluation.metrics import uar_pooled
from p2pser.experiments import enrolment
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.heard import nearest
from p2pser.simulation.engine import simulate

HEARD, PEERS, FOLDS = (0, 10), 9, 10


def measured(config: Config) -> list[float]:
    """Return UAR, calibration errors by clips heard, and the same scaled, which are NaN without a calibration."""
    run = simulate(config, load("ring", peers=PEERS), federate(config, PEERS), each_peer=False)
    assert run.predictions is not None
    plain, scaled = [], []
    for clips, predictions in enrolment.predicted(run, HEARD).items():
        known = nearest(run.calibrated.heard, clips)
        plain.append(calibration.ece(calibration.probabilities(predictions), predictions.targets))
        scaled.append(np.nan if known is None else calibration.ece(
            calibration.probabilities(calibration.scaled(predictions, known.temperature)), predictions.targets))
    return [uar_pooled(run.predictions), *plain, *scaled]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of EMO-DB")
    given = parser.parse_args()
    print("held out  UAR   ECE, 0 clips  10 clips  scaled, 0 clips  10 clips")
    for share in (0.0, 0.2):
        rows = [measured(Config().with_settings([
            "corpus.name=emodb", f"corpus.data={given.data}", f"corpus.fold={fold}", f"training.held_out={share}",
            "peer.evaluate_every=1000000"])) for fold in range(FOLDS)]
        print(f"{share:8g}  " + "  ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
