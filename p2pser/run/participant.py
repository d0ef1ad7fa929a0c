"""A peer's own side, for which it needs no neighbour: recordings, network, local work, evaluation, the model's card."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser import models
from p2pser.config import Config
from p2pser.evaluation.outputs import Outputs
from p2pser.features.clip_features import settings_key
from p2pser.features.federation import Federation, normalised, normalised_copies
from p2pser.features.normalisation import Statistics, from_sums
from p2pser.models.directory import Card, Origin
from p2pser.models.inference import logits
from p2pser.models.nested import Nested, nest
from p2pser.models.rows import digest
from p2pser.models.widths import of_width, widths
from p2pser.topology.spec import Topology
from p2pser.training.learner import LocalWork
from p2pser.training.local_work import learner
from p2pser.training.target_statistics import read_training_sums, training_sums
from p2pser.wire.hello import Hello, normalised_settings


class OwnSide:
    """What peer ``me`` of a run has in ``federation``, of which only its own part need be there."""

    def __init__(self, config: Config, topology: Topology, me: int, federation: Federation) -> None:
        self.config, self.topology, self.me, self.federation = config, topology, me, federation
        self.examples = federation.train[me]
        self.width = widths(config.model, topology.size)[me]
        networks = self.networks([self.width])
        self.whole = networks[1.0]
        """The widest network that a run can have, of which this peer's may be a part."""
        own = networks[self.width]
        self.module, self.schema, self.initial = own.module, own.schema, own.start
        self._statistics: Statistics | None = None
        self._test: NDArray[np.float32] | None = None

    def networks(self, widths: Iterable[float]) -> dict[float, Nested]:
        """Return the networks of these widths, the whole one among them."""
        outputs = models.outputs(self.config.training.task, len(self.federation.labels))
        return nest(self.config.model, self.examples.features.shape[1:], outputs, self.config.seed, widths)

    def hello(self, incarnation: int) -> Hello:
        """Return what this peer says of itself to its neighbours."""
        federation = self.federation
        settings = {**self.config.shared(), "features.normalise": federation.normalise,
                    "features.version": settings_key(self.config.features)}
        return Hello(
            run=self.config.name, peer=self.me, incarnation=incarnation, settings=normalised_settings(settings),
            topology=self.topology.digest(), schema=self.whole.schema.digest(), initial=digest(self.whole.start),
            labels=federation.labels, clips=len(self.examples), width=self.width)

    def sums(self) -> Tensor:
        """Return this peer's row (1, S) float64 of the sums whose totals ``local_work`` needs."""
        return torch.from_numpy(training_sums(self.examples, self.config.training, len(self.federation.labels)))[None]

    def local_work(self, sums: Tensor, clips: int, report: Callable[[int, int], None]) -> LocalWork:
        """Return the local work. sums: (1, S), the mean over all peers of theirs; clips: how many all have together."""
        federation = self.federation
        plain, target_statistics = read_training_sums(sums[0].numpy(), self.config.training, len(federation.labels),
                                                      clips)
        self._statistics = from_sums(plain)
        mine = learner(self.module, self.schema, self.config, self.examples,
                       normalised(self.examples, federation.normalise, self._statistics), federation.labels,
                       peer=self.me, target_statistics=target_statistics,
                       copies=normalised_copies(self.examples, federation.normalise, self._statistics))
        self._test = None if federation.test is None else \
            normalised(federation.test, federation.normalise, self._statistics)
        return LocalWork([mine], report)

    def measured(self, row: Tensor) -> dict[str, Any]:
        """Return ``uar`` and, where dimensions are learned, ``ccc`` on the held-out clips; None without any."""
        federation = self.federation
        if self._test is None or federation.test is None:
            return {"uar": None}
        self.schema.bind(self.module, row.to(torch.float32).clone())
        found = Outputs.of(logits(self.module, self._test), federation.test, self.config.training.task,
                           len(federation.labels))
        return {"uar": found.uar} if found.ratings is None else {"uar": found.uar, "ccc": found.ccc}

    def card(self) -> Card:
        """Return the card of a model that came out of this run."""
        federation, config = self.federation, self.config
        model = of_width(config.model, self.width)
        return Card(federation.labels, self.examples.features.shape[1:], model, config.features,
                    federation.normalise, self._statistics, Origin.of(config, federation.corpus),
                    {**config.training.model_dump(mode="json"), **config.gossip.model_dump(mode="json"),
                     "augment": config.augment.model_dump(mode="json", exclude_defaults=True),
                     "peers": self.topology.size, "topology": self.topology.name, "seed": config.seed},
                    task=config.training.task)
