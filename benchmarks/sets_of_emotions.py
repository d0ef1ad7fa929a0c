"""Coverage of sets of emotions in a cross-validation: thresholds from inner folds, tested on the test speakers.

    p2pser crossval --corpus emodb --data D/emodb --scheme gossip --model mlp --topology exponential \\
      --set features.normalise=global --seeds 2 --out RUNS
    python benchmarks/sets_of_emotions.py RUNS/mlp
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from p2pser.evaluation import calibration
from p2pser.evaluation.conformal import calibrated, counts
from p2pser.evaluation.coverage import coverage, lines
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.results import predictions
from p2pser.models.sets import LEVELS


def read(folder: Path) -> list[tuple[int, Predictions]]:
    """Return the fold and the predictions of each run in a folder."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [(document["job"]["fold"], predictions(document)[0]) for document in documents]


def main(folder: Path) -> None:
    """Print the figures of the cross-validation in a folder."""
    inner = read(folder / "inner")
    tested, least = [], {level: [np.zeros(0)] for level in LEVELS}
    for fold, outer in read(folder / "runs"):
        several = [each for number, each in inner if number == fold]
        temperature = calibration.fit(several) or 1.0
        sets = calibrated([counts(calibration.scaled(each, temperature)) for each in several], "inner folds")
        tested.append(calibration.scaled(outer, temperature))
        for level in LEVELS:
            least[level].append(np.full(len(outer.targets), 0.0 if sets is None else sets.threshold(level)))
    figures = coverage(Predictions.concatenate(tested), {level: np.concatenate(each) for level, each in least.items()})
    print("\n".join(lines(figures)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
