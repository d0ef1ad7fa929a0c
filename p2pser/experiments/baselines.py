"""The baselines of gossip: each peer alone, one model on all clips, and a server.

All take the same number of clips from the same training set over the same rounds, with the same learning rate
schedule, start and model. A hub, which holds no clips, counts in none of them:

* **local-only**: each peer takes its K local steps a round from its own row and never mixes. With ``global``
  normalisation it has its own clips' statistics only, as it would alone.
* **pooled**: one model on all peers' clips. The peers of a federation draw K * sum_i b_i clips a round in N
  batches side by side (b_i: the batch size, or all clips of a peer with fewer); one learner draws the same
  number in batches of min(64, sum_i b_i), with correspondingly more steps than K where 64 is the smaller.
* **pooled-steps**: as pooled, with the peers' number of steps too: K a round, each on a batch of sum_i b_i. So it is
  what the peers would reach if they exchanged all gradients in every step; what pooled gains over it is due to more
  steps on smaller batches, not to the clips being in one place.
* **server FedAvg**: all clients train and a hub averages, by ``gossip.weighting``, after each round.
* **voting**: the models of local-only predict together, by the mean of their probabilities. It takes the place of
  the server where models have no mean (trees).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from scipy.special import softmax

from p2pser.base.seeding import EVERYBODY
from p2pser.base.threads import torch_threads
from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Ccc, Outputs, ccc_of_several
from p2pser.experiments.differences import mean_known
from p2pser.features.federation import Examples, Federation, no_examples
from p2pser.features.normalisation import Statistics, from_sums, sums
from p2pser.graph import graphs
from p2pser.graph.spec import Topology
from p2pser.models import for_run
from p2pser.models.widths import of_width
from p2pser.run.participant import Cohort, together
from p2pser.run.session import train_alone
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation
from p2pser.training.at_once import Choice

POOLED_BATCH = 64
"""Largest batch of the pooled run [clips]."""


@dataclass(frozen=True)
class Baseline:
    """The outputs of each model (pooled: one; local-only: one of each peer, ascending) on the held-out clips."""

    name: str
    outputs: tuple[Outputs, ...]

    @property
    def predictions(self) -> tuple[Predictions, ...]:
        """Each model's predictions of emotions; empty where none is learned."""
        return tuple(model.predictions for model in self.outputs if model.predictions is not None)

    @property
    def uar(self) -> float | None:
        """Mean over the models of the UAR on the held-out clips; None where no emotion is learned."""
        return mean_known(model.uar for model in self.outputs)

    @property
    def ccc(self) -> Ccc | None:
        """Mean over the models of each dimension's CCC; None where none is learned."""
        return ccc_of_several([model.ccc for model in self.outputs])[0]


Progress = Callable[[int], None]
"""Called with the number of rounds done."""


def pooled(config: Config, federation: Federation, progress: Progress | None = None) -> Baseline:
    """Train one model on all peers' clips (see the module's docstring)."""
    return _pooled("pooled", config, federation, POOLED_BATCH, progress)


def pooled_steps(config: Config, federation: Federation, progress: Progress | None = None) -> Baseline:
    """Train one model on all peers' clips in as many steps as a peer takes (see the module's docstring)."""
    return _pooled("pooled-steps", config, federation, None, progress)


def _pooled(name: str, config: Config, federation: Federation, largest: int | None,
            progress: Progress | None) -> Baseline:
    """Train one model on all peers' clips, in batches of at most ``largest`` clips, or of those of all peers."""
    config, held = for_run(config, 1), _held(federation)
    clips = sum(min(config.training.batch_size, len(examples)) for examples in held.values())
    batch = clips if largest is None else min(largest, clips)
    steps = math.ceil(config.training.local_steps * clips / batch)
    training = config.training.model_copy(update={"batch_size": batch, "local_steps": steps})
    everything = together([held[i] for i in sorted(held)])
    statistics = from_sums(sums(everything.features)) if federation.normalise == "global" else None
    cohort = Cohort(config, federation, {EVERYBODY: everything}, training=training)
    return Baseline(name, _train(cohort, statistics, progress))


def local_only(config: Config, federation: Federation, progress: Progress | None = None) -> Baseline:
    """Train each peer alone (see the module's docstring)."""
    config, held = for_run(config, 1), _held(federation)
    if federation.normalise != "global":
        return Baseline("local-only", _train(Cohort(config, federation, held), None, progress))
    outputs: list[Outputs] = []
    for i in sorted(held):
        own = from_sums(sums(held[i].features))
        outputs.extend(_train(Cohort(config, federation, {i: held[i]}), own, progress))
    return Baseline("local-only", tuple(outputs))


def voting(config: Config, federation: Federation, progress: Progress | None = None) -> Baseline:
    """Train each peer alone, and predict by the mean of their models' probabilities."""
    alone = local_only(config, federation, progress).predictions
    chances = np.mean([softmax(predictions.logits, axis=1) for predictions in alone], axis=0)
    voted = dataclasses.replace(alone[0], predicted=chances.argmax(axis=1), logits=np.log(chances))
    return Baseline("voting", (Outputs(voted, None),))


def fedavg(config: Config, federation: Federation) -> Simulation:
    """Run federated averaging with a server; where the federation has no hub, one is added beside its peers."""
    hub = next((i for i, examples in federation.train.items() if not len(examples)), len(federation.train))
    shape = next(iter(federation.train.values())).features.shape[1:]
    train = {**federation.train, hub: no_examples(shape)}
    graph = graphs.build("star", len(train))
    # A star's centre is 0; the peers keep their ids, which key their draws.
    graph = nx.relabel_nodes(graph, {0: hub, hub: 0})
    gossip = config.gossip.model_copy(update={"algorithm": "fedavg", "parameters": {}, "share": ("all",)})
    whole = of_width(config.model, max(config.model.width))  # a server averages models of one size
    open_ = config.privacy.model_copy(update={"epsilon": None})
    return simulate(config.model_copy(update={"gossip": gossip, "model": whole, "privacy": open_}),
                    Topology("server", graph, {}, "metropolis", {}, hub=hub),
                    dataclasses.replace(federation, train=train), each_peer=False)


def _held(federation: Federation) -> dict[int, Examples]:
    """The clips of the peers that hold any."""
    return {i: examples for i, examples in federation.train.items() if len(examples)}


def _train(cohort: Cohort, statistics: Statistics | None, progress: Progress | None) -> tuple[Outputs, ...]:
    """Return the models' outputs after all rounds without any exchange; the targets' statistics are each peer's own."""
    training = cohort.config.training
    cohort.prepare_alone(statistics).choice = Choice(training.at_once, training.rounds,
                                                     device=training.device)
    with torch_threads(cohort.config.training.threads):
        rows = train_alone(cohort, cohort.config.training.rounds, progress or (lambda done: None))
    with torch.inference_mode():
        return tuple(cohort.evaluate(row.clone(), i) for i, row in zip(cohort.peers, rows))
