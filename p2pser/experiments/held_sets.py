"""How often the sets of emotions of cross-validated models hold the right one."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2pser.evaluation import calibration
from p2pser.evaluation.conformal import calibrated, counts
from p2pser.evaluation.coverage import coverage
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.results import Results
from p2pser.models.sets import LEVELS


def coverage_of(results: Results, part: tuple[str, str], temperatures: list[float] | None) -> dict[str, Any] | None:
    """Return the coverage of a scheme's sets over all folds and seeds, by sex, language and corpus (``coverage``).

    Temperatures and thresholds are of the inner folds, on which no test speaker is. None where no inner folds ran, the
    models gave no logits, or a run ends with several models.
    """
    plan, seeds = results.plan, results.models(*part)
    if temperatures is None or any(len(models) > 1 or models[0].logits is None for models in seeds):
        return None
    least: dict[float, list[float]] = {level: [] for level in LEVELS}
    for fold, temperature in zip(plan.folds, temperatures):
        several = [counts(calibration.scaled(each, temperature)) for each in results.inner_models(*part, fold)]
        sets = calibrated(several, "inner folds")
        for level in LEVELS:
            least[level].append(0.0 if sets is None else sets.threshold(level))
    tested = Predictions.concatenate([calibration.scaled(models[0], dict(enumerate(temperatures))) for models in seeds])
    folds = np.concatenate([models[0].folds for models in seeds])
    languages = {path: name for document in results.outer.values()
               for path, name in document.get("languages", {}).items()}
    parts = results.first["corpus"]["name"].split("+")
    groups = {"language": [languages.get(path, "") for path in tested.paths],
              "corpus": [path.partition("/")[0] for path in tested.paths] if len(parts) > 1 else []}
    return coverage(tested, {level: np.asarray(each)[folds] for level, each in least.items()},
                    groups={name: values for name, values in groups.items() if any(values)})
