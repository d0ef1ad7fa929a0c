"""Topologies and algorithms compared by simulated runs, with pooled, local-only and server training beside them.

For each (fold, seed) there is one gossip run for each scheme (a topology with an algorithm), and the baselines that
all schemes share. Where a grid is given, each scheme and baseline first chooses from it on inner folds
(``p2pser.experiments.tuning``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from p2pser.base.frames import flat, frame
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import pool
from p2pser.experiments.differences import (
    PairedDifference,
    mean,
    mean_known,
    paired,
    pooled_uar_of,
    uar_of,
    worst_uar_of,
)
from p2pser.experiments.jobs import BASELINES, Document, Plan
from p2pser.experiments.results import Results, traffic
from p2pser.graph.summary import FLOAT32, summarise

if TYPE_CHECKING:
    import pandas

NEAR_POOLED = 0.95
"""Share of the pooled UAR that ``SchemeRow.rounds_to_95`` asks for."""


@dataclass(frozen=True)
class Curves:
    """What is measured after each round, one curve for each run: UAR of the consensus model (where a run ends with
    several models, the mean of theirs; None where it is not evaluated), and the consensus distance.
    """

    uar: list[list[float | None]]
    distance: list[list[float | None]]


@dataclass(frozen=True)
class SchemeRow:
    """The figures of a scheme, means over folds and seeds.

    UAR is (a), the mean over folds of the recall over the classes present; its sd is over seeds, None with one;
    ``uar_pooled_predictions`` is (b). ``slem`` and ``spectral_gap`` are of the matrix that the runs mixed with.
    ``bytes_per_peer`` is the payload of the rounds, ``bytes_final_per_peer`` that of the final consensus.
    ``rounds_to_95`` and ``bytes_to_95`` say when the mean UAR is 95 % of the pooled model's; None: never.
    """

    scheme: str
    topology: str
    settings: list[str]
    tuned: list[str]
    peers: int
    edges: int
    degree: dict[str, float]
    diameter: int
    slem: float
    spectral_gap: float
    bytes_per_peer: float
    bytes_final_per_peer: float
    uar: float
    uar_sd: float | None
    uar_pooled_predictions: float
    uar_mean_peer: float
    uar_worst_peer: float
    gap_to_pooled: PairedDifference
    gap_to_pooled_steps: PairedDifference | None
    gain_over_local: PairedDifference
    consensus_distance: float | None
    rounds_to_95: int | None
    bytes_to_95: float | None
    final_exchanges: float
    converged: bool


@dataclass(frozen=True)
class BaselineRow:
    """The figures of a baseline, as of ``SchemeRow``."""

    baseline: str
    tuned: list[str]
    uar: float
    uar_sd: float | None
    uar_pooled_predictions: float
    bytes_per_peer: float
    gap_to_pooled: PairedDifference | None
    gap_to_pooled_steps: PairedDifference | None


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    ``schemes`` and ``baselines`` are the rows of its table, ``curves`` what its picture draws, by scheme.
    ``speakers`` and ``clips`` are those held out; ``speaker_overlap`` counts test speakers that were trained on.
    ``selection`` says how the settings were chosen, ``notes`` what else a reader should know.
    """

    corpus: dict[str, Any]
    labels: list[str]
    normalise: str
    speaker_overlap: int
    speakers: int
    clips: int
    peers: int
    seeds: list[int]
    folds: list[int]
    rounds: int
    local_steps: int
    chance: float
    selection: str
    schemes: list[SchemeRow]
    baselines: list[BaselineRow]
    notes: list[str]
    curves: dict[str, Curves]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``comparison.json`` holds it."""
        document = asdict(self)
        del document["curves"]
        return document

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, schemes before baselines, without nested values."""
        schemes = [{"kind": "gossip", "name": row.scheme, **asdict(row)} for row in self.schemes]
        baselines = [{"kind": "baseline", "name": row.baseline, **asdict(row)} for row in self.baselines]
        return [flat({key: value for key, value in row.items() if key not in ("scheme", "baseline")
                      and not (key.startswith("gap_to_") and value is None)}) for row in (*schemes, *baselines)]

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows of the table as a pandas table. Raises ConfigError where pandas is not installed."""
        return frame(self.rows())


def compare(runs: Plan, *, jobs: int | str | None = None, progress: bool = False) -> Comparison:
    """Compute the runs of a plan that are missing, and return the figures of all schemes and baselines.

    jobs : how many processes, or the address of a Ray cluster (``pool.run``). progress : show a bar on standard error.

    >>> runs = plan(Config(), [spec.load("ring", 8), spec.load("torus", 8)], folds=(0,))  # doctest: +SKIP
    >>> compare(runs).to_frame()[["name", "uar", "gap_to_pooled_mean"]]  # doctest: +SKIP
    """
    return summarised(pool.run_all({"": runs}, processes=jobs, progress=progress)[""])


def summarised(results: Results) -> Comparison:
    """Return the figures of a plan's results."""
    runs, first = results.plan, results.first
    training = runs.config.training
    pooled, alone = results.models("pooled", ""), results.models("local-only", "")
    return Comparison(
        corpus=first["corpus"], labels=first["labels"], normalise=first["normalise"],
        speaker_overlap=max(document["speaker_overlap"] for document in results.outer.values()),
        speakers=len(set(pooled[0][0].speakers)), clips=len(pooled[0][0].targets),
        peers=runs.peers, seeds=list(runs.seeds), folds=list(runs.folds), rounds=training.rounds,
        local_steps=training.local_steps, chance=1 / len(first["labels"]),
        selection=runs.selection("scheme, baseline and outer fold"),
        schemes=[_scheme(results, label, pooled, alone) for label in runs.topologies],
        baselines=[_baseline(results, kind, pooled) for kind in BASELINES if kind in runs.kinds],
        notes=first["notes"], curves={label: _curves(results.of("gossip", label)) for label in runs.topologies},
    )


