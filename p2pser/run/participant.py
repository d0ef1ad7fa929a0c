"""The peers that a process hosts, before any network: their clips, networks and local work, and the held-out clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser import models
from p2pser.base.errors import CorpusError, LocalProtocolError
from p2pser.base.registries import FAMILIES
from p2pser.base.wording import counted
from p2pser.config import Config, TrainingSettings
from p2pser.corpora.spread import AUTO
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Outputs
from p2pser.features.federation import Examples, Federation, no_examples, normalised, normalised_copies
from p2pser.features.normalisation import Statistics, from_sums
from p2pser.features.normalisation import sums as sums_of
from p2pser.features.public import SOURCE, public_statistics
from p2pser.models.inference import logits
from p2pser.models.nested import Nested, nest
from p2pser.models.rows import outline
from p2pser.models.start import Start
from p2pser.models.widths import width_of
from p2pser.run.budget import check_units
from p2pser.training.hosted import LocalWork
from p2pser.training.local_work import learner
from p2pser.training.subnetwork import RowLearner, SubnetworkLearner
from p2pser.training.target_statistics import Asked, TargetStatistics
from p2pser.wire.labels import MOST

FEWEST = 2
"""The fewest emotions of a model."""


@dataclass(frozen=True)
class Participant:
    """A hosted peer: its id, its training clips and its network."""

    id: int
    examples: Examples
    width: float
    network: Nested


class Cohort:
    """The participants that one process hosts: one in a peer's process, all of them in a simulation.

    Parameters
    ----------
    config : the run's settings.
    federation : the data. Only the hosted peers' clips and the held-out clips are used.
    examples : the training clips by peer id, which keys a peer's random draws; a hub has none.
    compact : rows have the entries of their peer's own network only (in a process that hosts one peer). Otherwise rows
        are those of the whole network, with zeros where a peer's network has no parameter.
    training : the settings of local work; default: the run's.
    draws : a secret number that keys the random draws of local work; default: the run's seed.
    agreed : whether the federation's labels are those of the run. If not, the networks have ``FEWEST`` classes until
        ``learn``.

    Raises CorpusError, ModelError or ConfigError where the settings and the data do not fit.
    """

    def __init__(self, config: Config, federation: Federation, examples: Mapping[int, Examples], *,
                 compact: bool = False, training: TrainingSettings | None = None, draws: int | None = None,
                 agreed: bool = True) -> None:
        self.config, self.compact = config, compact
        self.agreed = agreed
        """Whether the emotions of the run are known."""
        self.training = training or config.training
        self._draws = config.seed if draws is None else draws
        self.peers = tuple(sorted(examples))
        self.start = Start.of(config)
        """The model from which the run starts; None: the initial parameters are drawn."""
        if self.start is not None:
            self.start.require_fit(config, federation.normalise)
        self._warnings = check_units(config, federation, examples)
        self._shape = examples[self.peers[0]].features.shape[1:]
        self.declared = federation.normalise
        """The scaling of features in the settings, before the peers agree; equal at all peers."""
        self._make(federation, examples)
        self.marks = self.whole.schema.digest(), outline(self.whole.start)
        """Digest of the whole network's schema and outline of its start, before ``learn``: equal at all peers."""

    def learn(self, labels: tuple[str, ...]) -> None:
        """Make the networks for these emotions, which include all of the federation's.

        Call it before ``prepare``. Raises ModelError for fewer than 2.
        """
        self.agreed = True
        soft = self.training.soft_labels and self.training.task != "dimensions"
        federation = self.federation.relabelled(labels, soft)
        self._make(federation, {i: federation.train[i] for i in self.peers})

    @property
    def largest(self) -> int:
        """The largest number of parameters of the whole network: each emotion adds the same number."""
        size = self.whole.schema.size
        if self.agreed:
            return size
        outputs = models.outputs(self.config.training.task, FEWEST + 1)
        more = nest(self.config.model, self._shape, outputs, self.config.seed, ())[1.0].schema.size
        return size + (MOST - FEWEST) * (more - size)

    def _make(self, federation: Federation, examples: Mapping[int, Examples]) -> None:
        """Make the networks, participants and schema for the data and its number of classes."""
        self.federation = federation
        self.classes = len(federation.labels) if self.agreed else FEWEST
        widths = {i: width_of(self.config.model, i) for i in self.peers}
        self.networks = self.networks_of(widths.values())
        """The networks by width; the whole one (1.0) is always among them."""
        self.participants = tuple(Participant(i, examples[i], widths[i], self.networks[widths[i]]) for i in self.peers)
        self.schema = self.participants[0].network.schema if self.compact else self.whole.schema
        """The layout of a row."""
        self.asked = self._asks(federation.normalise)
        """The sums over all peers' clips that the local work needs."""
        self._statistics: Statistics | None = None
        self._work: LocalWork | None = None
        self._test: NDArray[np.float32] | None = None

    @property
    def agrees_on_scaling(self) -> bool:
        """Whether the peers of the run agree on how features are scaled."""
        return self.declared == AUTO

    def scale(self, how: str) -> None:
        """Scale features as the peers of the run have agreed (speaker or global). Call it before ``prepare``."""
        self.federation = self.federation.scaled(how)
        self.asked = self._asks(how)

    @property
    def scaled(self) -> bool:
        """Whether the scaling of features is known."""
        return self.federation.normalise != AUTO

    @property
    def lengths(self) -> tuple[int, ...]:
        """The possible lengths of a row of ``sums``: one, or two while the scaling of features is unknown."""
        return tuple(map(self.length, (self.federation.normalise,) if self.scaled else ("global", "speaker")))

    def length(self, how: str) -> int:
        """Return the length of a row of ``sums`` if features are scaled in this way."""
        return len(self._asks(how).sums(no_examples(self._shape)))

    def _asks(self, how: str) -> Asked:
        common = how == "global" or (how == "speaker" and (self.config.augment.unenrolled
                                                           or self.config.training.held_out > 0))
        return Asked.of(self.training, self.classes, clips=FAMILIES[self.config.model.name].weighs_clips,
                        features=self._shape if common else None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user about the budget and the model from which the run starts."""
        start = self.start
        return self._warnings if start is None else (*self._warnings, start.in_words(self.federation.labels))

    @property
    def whole(self) -> Nested:
        """The whole network, of which a participant's network may be a part."""
        return self.networks[1.0]

    @property
    def widths(self) -> dict[int, float]:
        """The width of each participant's network."""
        return {participant.id: participant.width for participant in self.participants}

    @property
    def tests(self) -> bool:
        """Whether there are held-out clips."""
        return self.federation.test is not None

    def networks_of(self, widths: Iterable[float]) -> dict[float, Nested]:
        """Return new networks of these widths, the whole one among them, all with the run's initial parameters."""
        outputs = models.outputs(self.config.training.task, self.classes)
        model, labels = self.config.model, self.federation.labels if self.agreed else ()
        begin = {} if self.start is None else {"begin": partial(self.start.row, model, self._shape, labels)}
        return nest(model, self._shape, outputs, self.config.seed, widths, **begin)

    def initial(self) -> Tensor:
        """Return the initial rows (B, D) float32 of the participants."""
        return torch.stack([participant.network.start if self.compact else self.whole.start * participant.network.held
                            for participant in self.participants])

    # Statistics and local work ------------------------------------------------------------------------------

    def sums(self) -> Tensor:
        """Return the sums ``asked`` over each participant's clips, (B, S) float64; S = 0 if none are."""
        return torch.from_numpy(np.stack([self.asked.sums(each.examples) for each in self.participants]))

    def prepare(self, sums: Tensor, peers: int, report: Callable[[int, int], None] | None = None) -> LocalWork:
        """Make the local work of all participants and scale the held-out clips.

        Parameters
        ----------
        sums : (S,) float64, the mean over all peers of the rows of ``sums``.
        peers : the number of peers over which ``sums`` is the mean.
        report : called with (peer, k) after local step k.
        """
        features, targets = self.asked.read(sums.numpy() * peers)
        return self.prepare_alone(None if features is None else from_sums(features), targets, report)

    def prepare_alone(self, statistics: Statistics | None, targets: TargetStatistics | None = None,
                      report: Callable[[int, int], None] | None = None) -> LocalWork:
        """Make the local work with given statistics.

        Parameters
        ----------
        statistics : of the features; None if they are not normalised by all peers' clips. Public statistics replace it.
        targets : of the targets; None: each participant's own, as for a peer that trains alone.
        report : called with (peer, k) after local step k.
        """
        if self.federation.normalise == "public":
            statistics = public_statistics(self.config.features)
        self._statistics = statistics
        self._work = LocalWork([self._learner(participant, statistics, targets) for participant in self.participants],
                               report)
        test = self.federation.test
        self._test = None if test is None else normalised(test, self.federation.normalise, self.statistics)
        return self._work

    @property
    def statistics(self) -> Statistics | None:
        """The training statistics of features for a model's card; None if it has none.

        They are of all peers' clips if features are normalised by these. If features are normalised by speaker, they
        are of the hosted peers' clips: they only serve speakers who cannot be enrolled, so no other peer sends its own.
        """
        own = [participant.examples.features for participant in self.participants if len(participant.examples)]
        if self.config.privacy.epsilon is not None:
            return self._statistics  # statistics of a peer's own clips would exceed the budget
        if self._statistics is None and self.federation.normalise == "speaker" and own:
            return from_sums(np.sum([sums_of(features) for features in own], axis=0))
        return self._statistics

    @property
    def statistics_of(self) -> str:
        """A description of the clips behind ``statistics``."""
        if self.federation.normalise == "public":
            return SOURCE
        if self._statistics is not None or not self.compact:
            return "the training speakers"
        clips, speakers = len(self.participants[0].examples), len(set(self.participants[0].examples.speakers))
        return f"peer {self.peers[0]}'s own {clips} clips ({counted(speakers, 'speaker')})"

    def rest(self) -> None:
        """Free the memory of the local work until it goes on: gradients, and the rows trained last."""
        for network in self.networks.values():
            network.schema.rest(network.module, network.start)

    @property
    def prepared(self) -> bool:
        """Whether the local work is made."""
        return self._work is not None

    @property
    def work(self) -> LocalWork:
        """The local work; LocalProtocolError before ``prepare``."""
        if self._work is None:
            raise LocalProtocolError("the cohort's local work is used before it is prepared")
        return self._work

    def _learner(self, participant: Participant, statistics: Statistics | None, targets: TargetStatistics | None
                 ) -> RowLearner:
        examples, network = participant.examples, participant.network
        how, features, common = self.federation.normalise, examples.features, statistics
        if how == "speaker" and len(features) and self.config.privacy.epsilon is None:
            # Of this peer's clips only: no peer sends its own. With a budget no speaker's clips may scale another's.
            statistics = from_sums(sums_of(features))
        copies = normalised_copies(examples, how, statistics)
        if how == "speaker" and self.config.augment.unenrolled and statistics is not None and len(features):
            strange = (common or statistics).apply(features)[None]
            copies = strange if copies is None else np.concatenate([copies, strange])
        own = learner(network.module, network.schema, self.config, examples, normalised(examples, how, statistics),
                      self.federation.labels, peer=participant.id, draws=self._draws, target_statistics=targets,
                      training=self.training, copies=copies)
        return own if self.compact or participant.width == 1 else SubnetworkLearner(own, network, self.schema)

    # Evaluation ---------------------------------------------------------------------------------------------

    def evaluate(self, row: Tensor, peer: int | None = None) -> Outputs:
        """Return the outputs for the held-out clips of the model with parameters ``row`` (D,).

        peer : the peer to whose network the row belongs; None: the widest participant's. Raises CorpusError where no
        clips are held out, or before ``prepare``.
        """
        test = self.federation.test
        if test is None or self._test is None:
            raise CorpusError("no clips are held out (corpus.split is none), so a model cannot be evaluated")
        return Outputs.of(logits(self.bound(row, peer), self._test), test, self.config.training.task, self.classes)

    def bound(self, row: Tensor, peer: int | None) -> torch.nn.Module:
        """Return the network of a peer (None: the widest participant's) with the parameters ``row`` (D,)."""
        widths = self.widths
        network = self.networks[max(widths.values()) if peer is None else widths[peer]]
        parameters = row.to(torch.float32)
        network.schema.bind(network.module, parameters.clone() if self.compact else network.own(parameters))
        return network.module

    def predictions(self, row: Tensor, peer: int | None = None) -> Predictions:
        """Return the emotions predicted for the held-out clips; see ``evaluate``.

        Raises CorpusError where no clips are held out, or no emotion is learned.
        """
        predictions = self.evaluate(row, peer).predictions
        if predictions is None:
            raise CorpusError("no emotions are learned (training.task is dimensions), or no held-out clip has one")
        return predictions


def size_of(config: Config, federation: Federation, peers: int) -> int:
    """Return the number of parameters of the whole network of a run of so many peers."""
    shape = next(iter(federation.train.values())).features.shape[1:]
    outputs = models.outputs(config.training.task, len(federation.labels))
    return nest(models.for_run(config, peers).model, shape, outputs, config.seed, ())[1.0].schema.size


def together(examples: Sequence[Examples]) -> Examples:
    """Return several peers' examples as one."""
    def joined(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(value for part in values for value in part)

    return Examples(
        features=np.concatenate([part.features for part in examples]),
        labels=np.concatenate([part.labels for part in examples]),
        speakers=joined([part.speakers for part in examples]),
        paths=joined([part.paths for part in examples]),
        genders=joined([part.genders for part in examples]),
        languages=joined([part.languages for part in examples]),
        soft=_stacked([part.soft for part in examples]),
        dimensions=_stacked([part.dimensions for part in examples]),
        copies=_stacked([part.copies for part in examples], axis=1),
    )


def _stacked(parts: Sequence[NDArray[np.float32] | None], axis: int = 0) -> NDArray[np.float32] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis) if len(known) == len(parts) else None
