"""A setting chosen for each scheme on inner folds: some training speakers are held out, and nobody trains on them.

A peer without any other speaker relays and scores. The outer test speakers play no part. A scheme's score of a value is
its UAR over all inner folds' predictions together, so that every training speaker is scored once, by models that did
not train on that speaker. The temperature of a model's probabilities is fitted on the same folds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.evaluation import calibration, metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Federation
from p2pser.run.participant import together
from p2pser.topology.spec import Topology


def groups(federation: Federation, folds: int) -> list[frozenset[str]]:
    """Deal the training speakers over ``folds`` inner folds, equally many to each, the ones with most clips first.

    Raises ConfigError where there are fewer speakers than folds.
    """
    clips = Counter(speaker for examples in federation.train.values() for speaker in examples.speakers)
    if len(clips) < folds:
        raise ConfigError(f"{folds} inner folds need as many training speakers, and there are {len(clips)}: give fewer "
                          "with --inner, or take a corpus that names its speakers")
    order = sorted(clips, key=lambda speaker: (-clips[speaker], speaker))
    return [frozenset(order[number::folds]) for number in range(folds)]


def inner(federation: Federation, number: int, folds: int) -> Federation:
    """Return the federation of an inner fold: no peer holds clips of its speakers, and these clips are the test."""
    held_out = groups(federation, folds)[number]
    parts = {peer: np.isin(examples.speakers, sorted(held_out)) for peer, examples in federation.train.items()}
    test = together([examples.take(np.flatnonzero(parts[peer])) for peer, examples in sorted(federation.train.items())])
    train = {peer: examples.take(np.flatnonzero(~parts[peer])) for peer, examples in federation.train.items()}
    return dataclasses.replace(federation, train=train, test=test, speaker_overlap=0)


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


def temperature(config: Config, topology: Topology, federation: Federation, folds: int,
                done: Callable[[int], None] | None = None) -> float | None:
    """Return what the logits of a run's model are to be divided by; None where no emotions are learned.

    It is fitted on what the models of the inner folds' runs, with the same settings, say of speakers whom they did not
    train on. done: called with the number of runs done.
    """
    from p2pser.experiments.execution import results
    from p2pser.simulation.engine import simulate

    quick = config.with_settings([f"peer.evaluate_every={max(1, config.training.rounds)}"])
    said: list[Predictions] = []
    for number in range(folds):
        run = simulate(quick, topology, inner(federation, number, folds), each_peer=False)
        said += [one.predictions for one in results(run) if one.predictions is not None]
        if done is not None:
            done(number + 1)
    return calibration.fit(said)