def _scheme(results: Results, label: str, pooled: list[list[Predictions]],
            alone: list[list[Predictions]]) -> SchemeRow:
    scheme, documents = results.plan.schemes[label], results.of("gossip", label)
    topology = results.plan.topologies[label]
    facts = summarise(topology)
    ours, peers = results.models("gossip", label), results.models("gossip", label, "predicted_peers")
    uar, uar_sd = uar_of(ours)
    reached = rounds_to(_curves(documents).uar, NEAR_POOLED * uar_of(pooled)[0])
    slem, sent = mean(document["slem"] for document in documents), traffic(documents)
    return SchemeRow(
        scheme=label, topology=topology.name, settings=list(scheme.settings), tuned=results.chosen("gossip", label),
        peers=facts["peers"], edges=facts["edges"], degree=facts["degree"], diameter=facts["diameter"],
        slem=slem, spectral_gap=1 - slem,
        bytes_per_peer=sent["bytes_per_peer"], bytes_final_per_peer=sent["bytes_final_per_peer"],
        uar=uar, uar_sd=uar_sd, uar_pooled_predictions=pooled_uar_of(ours),
        uar_mean_peer=uar_of(peers)[0], uar_worst_peer=worst_uar_of(peers),
        gap_to_pooled=paired(ours, pooled), gap_to_pooled_steps=_to_pooled_steps(results, "gossip", ours),
        gain_over_local=paired(ours, alone),
        consensus_distance=sent["consensus_distance"], rounds_to_95=reached,
        bytes_to_95=None if reached is None else mean(
            document["history"][reached - 1]["bytes"] for document in documents),
        final_exchanges=sent["final_exchanges"], converged=sent["converged"],
    )


def _baseline(results: Results, kind: str, pooled: list[list[Predictions]]) -> BaselineRow:
    models = results.models(kind, "")
    uar, uar_sd = uar_of(models)
    # A client of a server sends its row once a round.
    row = FLOAT32 * results.of(kind, "")[0]["parameters"] if kind == "server" else 0
    return BaselineRow(
        baseline=kind, tuned=results.chosen(kind, ""), uar=uar, uar_sd=uar_sd,
        uar_pooled_predictions=pooled_uar_of(models),
        bytes_per_peer=float(row * results.plan.config.training.rounds),
        gap_to_pooled=None if kind == "pooled" else paired(models, pooled),
        gap_to_pooled_steps=_to_pooled_steps(results, kind, models),
    )


def _to_pooled_steps(results: Results, kind: str, models: list[list[Predictions]]) -> PairedDifference | None:
    """Return the difference to pooled training in as many steps as a peer takes; None for itself and for trees."""
    other = "pooled-steps"
    return None if kind == other or other not in results.plan.kinds else paired(models, results.models(other, ""))


def _curves(documents: Sequence[Document]) -> Curves:
    return Curves(
        uar=[[entry["uar"]["consensus" if len(document["predicted"]) == 1 else "mean"]
              for entry in document["history"]] for document in documents],
        distance=[[entry["distance"] for entry in document["history"]] for document in documents])


def rounds_to(curves: Sequence[Sequence[float | None]], level: float) -> int | None:
    """Return the first round (from 1) whose UAR, the mean over runs, is at least ``level``; None where none is."""
    for round, values in enumerate(zip(*curves), start=1):
        reached = mean_known(values)
        if reached is not None and reached >= level:
            return round
    return None
