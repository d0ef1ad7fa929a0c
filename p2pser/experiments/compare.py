"""Topologies and algorithms beside each other: many simulated runs, over processes, each kept on disk when finished.

A comparison is a list of jobs: for each (fold, seed) one gossip run a scheme (a topology with an algorithm), and the
baselines that they share (pooled, local-only, a server). Where a setting is tuned, it is chosen before for each scheme
and baseline on inner folds (``p2pser.experiments.tuning``). A finished job is one JSON file, so that a second call
computes only what is missing. What comes of them is tabulated by ``p2pser.experiments.report.comparison``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pser.base.atomic import write_json
from p2pser.base.errors import ConfigError, TopologyError
from p2pser.base.registries import FAMILIES
from p2pser.base.version import __version__
from p2pser.config import Config
from p2pser.experiments.execution import execute
from p2pser.features.clip_features import settings_key
from p2pser.topology import spec
from p2pser.topology.spec import Topology

if TYPE_CHECKING:
    from p2pser.evaluation.concordance import Ratings
    from p2pser.evaluation.metrics import Predictions

BASELINES = ("pooled", "local-only", "server", "voting")
"""What gossip is compared with (``p2pser.experiments.baselines``); voting where a server has nothing to average."""
COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between values, not one within a list."""

FORM = 1
"""Version of a result's file: another one is computed again."""


@dataclass(frozen=True)
class Scheme:
    """A topology, and the settings that go with it beside the comparison's (``section.field=value``).

    tune: the values of a setting that this scheme chooses from, where they are not the comparison's.
    """

    topology: Topology
    settings: tuple[str, ...] = ()
    tune: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One run. kind: ``gossip`` or one of ``BASELINES``; scheme: its label, ``""`` for a baseline.

    inner: which inner fold of how many, None for the run that counts; value: the setting that is tried there.
    """

    kind: str
    scheme: str
    seed: int
    fold: int
    inner: tuple[int, int] | None = None
    value: str = ""

    @property
    def file(self) -> str:
        """The name of its result's file."""
        label = "".join(letter if letter.isalnum() or letter in "-.=" else "_" for letter in self.scheme)
        value = self.value.replace("/", "_")
        inner = "" if self.inner is None else f"-inner{self.inner[0]}of{self.inner[1]}-{value}"
        return f"{self.kind}{'-' + label if label else ''}-fold{self.fold}-seed{self.seed}{inner}.json"


