"""Topologies beside each other: many simulated runs, over processes, each kept on disk once it is finished.

A comparison is a list of jobs: for each (fold, seed) one gossip run a topology, and the baselines that they share
(pooled, local-only, a server). A finished job is one JSON file, so that a second call computes only what is
missing. What comes of them is tabulated by ``p2pser.experiments.tables``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pser.config import Config
from p2pser.errors import ConfigError, TopologyError
from p2pser.peer.files import write_json
from p2pser.speech.cache import settings_key
from p2pser.topology import spec
from p2pser.topology.spec import Topology
from p2pser.version import __version__

if TYPE_CHECKING:
    from p2pser.learning.metrics import Predictions
    from p2pser.speech.federation import Federation

BASELINES = ("pooled", "local-only", "server")
FORM = 1
"""Version of a result's file: another one is computed again."""


@dataclass(frozen=True)
class Job:
    """One run. kind: ``gossip`` or one of ``BASELINES``; topology: as it was named, ``""`` for a baseline."""

    kind: str
    topology: str
    seed: int
    fold: int

    def file(self, label: str) -> str:
        """Return the name of its result's file; ``label`` is the topology's name."""
        return f"{self.kind}{'-' + label if label else ''}-fold{self.fold}-seed{self.seed}.json"


@dataclass(frozen=True)
class Comparison:
    """What is compared. topologies: by label, in order; seeds and folds: which. config: the settings of all runs."""

    config: Config
    topologies: dict[str, Topology]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    out: Path

    @property
    def peers(self) -> int:
        """N, the same in all topologies."""
        return next(iter(self.topologies.values())).size

    @property
    def hub(self) -> int | None:
        """The peer that holds no clips, the same in all topologies; None where all hold some."""
        return next(iter(self.topologies.values())).hub

    def jobs(self) -> list[Job]:
        """Return all jobs, those of one (fold, seed) together, since they share their data."""
        kinds = [("gossip", label) for label in self.topologies] + [(kind, "") for kind in BASELINES]
        return [Job(kind, label, seed, fold) for fold in self.folds for seed in self.seeds for kind, label in kinds]

    def path(self, job: Job) -> Path:
        """Return where the job's result lies."""
        return self.out / "runs" / job.file(job.topology)

    def fingerprint(self, job: Job) -> str:
        """Return what must be equal for a stored result to count: settings, features' code, data, graph, version."""
        tree = {
            "form": FORM,
            "version": __version__,
            "settings": self.configured(job).shared(),
            "features": settings_key(self.config.features),
            "corpus": self.config.corpus.model_dump(mode="json", exclude={"fold"}),
            "gossip": self.config.gossip.model_dump(mode="json"),
            "every": self.config.peer.evaluate_every,
            "peers": self.peers,
            "graph": self.topologies[job.topology].digest() if job.topology else "",
            "job": [job.kind, job.seed, job.fold],
        }
        if self.hub is not None:
            tree["hub"] = self.hub
        return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=16).hexdigest()

    def configured(self, job: Job) -> Config:
        """Return the settings of one job: the comparison's with its seed and fold."""
        return self.config.with_settings([f"seed={job.seed}", f"corpus.fold={job.fold}"])

    def stored(self, job: Job) -> dict[str, Any] | None:
        """Return a finished job's result, or None where it is missing, torn or of other settings."""
        try:
            document: dict[str, Any] = json.loads(self.path(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        right = isinstance(document, dict) and document.get("fingerprint") == self.fingerprint(job)
        return document if right else None


def prepare(
    config: Config,
    topologies: Sequence[str],
    peers: int | None,
    seeds: int,
    folds: str,
    out: Path,
    *,
    progress: bool = False,
) -> Comparison:
    """Return the comparison, its corpus read and its features in the cache (so that workers find them there).

    topologies: names or files. peers: size of all, or None for the files'. seeds: how many, from ``config.seed``
    on. folds: ``all``, or fold numbers with commas between them.

    Raises ConfigError, TopologyError, CorpusError where these do not fit.
    """
    from p2pser.speech.federation import federate

    loaded: dict[str, Topology] = {}
    for name in topologies:
        topology = spec.load(name, peers)
        label = topology.name
        if label in loaded:
            raise ConfigError(f"the topology {label!r} is named twice in the comparison: name each once")
        loaded[label] = topology
    if not loaded:
        raise ConfigError("there is nothing to compare: name at least one topology, for example ring,torus")
    sizes = {label: topology.size for label, topology in loaded.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{label} {size}" for label, size in sizes.items())
        raise TopologyError(f"the topologies have different numbers of peers ({said}): give one with --peers")
    if len({topology.hub for topology in loaded.values()}) > 1:
        said = ", ".join(f"{label} {'none' if one.hub is None else one.hub}" for label, one in loaded.items())
        raise TopologyError(f"the topologies have different hubs ({said}), so their clips would be dealt differently: "
                            "compare those without a hub; a server is among the baselines of every comparison")
    if seeds < 1:
        raise ConfigError(f"{seeds} seeds make no run: take at least 1")
    chosen = fold_numbers(config, folds)
    whole = config.with_settings([f"corpus.fold={chosen[0]}"])
    comparison = Comparison(config, loaded, tuple(range(config.seed, config.seed + seeds)), chosen, out)
    federate(whole, comparison.peers, hub=comparison.hub, progress=progress)
    return comparison


def fold_numbers(config: Config, folds: str) -> tuple[int, ...]:
    """Return the folds that ``all`` or ``0,2`` means. Raises ConfigError for numbers that are none."""
    if folds != "all":
        parts = [part.strip() for part in folds.split(",")]
        if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
            raise ConfigError(f"--folds {folds!r}: write all, or fold numbers with commas between them, such as 0,2")
        return tuple(int(part) for part in parts)
    from p2pser.speech import corpora
    from p2pser.speech.federation import choose_labels, with_labels
    from p2pser.speech.folds import folds as folds_of

    whole = corpora.load(config.corpus.name, config.corpus.data, seed=config.corpus.seed)
    corpus = with_labels(whole, choose_labels(whole, config.corpus.labels))
    return tuple(range(len(folds_of(corpus, config.corpus.split))))


def run(
    comparison: Comparison, *, workers: int | None = None, done: Callable[[Job, bool], None] | None = None
) -> dict[Job, dict[str, Any]]:
    """Return the results of all jobs, computing in ``workers`` processes (default: one a processor) what is missing.

    done: called in this process for each job, with whether it was found on disk. What was finished when a job
    fails or the user interrupts stays on disk.
    """
    results: dict[Job, dict[str, Any]] = {}
    missing: list[Job] = []
    for job in comparison.jobs():
        document = comparison.stored(job)
        if document is None:
            missing.append(job)
        else:
            results[job] = document
            if done is not None:
                done(job, True)
    (comparison.out / "runs").mkdir(parents=True, exist_ok=True)
    for job, document in _computed(comparison, missing, workers or os.cpu_count() or 1):
        document["fingerprint"] = comparison.fingerprint(job)
        write_json(comparison.path(job), document)
        results[job] = document
        if done is not None:
            done(job, False)
    return {job: results[job] for job in comparison.jobs()}


def _computed(comparison: Comparison, jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Yield each job with its result as it is finished."""
    def arguments(job: Job) -> tuple[Job, Config, Topology | None, int, int | None]:
        topology = comparison.topologies[job.topology] if job.topology else None
        return job, comparison.configured(job), topology, comparison.peers, comparison.hub

    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, execute(*arguments(job))
        return
    # spawn: a forked child would inherit torch's and numba's threads in whatever state they are.
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), _one_thread) as pool:
        futures: dict[Future[dict[str, Any]], Job] = {pool.submit(execute, *arguments(job)): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@lru_cache(maxsize=2)
def _federation(settings: str, peers: int, hub: int | None) -> Federation:
    from p2pser.speech.federation import federate

    return federate(Config.model_validate_json(settings), peers, hub=hub)


def execute(job: Job, config: Config, topology: Topology | None, peers: int, hub: int | None = None) -> dict[str, Any]:
    """Run one job and return its result as plain data; ``hub`` is a peer that holds no clips."""
    from p2pser.experiments import baselines
    from p2pser.simulation.engine import simulate

    federation = _federation(config.model_dump_json(), peers, hub)
    if federation.test is None:
        raise ConfigError("a comparison needs held-out clips: corpus.split none leaves none")
    document: dict[str, Any] = {
        "job": job.__dict__,
        "test": {"targets": federation.test.labels.tolist(), "speakers": list(federation.test.speakers)},
        "labels": list(federation.labels),
        "corpus": {"name": federation.corpus.name, "version": federation.corpus.version,
                   "synthetic": federation.corpus.synthetic},
        "normalise": federation.normalise,
        "speaker_overlap": federation.speaker_overlap,
        "notes": list(federation.notes),
    }
    if job.kind == "pooled":
        return {**document, "predicted": _said(baselines.pooled(config, federation).predictions)}
    if job.kind == "local-only":
        return {**document, "predicted": _said(baselines.local_only(config, federation).predictions)}
    if job.kind == "server":
        done = baselines.fedavg(config, federation)
    else:
        assert topology is not None
        done = simulate(config, topology, federation, each_peer=False)
    assert done.predictions is not None
    return {
        **document,
        "predicted": _said([done.predictions]),
        "predicted_peers": _said(done.peer_predictions),
        "history": [round.to_dict() for round in done.history],
        "slem": done.slem,
        "parameters": done.schema.size,
        "bytes_per_peer": float(done.bytes_training.mean()),
        "bytes_final_per_peer": float(done.bytes_final.mean()),
        "final": {"exchanges": done.final.exchanges, "distance": done.final.distance,
                  "converged": done.final.converged},
        "wall_s": done.wall_s,
    }


def _said(predictions: Sequence[Predictions]) -> list[list[int]]:
    return [one.predicted.tolist() for one in predictions]
