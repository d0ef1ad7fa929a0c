"""One run of a comparison, and what is kept of it as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.frames import finite
from p2pser.base.registries import ALGORITHMS
from p2pser.base.threads import torch_threads
from p2pser.config import Config
from p2pser.evaluation.outputs import Outputs
from p2pser.experiments import baselines, enrolment, tuning
from p2pser.experiments.conditions import Conditions
from p2pser.experiments.jobs import Document, Job
from p2pser.features.federation import Federation, federate
from p2pser.graph.spec import Topology
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation

WITHOUT_EXCHANGE = {"pooled": baselines.pooled, "pooled-steps": baselines.pooled_steps,
                    "local-only": baselines.local_only, "voting": baselines.voting}
"""The baselines in which no peer exchanges parameters."""


def execute(job: Job, config: Config, topology: Topology | None, peers: int, hub: int | None = None,
            conditions: Conditions | None = None, data: str = "") -> Document:
    """Run a job and return its result.

    Parameters
    ----------
    job : which run of the comparison.
    config : its settings (``Plan.settings``).
    topology : None for a baseline.
    peers : the number of peers over which the clips are partitioned.
    hub : the peer that holds no clips, if there is one.
    conditions : what goes wrong in a gossip run, and what time costs; None: nothing, and no time is counted.
    data : the digest of the clips (``data_digest``): a process that has read others reads them anew.
    """
    with torch_threads(config.training.threads):  # also in the caller's own process, where torch has all processors
        return _executed(job, config, topology, peers, hub, conditions, data)


def _executed(job: Job, config: Config, topology: Topology | None, peers: int, hub: int | None,
              conditions: Conditions | None, data: str) -> Document:
    federation = _federation(_Data.of(config, peers, hub, data))
    if job.inner is not None:
        federation = tuning.inner(federation, *job.inner)
    if federation.test is None:
        raise ConfigError("a comparison needs held-out clips: corpus.split none leaves none")
    document: Document = {
        "job": asdict(job),
        "labels": list(federation.labels),
        "corpus": {"name": federation.corpus.name, "version": federation.corpus.version,
                   "synthetic": federation.corpus.synthetic},
        "normalise": federation.normalise,
        "speaker_overlap": federation.speaker_overlap,
        "notes": list(federation.notes),
        "skew": skew(federation),
        "languages": languages(federation),
        "clips": [len(federation.train[i]) for i in range(peers)],
    }
    if job.kind in WITHOUT_EXCHANGE:
        return document | _outputs(WITHOUT_EXCHANGE[job.kind](config, federation).outputs)
    if topology is None:
        return document | _run(baselines.fedavg(config, federation))
    scenario = None if conditions is None else conditions.scenario(config, topology)
    hostile = scenario is not None and bool(scenario.hostile)
    run = simulate(config, topology, federation, scenario, each_peer=hostile or not _ends_with_one_model(config))
    if job.inner is None:
        document["logits_enrolled"] = {
            str(count): predictions.logits.tolist() for count, predictions in enrolment.predicted(run).items()
            if predictions.logits is not None}
    return document | _run(run)


@dataclass(frozen=True)
class _Data:
    """What a run's data depends on; runs that differ in anything else share their federation."""

    key: str
    peers: int
    hub: int | None
    config: Config = field(compare=False)

    @classmethod
    def of(cls, config: Config, peers: int, hub: int | None, digest: str) -> _Data:
        sections = config.model_dump_json(include={
            "seed": True, "corpus": True, "features": True, "augment": True,
            "training": {"task", "soft_labels"}})
        return cls(sections + digest, peers, hub, config)


@lru_cache(maxsize=2)
def _federation(data: _Data) -> Federation:
    return federate(data.config, data.peers, hub=data.hub)


def languages(federation: Federation) -> dict[str, str]:
    """Return the language of each held-out clip, by its path, where the corpus has several; else {}."""
    corpus = federation.corpus
    if len({clip.language for clip in corpus.clips}) < 2:
        return {}
    return {corpus.relative(corpus.clips[index]): corpus.clips[index].language for index in federation.split.test}


def skew(federation: Federation) -> float:
    """Return how far the peers' emotions differ from those of all: the mean total variation distance, in [0, 1].

    Over the peers that hold labelled clips, each counting alike: 0 where all hold the same shares of the emotions.
    """
    labels = [examples.labels[examples.labels >= 0] for examples in federation.train.values()]
    counts = np.array([np.bincount(own, minlength=len(federation.labels)) for own in labels if len(own)])
    if not len(counts):
        return 0.0
    shares, overall = counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    return float(np.abs(shares - overall).sum(axis=1).mean() / 2)


def _ends_with_one_model(config: Config) -> bool:
    """Whether a run ends with one model, so that the peers' own models need no evaluation during the run."""
    method = ALGORITHMS[config.gossip.algorithm]
    whole = config.gossip.share == ("all",) and set(config.model.width) == {1.0}
    return whole and (method.consensus or method.one_model)


def final_outputs(run: Simulation) -> Sequence[Outputs]:
    """Return the outputs of the models that a run ends with: the consensus model's, or each peer's where the peers
    keep parameters of their own or end without a consensus (robust rules, hostile peers).
    """
    if run.final_outputs:
        return run.final_outputs
    method = ALGORITHMS[run.config.gossip.algorithm]
    agreed = (method.consensus and run.final.sought) or run.final.converged
    return [run.outputs] if run.outputs is not None and agreed else run.peer_outputs


def _run(run: Simulation) -> Document:
    """What is kept of a run in which peers exchange parameters."""
    return {
        **_outputs(final_outputs(run)),
        "predicted_peers": [model.predicted.tolist() for model in run.peer_predictions],
        "history": [round.to_dict() for round in run.history],
        "slem": run.slem,
        "parameters": run.schema.size,
        "bytes_per_peer": float(run.bytes_training.mean()),
        "messages_per_peer": float(run.messages_training.mean()),
        "bytes_final_per_peer": float(run.bytes_final.mean()),
        "final": {"exchanges": run.final.exchanges, "converged": run.final.converged,
                  "distance": finite(run.final.distance),
                  "distances": [finite(value) for value in run.final_distance]},
        "living": list(run.living),
        "privacy": None if run.budget is None else dict(run.budget),
        "wall_s": run.wall_s,
    }


def _outputs(models: Sequence[Outputs]) -> dict[str, Any]:
    """The outputs of models on the held-out clips: emotions, with the logits behind them, and dimensions.

    Logits have five digits. Two that differ in later digits alone would hide the decision, so both are kept.
    """
    kept: dict[str, Any] = {}
    predictions = [model.predictions for model in models if model.predictions is not None]
    if predictions:
        first = predictions[0]
        kept["test"] = {"targets": first.targets.tolist(), "speakers": list(first.speakers),
                        "genders": list(first.genders), "paths": list(first.paths)}
        kept["predicted"] = [model.predicted.tolist() for model in predictions]
        logits = [model.logits for model in predictions if model.logits is not None]
        if len(logits) == len(predictions):
            kept["logits"] = [[_rounded(row) for row in model.tolist()] for model in logits]
    ratings = [model.ratings for model in models if model.ratings is not None]
    if ratings:
        kept["ratings"] = {
            "targets": [[None if np.isnan(value) else value for value in row] for row in ratings[0].targets.tolist()],
            "speakers": list(ratings[0].speakers), "paths": list(ratings[0].paths),
            "predicted": [[_rounded(row) for row in model.predicted.tolist()] for model in ratings],
        }
    return kept


def _rounded(row: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in row]
