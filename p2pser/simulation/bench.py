"""What training and its evaluation need beside a mixer: the network, each peer's local work, the held-out
clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser import models
from p2pser.base.errors import CorpusError
from p2pser.config import Config, TrainingSettings
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Outputs
from p2pser.features.federation import Examples, Federation, normalised, normalised_copies
from p2pser.features.normalisation import Statistics
from p2pser.models.inference import logits
from p2pser.models.nested import nest
from p2pser.models.widths import width_of
from p2pser.training.learner import Learner, LocalWork
from p2pser.training.local_work import learner
from p2pser.training.subnetwork import SubnetworkLearner
from p2pser.training.target_statistics import TargetStatistics


class Bench:
    """One network, bound to any row; the local work of several peers; the held-out clips.

    examples: who trains on what, by the id that keys the peer's draws (a hub on nothing).
    statistics: the training statistics
    where normalisation is ``global``. training: the local work's settings, where they are not the run's.
    target_statistics: of all peers' targets; default: each learner's own.
    Raises CorpusError, ModelError where the run's settings and the data do not fit.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        examples: Mapping[int, Examples],
        statistics: Statistics | None = None,
        training: TrainingSettings | None = None,
        target_statistics: TargetStatistics | None = None,
    ) -> None:
        how = federation.normalise
        shape = next(iter(examples.values())).features.shape[1:]
        self.classes = len(federation.labels)
        self.task = config.training.task
        self.peers = tuple(sorted(examples))
        self.widths = {i: width_of(config.model, i) for i in self.peers}
        self.networks = nest(config.model, shape, models.outputs(self.task, self.classes), config.seed,
                             self.widths.values())
        """By width; the whole one, whose rows all peers' are, is there too."""
        self.schema = self.networks[1.0].schema
        self.start = self.networks[1.0].start
        """The row (D,) float32 that every peer begins with, what it has of it."""

        def work(i: int) -> Learner:
            network = self.networks[self.widths[i]]
            own = learner(
                network.module,
                network.schema,
                config,
                examples[i],
                normalised(examples[i], how, statistics),
                federation.labels,
                peer=i,
                target_statistics=target_statistics,
                training=training,
                copies=normalised_copies(examples[i], how, statistics),
            )
            return own if self.widths[i] == 1 else SubnetworkLearner(own, network, self.schema)

        self.local = LocalWork([work(i) for i in self.peers])
        self._test = federation.test
        self._features = None if self._test is None else normalised(self._test, how, statistics)

    @property
    def tests(self) -> bool:
        """Whether there are held-out clips."""
        return self._test is not None

    def starts(self) -> Tensor:
        """Return the rows (B, D) that the peers begin with: 0 where a peer has nothing."""
        return torch.stack([self.start * self.networks[self.widths[i]].held for i in self.peers])

    def answers(self, row: Tensor, peer: int | None = None) -> Outputs:
        """Return what the model with parameters ``row`` (D,) says of the held-out clips: the network of a peer's width,
        or the widest.

        Raises CorpusError where nothing is held out.
        """
        if self._test is None or self._features is None:
            raise CorpusError("no clips are held out (corpus.split is none), so there is nothing to evaluate on")
        network = self.networks[max(self.widths.values()) if peer is None else self.widths[peer]]
        network.schema.bind(network.module, network.own(row.to(torch.float32)))
        return Outputs.of(logits(network.module, self._features), self._test, self.task, self.classes)

    def predictions(self, row: Tensor, peer: int | None = None) -> Predictions:
        """Return the emotions that the model says of the held-out clips.

        Raises CorpusError where nothing is held out, or no emotion is learned.
        """
        found = self.answers(row, peer).predictions
        if found is None:
            raise CorpusError("no emotions are learned (training.task is dimensions), or no held-out clip has one")
        return found

    def uar(self, row: Tensor, peer: int | None = None) -> float | None:
        """Return the UAR of the model with parameters ``row`` on the held-out clips; None without any."""
        return self.answers(row, peer).uar if self.tests else None


def together(examples: Sequence[Examples]) -> Examples:
    """Return several peers' examples as one."""
    return Examples(
        features=np.concatenate([one.features for one in examples]),
        labels=np.concatenate([one.labels for one in examples]),
        speakers=tuple(speaker for one in examples for speaker in one.speakers),
        paths=tuple(path for one in examples for path in one.paths),
        genders=tuple(gender for one in examples for gender in one.genders),
        soft=_stacked([one.soft for one in examples]),
        dimensions=_stacked([one.dimensions for one in examples]),
        copies=_stacked([one.copies for one in examples], axis=1),
    )


def _stacked(parts: Sequence[NDArray[np.float32] | None], axis: int = 0) -> NDArray[np.float32] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis) if len(known) == len(parts) else None
