"""The result of one scheme on a benchmark: a JSON file with all that is needed to rank it beside others."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from p2pser.base.atomic import write_json
from p2pser.base.documents import read_text
from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.base.version import __version__
from p2pser.config.problems import validated
from p2pser.config.section import Section
from p2pser.experiments.bench.definition import Bench
from p2pser.experiments.grid.comparison import GridComparison
from p2pser.experiments.grid.tables import Row
from p2pser.experiments.grid.ties import Contrast, Scores, contrast
from p2pser.experiments.jobs import Job, Plan, file_name

LARGEST = 4 << 20
"""Size of the largest file of a result [B]: one of 1,000 trials has 0.4 MB."""
PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "soxr")
"""Packages whose versions decide the last bits of a result."""


class Trial(Section):
    """The figures of one fold and seed; ``uar`` and ``pooled`` on the same clips."""

    fold: int
    seed: int
    uar: float = Field(ge=0, le=1, description="of the final model; without a common one the mean of all peers'")
    pooled: float = Field(ge=0, le=1, description="UAR of pooled training, the baseline that it is paired with")
    uar_worst_peer: float | None = Field(ge=0, le=1, description="lowest of the peers' own models")
    rounds: int | None = Field(description="rounds played")
    bytes_per_peer: float | None = Field(description="payload that a peer sent in the rounds, mean over peers")
    bytes_final_per_peer: float | None = Field(description="the same of the final consensus")
    seconds: float | None = Field(description="predicted for the links of a WAN")
    consensus_distance: float | None = Field(description="distance of the peers' rows after the last round")
    converged: bool | None = Field(description="whether all peers agreed at the end")
    speaker_overlap: int = Field(description="test speakers that were trained on")
    tuned: str = Field(description="what the inner folds chose")


class Outcome(Section):
    """The result of a scheme, or of a baseline, on a benchmark."""

    form: Literal[1] = Field(1, description="version of this file's form")
    bench: str = Field(description="the benchmark, NAME-VERSION")
    digest: str = Field(description="of the benchmark's definition")
    p2pser: str = Field(description="version that computed it")
    kind: str = Field(description="gossip, or the baseline's kind")
    scheme: str = Field(description="topology and algorithm")
    origin: str = Field(description="what the algorithm comes from: p2pser or a plug-in, with its version")
    topology: dict[str, Any] = Field(description="its graph, weights and digest; empty for a baseline")
    settings: dict[str, Any] = Field(description="all shared settings, before those that were chosen on inner folds")
    machine: dict[str, str] = Field(description="system, processor and versions of packages where this was written")
    to_pooled: dict[str, float | int | None] = Field(description="paired difference to pooled training")
    trials: tuple[Trial, ...] = Field(min_length=1, description="each fold and seed")

    @property
    def scores(self) -> Scores:
        """The UAR of each (fold, seed)."""
        return {(trial.fold, trial.seed): trial.uar for trial in self.trials}

    @property
    def gap(self) -> Contrast | None:
        """The paired difference to pooled training; None for pooled training itself."""
        pooled: Scores = {(trial.fold, trial.seed): trial.pooled for trial in self.trials}
        return None if self.kind == "pooled" else contrast("it", "pooled", {"it": self.scores, "pooled": pooled})

    def average(self, column: str) -> float | None:
        """Return the mean of a figure over the trials; None where a trial has none."""
        values = [getattr(trial, column) for trial in self.trials]
        return None if any(value is None for value in values) else float(sum(values) / len(values))

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{file_name(self.scheme)}.json"


def outcomes(bench: Bench, comparison: GridComparison) -> list[Outcome]:
    """Return the results of all schemes and baselines of which every trial is finished."""
    (cell,) = comparison.cells
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in comparison.tables.trials:
        rows.setdefault((row["kind"], row["scheme"]), []).append(row)
    pooled = {(row["fold"], row["seed"]): row["uar"] for row in rows.get(("pooled", "pooled"), [])}
    return [_outcome(bench, cell.plan, own, pooled) for own in rows.values()
            if {(row["fold"], row["seed"]) for row in own} == bench.trials == set(pooled)]


def _outcome(bench: Bench, plan: Plan, rows: Sequence[Row], pooled: dict[tuple[int, int], float]) -> Outcome:
    kind, scheme = rows[0]["kind"], rows[0]["scheme"]
    job = Job(kind, scheme if kind == "gossip" else "", rows[0]["seed"], rows[0]["fold"])
    topology, config = plan.topologies.get(job.scheme), plan.schemes[job.scheme].config
    trials = tuple(Trial(pooled=pooled[row["fold"], row["seed"]],
                         **{name: row[name] for name in Trial.model_fields if name != "pooled"}) for row in rows)
    outcome = Outcome(
        bench=str(bench), digest=bench.digest, p2pser=__version__, kind=kind, scheme=scheme,
        origin=str(ALGORITHMS.origin(config.gossip.algorithm)) if kind == "gossip" else f"p2pser {__version__}",
        topology={} if topology is None else {"name": topology.name, "digest": topology.digest(), **{
            name: topology.document[name] for name in ("graph", "weights") if name in topology.document}},
        settings=config.shared(), machine=machine(), to_pooled={}, trials=trials)
    return outcome.model_copy(update={"to_pooled": {} if (gap := outcome.gap) is None else {
        name: getattr(gap, name) for name in ("mean", "low", "high", "p", "pairs")}})


def machine() -> dict[str, str]:
    """Return what of this machine decides the last bits of a result."""
    return {"system": platform.platform(), "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def write(outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """Write each result into a folder, and return the files. Raises ConfigError where that cannot be done."""
    paths = [out / each.file for each in outcomes]
    for path, each in zip(paths, outcomes):
        write_json(path, each.model_dump(mode="json"), error=ConfigError)
    return paths


def read(path: Path) -> Outcome:
    """Return the result of a file. Raises ConfigError where it cannot be read or something in it is wrong."""
    try:
        outcome = validated(Outcome, json.loads(read_text(path, "the result", ConfigError, LARGEST)))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the result {path}: {error}") from None
    if len(outcome.scores) < len(outcome.trials):
        raise ConfigError(f"the result {path} has two trials of one fold and seed: keep one")
    return outcome
