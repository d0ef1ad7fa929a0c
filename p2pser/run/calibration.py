"""The calibration of a run's model on the speakers whom its peers held out of training (``training.held_out``).

After the final consensus each peer scores its held-out clips with the common model, and the peers sum their results
(``evaluation.held_out``). The same code runs in a peer's process and in the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.wording import counted
from p2pser.evaluation import held_out
from p2pser.evaluation.held_out import Whole
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Outputs
from p2pser.features.federation import Examples, normalised
from p2pser.features.normalisation import enrolled
from p2pser.features.unlike import distances, flattening
from p2pser.models.calibrated import Calibrated
from p2pser.models.inference import logits
from p2pser.run.participant import Cohort

SUMS = ("who", "likelihoods", "figures")
"""The sums in their order, named after the functions of ``evaluation.held_out`` that make their rows."""

Add: TypeAlias = Callable[[str, Mapping[int, Whole]], Whole | None]
"""(one of ``SUMS``; rows by hosted peer) -> the sum over all reachable peers; None if it cannot be made."""

STOPPED = "none: this peer was stopped before the peers had calibrated the model"
HANDED_OVER = "none: the model was handed over by neighbours, and the peers that trained it have calibrated it"
LOST = "none: a peer was lost while the peers summed their results, or too few could be reached"
ALL_TRAINED = "none: no peer held a speaker out of training"


def calibrate(cohort: Cohort, rows: Tensor, add: Add, least: int) -> Calibrated:
    """Return the calibration of a model that all peers have.

    Parameters
    ----------
    cohort : the hosted peers, prepared.
    rows : (B, D) their models.
    add : makes a sum.
    least : fewest peers with held-out speakers over which a sum is made: a sum over fewer would reveal too much.
    """
    held = {i: each.take(known) for i, each in cohort.federation.held_out.items()
            if len(known := np.flatnonzero(each.labels >= 0))}
    ids = [participant.id for participant in cohort.participants]
    speakers = {i: len(set(each.speakers)) for i, each in held.items()}
    total = add("who", {i: held_out.who(speakers.get(i, 0), len(held.get(i, ()))) for i in ids})
    if total is None:
        return Calibrated(LOST)
    peers, people, clips = map(int, total)
    if not 0 < peers <= people <= clips:
        return Calibrated(ALL_TRAINED)
    if peers < least:
        return Calibrated(f"none: {counted(peers, 'peer')} held speakers out of training, and sums over fewer than "
                          f"{least} would reveal too much of each (privacy.least)")
    numbers = held_out.numbers_heard(people, clips) if cohort.federation.normalise == "speaker" else (0,)
    results = {i: _Results(cohort, row, i, held.get(i), numbers) for i, row in zip(ids, rows)}
    if (sums := add("likelihoods", {i: each.likelihoods() for i, each in results.items()})) is None:
        return Calibrated(LOST)
    by_number = sums.reshape(len(numbers), -1)
    common = [held_out.temperature(each) for each in by_number]
    how = f"{counted(people, 'speaker')} whom {counted(peers, 'peer')} held out of training"
    if people < held_out.FEWEST:
        return Calibrated(f"{how}, too few for figures", common[-1])
    if (sums := add("figures", {i: each.figures(by_number, common) for i, each in results.items()})) is None:
        return Calibrated(f"{how}; a peer was lost before the figures were summed", common[-1])
    both = [held_out.read(row, cohort.classes, number, temperature, how)
            for row, number, temperature in zip(sums.reshape(len(numbers), -1), numbers, common)]
    heard, sets = tuple(each for each, _ in both), tuple(each for _, each in both if each is not None)
    if not held_out.readable(heard, sets):
        return Calibrated("none: the peers' sums are impossible, so a peer has sent wrong numbers")
    return Calibrated(how, common[-1], heard, sets)


class _Results:
    """The results of a hosted peer on its held-out clips, at each number of clips heard.

    examples : these clips; None: it has none, and its rows are zeros.
    """

    def __init__(self, cohort: Cohort, row: Tensor, peer: int, examples: Examples | None,
                 numbers: tuple[int, ...]) -> None:
        self._classes, self._numbers = cohort.classes, numbers
        self._predictions: list[Predictions] = []
        self._apart: NDArray[np.float64] | None = None
        self._own: list[tuple[tuple[str, ...], Whole]] = []
        if examples is None:
            return
        module = cohort.bound(row, peer)
        self._predictions = [_predicted(cohort, module, examples, number if number < numbers[-1] else None)
                             for number in numbers]
        if cohort.statistics is not None:
            self._apart = distances(cohort.statistics.apply(examples.features))
        self._own = [held_out.likelihoods(each) for each in self._predictions]

    def likelihoods(self) -> Whole:
        """Return the row of the second sum, the numbers of clips one after another."""
        if not self._own:
            return np.zeros(len(self._numbers) * len(held_out.GRID), dtype=np.int64)
        return np.concatenate([each.sum(axis=0) for _, each in self._own])

    def figures(self, sums: Whole, common: list[float]) -> Whole:
        """Return the row of the third sum. sums : (numbers, GRID) the second. common : the temperatures by number."""
        if not self._own:
            return np.zeros(len(self._numbers) * held_out.length(self._classes), dtype=np.int64)
        return np.concatenate([
            held_out.figures(predictions, temperature, {name: held_out.temperature(whole - mine)
                                                        for name, mine in zip(names, own)}, self._apart)
            for predictions, (names, own), whole, temperature in zip(self._predictions, self._own, sums, common)])


def _predicted(cohort: Cohort, module: torch.nn.Module, examples: Examples, clips: int | None) -> Predictions:
    """Return the predictions after ``clips`` clips of each speaker (None: all) are heard, as ``predict`` does."""
    how, statistics = cohort.federation.normalise, cohort.statistics
    features = enrolled(examples.features, examples.speakers, clips, statistics, cohort.config.seed) \
        if how == "speaker" else normalised(examples, how, statistics)
    raw = logits(module, features)
    classes = cohort.classes
    raw[:, :classes] /= 1.0 if how == "none" else flattening(features).astype(np.float32)[:, None]
    predictions = Outputs.of(raw, examples, cohort.config.training.task, classes).predictions
    assert predictions is not None  # each clip has an emotion
    return predictions
