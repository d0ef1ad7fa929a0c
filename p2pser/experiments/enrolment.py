"""What a finished run's model says where a test speaker's statistics come from few of that speaker's clips.

Normalisation by speaker is transductive: by default all of a test speaker's clips give the statistics. Who uses the
model has fewer, perhaps none.
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
    """Return, for each of ``COUNTS``, the emotions that the run's model says of the held-out clips, (n,) places.

    Empty where the run does not scale by speaker, or learns no emotions.
    """
    federation, test = run.federation, run.federation.test
    if federation.normalise != "speaker" or test is None or run.predictions is None:
        return {}
    training = run.statistics or from_sums(np.sum([sums(one.features) for one in federation.train.values()
                                                   if len(one)], axis=0))
    found = {}
    for name, count in COUNTS.items():
        features = scale(test.features, test.speakers, count, training, run.config.seed)
        ready = dataclasses.replace(federation, normalise="none", test=dataclasses.replace(test, features=features))
        cohort = Cohort(run.config, ready, federation.train)
        cohort.prepare_alone(None)
        found[name] = cohort.predictions(run.row).predicted.tolist()
    return found
