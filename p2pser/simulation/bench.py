"""What training and its evaluation need beside a mixer: the network, each peer's local work, the held-out
clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from p2pser import models
from p2pser.config import Config, TrainingSettings
from p2pser.errors import CorpusError
from p2pser.learning import metrics
from p2pser.learning.inference import logits
from p2pser.learning.learner import Learner, LocalWork
from p2pser.learning.metrics import Predictions
from p2pser.models.rows import Schema
from p2pser.speech.federation import Examples, Federation, normalised
from p2pser.speech.normalise import Statistics


class Bench:
    """One network, bound to any row; the local work of several peers; the held-out clips.

    examples: who trains on what, by the id that keys the peer's draws (a hub on nothing).
    statistics: the training statistics
    where normalisation is ``global``. training: the local work's settings, where they are not the run's.
    Raises CorpusError, ModelError where the run's settings and the data do not fit.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        examples: Mapping[int, Examples],
        statistics: Statistics | None = None,
        training: TrainingSettings | None = None,
    ) -> None:
        how = federation.normalise
        shape = next(iter(examples.values())).features.shape[1:]
        self.classes = len(federation.labels)
        self.module = models.build(config.model, shape, self.classes, config.seed)
        self.schema = Schema.of(self.module)
        self.start = self.schema.flatten(self.module)
        """The row (D,) float32 that every peer begins with."""
        self.peers = tuple(sorted(examples))
        self.local = LocalWork(
            [
                Learner(
                    self.module,
                    self.schema,
                    training or config.training,
                    torch.from_numpy(normalised(examples[i], how, statistics)),
                    torch.from_numpy(examples[i].labels),
                    seed=config.seed,
                    peer=i,
                    idle=len(examples[i]) == 0,
                )
                for i in self.peers
            ]
        )
        self._test = federation.test
        self._features = None if self._test is None else normalised(self._test, how, statistics)

    @property
    def tests(self) -> bool:
        """Whether there are held-out clips."""
        return self._test is not None

    def predictions(self, row: Tensor) -> Predictions:
        """Return what the model with parameters ``row`` (D,) says of the held-out clips.

        Raises CorpusError where nothing is held out.
        """
        if self._test is None or self._features is None:
            raise CorpusError("no clips are held out (corpus.split is none), so there is nothing to evaluate on")
        self.schema.bind(self.module, row.to(torch.float32).contiguous())
        raw = logits(self.module, self._features)
        test = self._test
        return Predictions.of(test.labels, raw.argmax(axis=1), test.speakers, self.classes, logits=raw,
                              genders=test.genders, paths=test.paths)

    def uar(self, row: Tensor) -> float | None:
        """Return the UAR of the model with parameters ``row`` on the held-out clips; None without any."""
        return metrics.uar_pooled(self.predictions(row)) if self.tests else None


def together(examples: Sequence[Examples]) -> Examples:
    """Return several peers' examples as one."""
    return Examples(
        features=np.concatenate([one.features for one in examples]),
        labels=np.concatenate([one.labels for one in examples]),
        speakers=tuple(speaker for one in examples for speaker in one.speakers),
        paths=tuple(path for one in examples for path in one.paths),
        genders=tuple(gender for one in examples for gender in one.genders),
    )
