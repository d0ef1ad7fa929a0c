"""The predictions of a finished run where a test speaker's statistics come from few of that speaker's clips.

Normalisation by speaker is transductive: by default all of a test speaker's clips give the statistics. An application
has fewer, perhaps none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from p2pser.evaluation.metrics import Predictions
from p2pser.features.normalisation import enrolled
from p2pser.features.unlike import flattening
from p2pser.models.heard import COUNTS
from p2pser.run.participant import Cohort
from p2pser.simulation.results import Simulation


def predicted(run: Simulation, numbers: Sequence[int] = COUNTS) -> dict[int, Predictions]:
    """Return the predictions of the held-out clips by the number of clips that give a speaker's statistics.

    Their logits are flattened as those of ``predict`` are. Empty where the run does not scale by speaker, or learns no
    emotions.
    """
    federation, test = run.federation, run.federation.test
    if federation.normalise != "speaker" or test is None or run.predictions is None or run.statistics is None:
        return {}
    by_number = {}
    for number in numbers:
        features = enrolled(test.features, test.speakers, number, run.statistics, run.config.seed)
        ready = dataclasses.replace(federation, normalise="none", test=dataclasses.replace(test, features=features))
        cohort = Cohort(run.config, ready, federation.train)
        cohort.prepare_alone(None)
        raw = cohort.predictions(run.row)
        by_number[number] = raw if raw.logits is None else \
            dataclasses.replace(raw, logits=raw.logits / flattening(features)[:, None])
    return by_number
