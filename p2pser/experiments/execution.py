"""One job of a comparison: the run that it stands for, and what is kept of it, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.config import Config, TrainingSettings
from p2pser.topology.spec import Topology

if TYPE_CHECKING:
    from p2pser.evaluation.outputs import Outputs
    from p2pser.experiments.compare import Job
    from p2pser.features.federation import Federation
    from p2pser.simulation.results import Simulation


@lru_cache(maxsize=2)
def _federation(settings: str, peers: int, hub: int | None) -> Federation:
    from p2pser.features.federation import federate

    return federate(Config.model_validate_json(settings), peers, hub=hub)


def execute(job: Job, config: Config, topology: Topology | None, peers: int, hub: int | None = None) -> dict[str, Any]:
    """Run one job and return its result as plain data; ``hub`` is a peer that holds no clips."""
    from p2pser.experiments import baselines, enrolment
    from p2pser.simulation.engine import simulate

    # What is dealt depends on these alone: runs that differ in anything else share their data.
    training = TrainingSettings(task=config.training.task, soft_labels=config.training.soft_labels)
    dealt = Config(seed=config.seed, corpus=config.corpus, features=config.features, augment=config.augment,
                   training=training)
    federation = _federation(dealt.model_dump_json(), peers, hub)
    if job.inner is not None:
        from p2pser.experiments import tuning

        federation = tuning.inner(federation, *job.inner)
    if federation.test is None:
        raise ConfigError("a comparison needs held-out clips: corpus.split none leaves none")
    document: dict[str, Any] = {
        "job": asdict(job),
        "labels": list(federation.labels),
        "corpus": {"name": federation.corpus.name, "version": federation.corpus.version,
                   "synthetic": federation.corpus.synthetic},
        "normalise": federation.normalise,
        "speaker_overlap": federation.speaker_overlap,
        "notes": list(federation.notes),
    }
    if job.kind == "pooled":
        return {**document, **_told(baselines.pooled(config, federation).answers)}
    if job.kind == "local-only":
        return {**document, **_told(baselines.local_only(config, federation).answers)}
    if job.kind == "voting":
        return {**document, **_told(baselines.voting(config, federation).answers)}
    if job.kind == "server":
        done = baselines.fedavg(config, federation)
    else:
        assert topology is not None
        done = simulate(config, topology, federation, each_peer=not _agrees(config))
    return {
        **document,
        **_told(results(done)),
        "predicted_peers": [one.predicted.tolist() for one in done.peer_predictions],
        "predicted_enrolled": enrolment.predicted(done) if job.kind == "gossip" and job.inner is None else {},
        "history": [round.to_dict() for round in done.history],
        "slem": done.slem,
        "parameters": done.schema.size,
        "bytes_per_peer": float(done.bytes_training.mean()),
        "messages_per_peer": float(done.messages_training.mean()),
        "bytes_final_per_peer": float(done.bytes_final.mean()),
        "final": {"exchanges": done.final.exchanges, "converged": done.final.converged,
                  "distance": done.final.distance if math.isfinite(done.final.distance) else None},
        "wall_s": done.wall_s,
    }


def _agrees(config: Config) -> bool:
    """Whether a run ends with one model, so that the peers' own need not be evaluated on the way."""
    from p2pser.base.registries import ALGORITHMS

    method = ALGORITHMS[config.gossip.algorithm]
    whole = config.gossip.share == ("all",) and set(config.model.width) == {1.0}
    return whole and (method.consensus or method.served or method.boosts)


def results(run: Simulation) -> Sequence[Outputs]:
    """Return the answers of the models that a run ends with: the consensus model's, or each peer's where they keep
    parts of their own, or end without a consensus (robust rules).
    """
    from p2pser.base.registries import ALGORITHMS

    if run.final_answers:
        return run.final_answers
    method = ALGORITHMS[run.config.gossip.algorithm]
    agreed = method.consensus or run.final.converged
    return [run.answers] if run.answers is not None and agreed else run.peer_answers


def _told(answers: Sequence[Outputs]) -> dict[str, Any]:
    """What models answered, of which clips: the emotions with the logits behind them, the dimensions.

    Logits have five digits: a decision cannot be told from them where two are closer than that, so both are kept.
    """
    told: dict[str, Any] = {}
    said = [one.predictions for one in answers if one.predictions is not None]
    if said:
        told["test"] = {"targets": said[0].targets.tolist(), "speakers": list(said[0].speakers),
                        "genders": list(said[0].genders), "paths": list(said[0].paths)}
        told["predicted"] = [one.predicted.tolist() for one in said]
        raw = [one.logits for one in said if one.logits is not None]
        if len(raw) == len(said):
            told["logits"] = [[[float(f"{value:.5g}") for value in row] for row in one] for one in raw]
    rated = [one.ratings for one in answers if one.ratings is not None]
    if rated:
        told["ratings"] = {
            "targets": [[None if np.isnan(value) else value for value in row] for row in rated[0].targets.tolist()],
            "speakers": list(rated[0].speakers), "paths": list(rated[0].paths),
            "predicted": [[[float(f"{value:.5g}") for value in row] for row in one.predicted.tolist()]
                          for one in rated],
        }
    return told