@dataclass(frozen=True)
class Comparison:
    """What is compared. schemes: by label, in order; seeds and folds: which. config: the settings of all runs.

    tune: the values of a setting (``section.field=value``) of which each scheme takes the best on ``inner`` folds;
    chosen: what was chosen, by (kind, scheme, fold), once ``run`` has tuned. kinds: which kinds of run there are.
    """

    config: Config
    schemes: dict[str, Scheme]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    out: Path
    tune: tuple[str, ...] = ()
    inner: int = 3
    chosen: dict[tuple[str, str, int], str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("gossip", *BASELINES)

    @property
    def peers(self) -> int:
        """N, the same in all topologies."""
        return next(iter(self.schemes.values())).topology.size

    @property
    def hub(self) -> int | None:
        """The peer that holds no clips, the same in all topologies; None where all hold some."""
        return next(iter(self.schemes.values())).topology.hub

    def jobs(self) -> list[Job]:
        """Return all jobs that count, those of one (fold, seed) together, since they share their data."""
        return [Job(kind, label, seed, fold) for fold in self.folds for seed in self.seeds
                for kind, label in self._kinds()]

    def tuning_jobs(self) -> list[Job]:
        """Return the jobs of the inner folds, of the first seed."""
        return [Job(kind, label, self.seeds[0], fold, (number, self.inner), value) for fold in self.folds
                for number in range(self.inner) for kind, label in self._kinds() for value in self.values(label)]

    def values(self, scheme: str) -> tuple[str, ...]:
        """Return what a scheme (``""``: a baseline) chooses from: ``section.field=value`` each; empty: nothing."""
        return (self.schemes[scheme].tune if scheme else ()) or self.tune

    @property
    def tunes(self) -> bool:
        """Whether anything is chosen on inner folds."""
        return any(self.values(label) for _, label in self._kinds())

    def _kinds(self) -> list[tuple[str, str]]:
        gossip = [("gossip", label) for label in self.schemes] if "gossip" in self.kinds else []
        return gossip + [(kind, "") for kind in BASELINES if kind in self.kinds]

    def path(self, job: Job) -> Path:
        """Return where the job's result lies."""
        return self.out / ("runs" if job.inner is None else "inner") / job.file

    def fingerprint(self, job: Job) -> str:
        """Return what must be equal for a stored result to count: settings, features' code, data, graph, version."""
        tree = {
            "form": FORM,
            "version": __version__,
            "settings": self.configured(job).shared(),
            "features": settings_key(self.config.features),
            "corpus": self.config.corpus.model_dump(mode="json", exclude={"fold"}),
            "gossip": self.configured(job).gossip.model_dump(mode="json"),
            "every": self.config.peer.evaluate_every,
            "peers": self.peers,
            "graph": self.schemes[job.scheme].topology.digest() if job.scheme else "",
            "job": [job.kind, job.seed, job.fold, job.inner],
        }
        if self.hub is not None:
            tree["hub"] = self.hub
        if (width := self.configured(job).model.width) != (1.0,):
            tree["width"] = list(width)
        return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=16).hexdigest()

    def configured(self, job: Job) -> Config:
        """Return the settings of one job: the comparison's with the scheme's, its seed, its fold and what was tuned."""
        tuned = job.value if job.inner is not None else self.chosen.get((job.kind, job.scheme, job.fold), "")
        own = self.schemes[job.scheme].settings if job.scheme else ()
        return self.config.with_settings([*own, *(tuned.split(";") if tuned else []), f"seed={job.seed}",
                                          f"corpus.fold={job.fold}"])

    def stored(self, job: Job) -> dict[str, Any] | None:
        """Return a finished job's result, or None where it is missing, torn or of other settings."""
        try:
            document: dict[str, Any] = json.loads(self.path(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        right = isinstance(document, dict) and document.get("fingerprint") == self.fingerprint(job)
        return document if right else None


def baselines_of(config: Config) -> tuple[str, ...]:
    """Return the baselines that have a meaning for the run's model: a server averages, which trees do not allow."""
    without = "server" if FAMILIES[config.model.name].boosts else "voting"
    return tuple(kind for kind in BASELINES if kind != without)


def prepare(
    config: Config,
    topologies: Sequence[str],
    peers: int | None,
    seeds: int,
    folds: str,
    out: Path,
    *,
    algorithms: Sequence[str] = (),
    tune: str = "",
    inner: int = 3,
    dimensions: bool = False,
    progress: bool = False,
) -> Comparison:
    """Return the comparison, its corpus read and its features in the cache (so that workers find them there).

    topologies: names or files. peers: size of all, or None for the files'. seeds: how many, from ``config.seed``
    on. folds: ``all``, or fold numbers with commas between them. algorithms: each with each topology, written
    ``NAME[:PARAMETER=VALUE][:SECTION.FIELD=VALUE]…``; none: the run's. tune: ``SECTION.FIELD=VALUE,VALUE,…``; an
    algorithm that needs values of its own has them as ``:SECTION.FIELD=VALUE|VALUE|…``. dimensions: the results will be
    read without UAR too, so that ``training.task`` may be dimensions where nothing is tuned.

    Raises ConfigError, TopologyError, CorpusError where these do not fit.
    """
    from p2pser.features.federation import federate

    schemes: dict[str, Scheme] = {}
    for name in topologies:
        topology = spec.load(name, peers)
        for algorithm in algorithms or ("",):
            label = " ".join([topology.name] * (len(topologies) > 1 or not algorithm) + [algorithm] * bool(algorithm))
            if label in schemes:
                raise ConfigError(f"{label!r} is named twice in the comparison: name each once")
            schemes[label] = _scheme(config, topology, algorithm)
    if not schemes:
        raise ConfigError("there is nothing to compare: name at least one topology, for example ring,torus")
    loaded = {scheme.topology.name: scheme.topology for scheme in schemes.values()}
    sizes = {label: topology.size for label, topology in loaded.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{label} {size}" for label, size in sizes.items())
        raise TopologyError(f"the topologies have different numbers of peers ({said}): give one with --peers")
    if len({topology.hub for topology in loaded.values()}) > 1:
        said = ", ".join(f"{label} {'none' if one.hub is None else one.hub}" for label, one in loaded.items())
        raise TopologyError(f"the topologies have different hubs ({said}), so their clips would be dealt differently: "
                            "compare those without a hub; a server is among the baselines of every comparison")
    for scheme in schemes.values():
        _allowed(config, scheme)
    if config.training.task == "dimensions" and not (dimensions and not tune):
        raise ConfigError("training.task=dimensions learns no emotions, and these results are compared by their UAR: "
                          "take training.task=both" + ("" if dimensions else ", or p2pser crossval"))
    if seeds < 1:
        raise ConfigError(f"{seeds} seeds make no run: take at least 1")
    chosen = fold_numbers(config, folds)
    whole = config.with_settings([f"corpus.fold={chosen[0]}"])
    comparison = Comparison(config, schemes, tuple(range(config.seed, config.seed + seeds)), chosen, out,
                            _values(config, tune), inner, kinds=("gossip", *baselines_of(config)))
    federation = federate(whole, comparison.peers, hub=comparison.hub, progress=progress)
    if comparison.tunes:
        from p2pser.experiments import tuning

        tuning.groups(federation, inner)
    return comparison


def _scheme(config: Config, topology: Topology, algorithm: str) -> Scheme:
    """Return what an algorithm's text means on a topology: its name, then parameters and settings after colons."""
    name, *rest = algorithm.split(":")
    if not name:
        return Scheme(topology)
    full = [one if "." in one.partition("=")[0] else f"gossip.parameters.{one}" for one in rest]
    several = [one for one in full if "|" in one]
    if len(several) > 1:
        raise ConfigError(f"{algorithm!r} chooses more than one setting ({', '.join(several)}): give values to one")
    settings = (f"gossip.algorithm={name}", *(one for one in full if one not in several))
    return Scheme(topology, settings, _values(config, "".join(several).replace("|", ",")))


def _allowed(config: Config, scheme: Scheme) -> None:
    """Raise ConfigError where the algorithm refuses these settings or this topology: before anything runs."""
    from p2pser.gossip.registry import create, validate

    settings = config.with_settings(scheme.settings)
    algorithm = create(settings.gossip.algorithm, settings.gossip.parameters, settings, scheme.topology)
    validate(algorithm, settings, scheme.topology)


def _values(config: Config, tune: str) -> tuple[str, ...]:
    """Return ``section.field=value`` for each value; of several settings (``;`` between them) each with each, joined
    by ``;``. Raises ConfigError where a value does not fit its setting.
    """
    grid: list[list[str]] = []
    for part in tune.split(";") if tune else ():
        name, _, values = part.strip().partition("=")
        settings = [f"{name}={value.strip()}" for value in COMMA.split(values) if value.strip()]
        if len(settings) < 2:
            raise ConfigError(f"--tune {part!r}: write a setting with two values or more, such as "
                              "training.lr=0.02,0.05")
        for setting in settings:
            config.with_settings([setting])
        grid.append(settings)
    return tuple(";".join(chosen) for chosen in itertools.product(*grid)) if grid else ()


def fold_numbers(config: Config, folds: str) -> tuple[int, ...]:
    """Return the folds that ``all`` or ``0,2`` means. Raises ConfigError for numbers that are none."""
    if folds != "all":
        parts = [part.strip() for part in folds.split(",")]
        if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
            raise ConfigError(f"--folds {folds!r}: write all, or fold numbers with commas between them, such as 0,2")
        return tuple(int(part) for part in parts)
    from p2pser.corpora.partitioning import splits

    return tuple(range(len(splits(config))))


def run(
    comparison: Comparison, *, workers: int | None = None, done: Callable[[Job, bool], None] | None = None
) -> dict[Job, dict[str, Any]]:
    """Return the results of all jobs that count, computing in ``workers`` processes (default: one a processor) what is
    missing; before that, where something is tuned, the inner folds' and what follows from them (``chosen``).

    done: called in this process for each job, with whether it was found on disk. What was finished when a job
    fails or the user interrupts stays on disk.
    """
    if comparison.tunes:
        from p2pser.experiments import tuning

        scores: dict[tuple[str, str, int], dict[str, list[list[Predictions]]]] = {}
        for job, document in _results(comparison, comparison.tuning_jobs(), workers, done).items():
            by_value = scores.setdefault((job.kind, job.scheme, job.fold), {})
            by_value.setdefault(job.value, []).append(predictions(document))
        for key, by_value in scores.items():
            comparison.chosen[key] = tuning.best(by_value)
    return _results(comparison, comparison.jobs(), workers, done)


def predictions(document: Mapping[str, Any], key: str = "predicted") -> list[Predictions]:
    """Return each model's predictions of a result, with their logits under ``predicted`` where they were stored."""
    from p2pser.evaluation.metrics import Predictions

    test = document["test"]
    raw = document.get("logits") if key == "predicted" else None
    return [Predictions.of(test["targets"], said, test["speakers"], len(document["labels"]),
                           logits=None if raw is None else raw[place], genders=test.get("genders", ()),
                           paths=test.get("paths", ())) for place, said in enumerate(document[key])]


def ratings(document: Mapping[str, Any]) -> list[Ratings]:
    """Return each model's ratings of a result: none where no dimensions are learned."""
    from p2pser.evaluation.concordance import Ratings

    told = document.get("ratings")
    if told is None:
        return []
    targets = [[math.nan if value is None else value for value in row] for row in told["targets"]]
    return [Ratings.of(targets, said, told["speakers"], paths=told["paths"]) for said in told["predicted"]]


def _results(
    comparison: Comparison, jobs: Sequence[Job], workers: int | None, done: Callable[[Job, bool], None] | None
) -> dict[Job, dict[str, Any]]:
    results: dict[Job, dict[str, Any]] = {}
    missing: list[Job] = []
    for job in jobs:
        document = comparison.stored(job)
        if document is None:
            missing.append(job)
        else:
            results[job] = document
            if done is not None:
                done(job, True)
        comparison.path(job).parent.mkdir(parents=True, exist_ok=True)
    for job, document in _computed(comparison, missing, workers or os.cpu_count() or 1):
        document["fingerprint"] = comparison.fingerprint(job)
        write_json(comparison.path(job), document)
        results[job] = document
        if done is not None:
            done(job, False)
    return {job: results[job] for job in jobs}


def _computed(comparison: Comparison, jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Yield each job with its result as it is finished."""
    def arguments(job: Job) -> tuple[Job, Config, Topology | None, int, int | None]:
        topology = comparison.schemes[job.scheme].topology if job.scheme else None
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
