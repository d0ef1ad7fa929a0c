"""Inner folds, on which the settings of a scheme are chosen: some training speakers are held out of training.

A peer with clips of no other speaker relays and scores, and does not train. The speakers of the outer test fold play
no part. The score of a value is the UAR over the predictions of all inner folds together, so that each training
speaker is scored once, by models that were not trained on that speaker.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Federation
from p2pser.run.participant import together


def groups(federation: Federation, folds: int) -> list[frozenset[str]]:
    """Return the training speakers of each inner fold, equally many, distributed in descending order of their clips.

    Raises ConfigError where there are fewer speakers than folds.
    """
    clips = Counter(speaker for examples in federation.train.values() for speaker in examples.speakers)
    if len(clips) < folds:
        raise ConfigError(f"{folds} inner folds need as many training speakers, and there are {len(clips)}: give fewer "
                          "with --inner, or take a corpus that names its speakers")
    order = sorted(clips, key=lambda speaker: (-clips[speaker], speaker))
    return [frozenset(order[number::folds]) for number in range(folds)]


def inner(federation: Federation, number: int, folds: int) -> Federation:
    """Return the federation of an inner fold: its speakers' clips are the test set, and no peer trains on them."""
    held_out = groups(federation, folds)[number]
    parts = {peer: np.isin(examples.speakers, sorted(held_out)) for peer, examples in federation.train.items()}
    test = together([examples.take(np.flatnonzero(parts[peer])) for peer, examples in sorted(federation.train.items())])
    train = {peer: examples.take(np.flatnonzero(~parts[peer])) for peer, examples in federation.train.items()}
    return dataclasses.replace(federation, train=train, test=test, speaker_overlap=0, held_out={})


def best(scores: Mapping[str, Sequence[Sequence[Predictions]]]) -> str:
    """Return the value with the highest UAR over the inner folds; of equal values the first.

    scores: for each value, for each inner fold, each model's predictions. Where each fold has one model, the score is
    the UAR of all folds' predictions together; where it has several (local-only), the mean of all models' UAR.
    """
    def uar(folds: Sequence[Sequence[Predictions]]) -> float:
        if all(len(models) == 1 for models in folds):
            return metrics.uar_pooled(Predictions.concatenate([models[0] for models in folds]))
        return float(np.mean([metrics.uar_pooled(model) for models in folds for model in models]))

    return max(scores, key=lambda value: uar(scores[value]))
