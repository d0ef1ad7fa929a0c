"""A setting chosen for each scheme on inner folds: held-out training peers relay and score, and never train.

The outer test speakers play no part. A scheme's score of a value is its UAR over all inner folds' predictions together,
so that every training speaker is scored once, by models that did not train on that speaker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from p2pser.errors import ConfigError
from p2pser.learning import metrics
from p2pser.learning.metrics import Predictions
from p2pser.simulation.bench import together
from p2pser.speech.federation import Federation, nothing


def groups(federation: Federation, folds: int) -> list[frozenset[int]]:
    """Deal the training peers over ``folds`` inner folds; peers that share a speaker stay together.

    Raises ConfigError where there are fewer groups of such peers than folds.
    """
    together_with: dict[str, set[int]] = {}
    parts: list[set[int]] = []
    for peer, examples in sorted(federation.train.items()):
        if not len(examples):
            continue
        joined = {peer}.union(*(together_with.get(speaker, set()) for speaker in examples.speakers))
        for speaker in {s for one in joined for s in federation.train[one].speakers}:
            together_with[speaker] = joined
        parts = [part for part in parts if not part & joined] + [joined]
    if len(parts) < folds:
        raise ConfigError(f"{folds} inner folds need as many peers that share no speaker, and there are {len(parts)}: "
                          "give fewer with --inner, or deal the corpus by speaker")
    dealt: list[set[int]] = [set() for _ in range(folds)]
    for part in sorted(parts, key=lambda part: (-len(part), min(part))):
        smallest = min(dealt, key=len)
        smallest |= part
    return [frozenset(part) for part in dealt]


def inner(federation: Federation, number: int, folds: int) -> Federation:
    """Return the federation of an inner fold: its held-out peers hold nothing, and their clips are the test."""
    held_out = groups(federation, folds)[number]
    test = together([federation.train[peer] for peer in sorted(held_out)])
    shape = test.features.shape[1:]
    train = {peer: nothing(shape) if peer in held_out else examples for peer, examples in federation.train.items()}
    trained = {speaker for examples in train.values() for speaker in examples.speakers}
    return dataclasses.replace(federation, train=train, test=test,
                               speaker_overlap=len(trained & set(test.speakers)))


def best(scores: Mapping[str, Sequence[Sequence[Predictions]]]) -> str:
    """Return the value with the highest UAR over the inner folds; the first of equals.

    scores: for each value, for each inner fold, each model's predictions. One model a fold: the UAR of all folds'
    predictions together; several (local-only): the mean over all.
    """
    def uar(folds: Sequence[Sequence[Predictions]]) -> float:
        if all(len(models) == 1 for models in folds):
            return metrics.uar_pooled(Predictions.concatenate([models[0] for models in folds]))
        return float(np.mean([metrics.uar_pooled(one) for models in folds for one in models]))

    return max(scores, key=lambda value: uar(scores[value]))
