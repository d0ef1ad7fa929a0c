"""The predictions of a finished run where a test speaker's statistics come from few of that speaker's clips.

Normalisation by speaker is transductive: by default all of a test speaker's clips give the statistics. An application
has fewer, perhaps none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from p2pser.experiments.model_evaluation import ENROLMENTS, scale
from p2pser.features.normalisation import from_sums, sums
from p2pser.run.participant import Cohort
from p2pser.simulation.results import Simulation

COUNTS: Mapping[str, int] = {**{str(count): count for count in ENROLMENTS}, "none": 0}
"""Names to the numbers of clips that give a test speaker's statistics; none: the training statistics serve."""


def predicted(run: Simulation) -> dict[str, list[int]]:
    """Return, for each of ``COUNTS``, the predicted labels of the held-out clips, (n,) places.

    Empty where the run does not scale by speaker, or learns no emotions.
    """
    federation, test = run.federation, run.federation.test
    if federation.normalise != "speaker" or test is None or run.predictions is None:
        return {}
    training = run.statistics or from_sums(np.sum([sums(examples.features)
                                                   for examples in federation.train.values() if len(examples)], axis=0))
    labels = {}
    for name, count in COUNTS.items():
        features = scale(test.features, test.speakers, count, training, run.config.seed)
        ready = dataclasses.replace(federation, normalise="none", test=dataclasses.replace(test, features=features))
        cohort = Cohort(run.config, ready, federation.train)
        cohort.prepare_alone(None)
        labels[name] = cohort.predictions(run.row).predicted.tolist()
    return labels
