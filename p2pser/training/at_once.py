"""The number of peers of a simulation that take local steps at once: measured briefly, and kept for later runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from p2pser.base.atomic import put_json, read
from p2pser.base.errors import ConfigError
from p2pser.base.paths import cache_folder, can_be_written
from p2pser.training.learner import Learner
from p2pser.training.subnetwork import RowLearner
from p2pser.training.together import Together, kind

NUMBERS = (8, 32, 128)
"""Numbers of peers at once that are measured, beside one peer after another."""

GAIN = 1.1
"""The least speed of a chosen number, as a multiple of the speed of one peer after another."""

WORTH = 10
"""The least rows that a run trains for a measurement, as a multiple of the rows that the measurement trains."""

STEPS = 2
"""The most local steps in the measurement."""

APART = 0.01
"""The largest difference from rows that are trained one after another, as a share of the change by local steps."""


def groups(learners: Sequence[RowLearner], places: Sequence[int], at_once: int) -> Iterator[list[int]]:
    """Yield groups of places, ascending in each: at most ``at_once`` learners that can take their steps together."""
    alike: dict[object, list[int]] = defaultdict(list)
    for place in places:
        common = kind(learners[place]) if at_once > 1 else None
        if common is None:
            yield [place]
        else:
            alike[common].append(place)
    for together in alike.values():
        count = -(-len(together) // at_once)
        for number in range(count):  # of nearly equal size
            yield together[len(together) * number // count : len(together) * (number + 1) // count]


class Choice:
    """The number of a run's learners that take their steps at once.

    Parameters
    ----------
    asked : the number to take, where the network can; 0: measure.
    rounds : of the run: few rounds are not worth a measurement.
    number : an earlier choice; None: the number is chosen when the peers train for the first time.
    device : the device of the steps of several learners.
    """

    def __init__(self, asked: int, rounds: int, number: int | None = None, device: str = "cpu") -> None:
        self._asked, self._rounds, self.device = asked, rounds, device
        self.number = number

    def of(self, learners: Sequence[RowLearner], rows: Tensor, round: int) -> int:
        """Return the number; 1: one after another.

        Parameters
        ----------
        learners : of all rows.
        rows : (N, D), which do not change.
        round : keys the draws of the measurement.
        """
        if self.number is None:
            self.number = self._chosen(learners, rows, round)
        return self.number

    def _chosen(self, learners: Sequence[RowLearner], rows: Tensor, round: int) -> int:
        having_clips = [place for place, learner in enumerate(learners) if learner.clips]
        largest = max(groups(learners, having_clips, len(learners)), key=len, default=[])
        count = len(largest)
        if self._asked == 1 or count < 2:
            return 1
        numbers = (min(self._asked, count),) if self._asked else tuple(n for n in NUMBERS if n <= count) or (count,)
        if not self._asked and len(learners) * self._rounds < WORTH * 2 * (numbers[0] + sum(numbers)):
            return 1
        places = largest[: numbers[-1]]
        trial = _Trial([learners[place] for place in places], rows[places], round, self.device)
        if self._asked:
            return numbers[0] if trial.same(2) else 1
        return _kept(trial.name(numbers), lambda: trial.fastest(numbers) if trial.same(numbers[0]) else 1)


def require_device(device: str) -> None:
    """Raise ConfigError where torch cannot compute on the device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"training.device=cuda, and torch {torch.__version__} finds no GPU with CUDA here: take cpu, "
                          "or install torch with CUDA on a machine that has one")


class _Trial:
    """A round of some learners, on copies of their rows."""

    def __init__(self, learners: Sequence[RowLearner], rows: Tensor, round: int, device: str = "cpu") -> None:
        shorter = learners[0].training.model_copy(update={
            "local_steps": min(STEPS, learners[0].training.local_steps)})
        self.learners = [learner.with_training(shorter) for learner in learners]
        self.rows, self.round, self.device = rows, round, device

    def trained(self, count: int, at_once: int) -> Tensor:
        """Return the rows of the first learners after the round."""
        rows = self.rows[:count].clone()
        fresh = self.learners[0].memory()
        memory = {name: value.repeat(count, 1) for name, value in fresh.items()}
        if at_once == 1:
            for i, learner in enumerate(self.learners[:count]):
                learner.train_(rows[i], {name: value[i] for name, value in memory.items()}, self.round)
        else:
            Together(self.learners[:count], self.device).train_(rows, memory, self.round)
        return rows

    def same(self, count: int) -> bool:
        """Whether the network can take the steps of ``count`` peers at once, with the result of one after another."""
        alone = self.trained(count, 1)
        try:
            rows = self.trained(count, count)
        except (RuntimeError, TypeError, ValueError, IndexError):  # torch's, or the network's own
            return False
        change = (alone - self.rows[:count]).abs().max()
        return bool((rows - alone).abs().max() <= APART * change)

    def fastest(self, numbers: Sequence[int]) -> int:
        """Return the number of peers at once whose steps take the least time; the second of two measurements counts."""
        seconds = {}
        for at_once in (1, *numbers):
            count = at_once if at_once > 1 else numbers[0]
            for _ in range(2):
                began = time.perf_counter()
                self.trained(count, at_once)
                seconds[at_once] = (time.perf_counter() - began) / count
        best = min(numbers, key=seconds.__getitem__)
        return best if seconds[best] * GAIN <= seconds[1] else 1

    def name(self, numbers: Sequence[int]) -> str:
        """Return a digest of all that the measured times depend on."""
        first = self.learners[0]
        assert isinstance(first, Learner)
        training = first.training
        conditions = (torch.__version__, self.device, platform.machine(), platform.node(), os.cpu_count(),
                      torch.get_num_threads(), str(first.module), first.schema.digest(),
                      tuple(first.features.shape[1:]), numbers, min(training.batch_size, first.clips),
                      training.optimizer, training.task, training.proximal > 0, first.augmentation is not None)
        return hashlib.blake2b(repr(conditions).encode(), digest_size=12).hexdigest()


def _kept(name: str, measured: Callable[[], int]) -> int:
    """Return the result of an earlier measurement of this name; without one measure, and keep the result.

    Processes that would measure at the same time wait for the first, and take its result.
    """
    from filelock import FileLock

    path = cache_folder() / "local-steps" / f"{name}.json"
    if not can_be_written(path.parent):
        return measured()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / "lock"):
        try:
            number = int(json.loads(read(path))["at_once"])
        except (OSError, ValueError, KeyError, TypeError):
            number = measured()
            with contextlib.suppress(OSError):
                put_json(path, {"at_once": number})
    return number
