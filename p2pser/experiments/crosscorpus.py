"""The cross-corpus matrix: a model of each corpus, and one of all together by gossip, tested on each corpus.

Each corpus has the same number of peers, each with its own clips (partition ``corpus:even``), and a peer takes the
same local steps whether its corpus is alone or all are together. All runs of a fold are tested on the same clips of the
same speakers, which no run trains on, so that the rows of a column can be compared in pairs. The runs of each set of
training corpora are a plan (``p2pser.experiments.planning``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.documents import as_yaml
from p2pser.base.errors import ConfigError
from p2pser.base.frames import flat, frame
from p2pser.config import Config
from p2pser.corpora import combined as several
from p2pser.corpora.folds import folds as folds_of
from p2pser.corpora.partitioning import to_learn
from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import pair
from p2pser.experiments import pool
from p2pser.experiments.by_corpus import of_corpus
from p2pser.experiments.differences import PairedDifference, paired, pooled_uar_of, uar_of
from p2pser.experiments.jobs import Job, Plan, file_name
from p2pser.experiments.planning import plan
from p2pser.experiments.results import Results, predictions
from p2pser.graph import spec

if TYPE_CHECKING:
    import pandas

ALL, OTHERS = "all, by gossip", "all others, by gossip"
POOLED, POOLED_STEPS = "all, pooled", "all, pooled-steps"
"""Rows beside the corpora's own."""


@dataclass(frozen=True)
class Cell:
    """The figures of a row's model on a corpus.

    ``uar`` is (a), the mean over the corpus's own folds of the recall over the classes present, mean over seeds, with
    its sd over seeds and its 95 % speaker-bootstrap interval (None where there is one seed or one speaker);
    ``uar_pooled_predictions`` is (b). Where another corpus has more folds, so that this one begins again, each of its
    folds counts once.
    """

    uar: float
    uar_sd: float | None
    interval: list[float] | None
    uar_pooled_predictions: float


@dataclass(frozen=True)
class Tested:
    """The held-out clips of a corpus; ``tested_folds`` of its ``folds`` are tested."""

    clips: int
    speakers: int
    folds: int
    tested_folds: int
    chance: float
    majority: float


@dataclass(frozen=True)
class Matrix:
    """A cross-corpus matrix.

    ``cells[row][corpus]`` has a row for each training set (``rows`` in order) and a column for each tested corpus.
    ``gains``: by corpus the mean paired difference of gossip on all corpora to the corpus's own model, over folds and
    seeds; ``gaps_to_pooled`` and ``gaps_to_pooled_steps``: likewise to the two budgets of centralised training on all,
    empty without their rows. ``chosen``: the settings that each run took from the grid. The other fields are as of
    ``compare.Comparison``.
    """

    corpora: dict[str, Tested]
    corpus: dict[str, Any]
    labels: list[str]
    normalise: str
    speaker_overlap: int
    peers_each: int
    topology: str
    seeds: list[int]
    folds: list[int]
    rounds: int
    local_steps: int
    model: str
    features: str
    map: dict[str, str]
    selection: str
    chosen: dict[str, dict[str, str]]
    rows: list[str]
    cells: dict[str, dict[str, Cell]]
    gains: dict[str, PairedDifference]
    gaps_to_pooled: dict[str, PairedDifference]
    gaps_to_pooled_steps: dict[str, PairedDifference]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``matrix.json`` holds it."""
        return asdict(self)

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table with a row for each cell. Raises ConfigError where pandas is not installed."""
        return frame([{"trained_on": row, "tested_on": name, **flat(asdict(cell))}
                      for row in self.rows for name, cell in self.cells[row].items()])


def crosscorpus(setup: Setup, *, jobs: int | str | None = None, progress: bool = False) -> Matrix:
    """Compute the runs that are missing, and return the figures of all rows.

    jobs : how many processes, or the address of a Ray cluster (``pool.run``). progress : show a bar on standard error.
    """
    return summarised(setup, pool.run_all(setup.plans, processes=jobs, progress=progress))


@dataclass(frozen=True)
class Setup:
    """corpora: names, sorted, with the number of folds of each. plans: by the training corpora. rows: for each row and
    tested corpus, the (plan, kind of runs) of its model.
    """

    corpora: dict[str, int]
    plans: dict[str, Plan]
    rows: dict[str, dict[str, tuple[str, str]]]


def prepare(config: Config, topology: str, *, peers: int = 4, others: bool = False, pooled: bool = False,
            folds: Sequence[int] | None = None, seeds: int = 1, tune: str = "", inner: int = 3,
            out: Path | None = None, progress: bool = False) -> Setup:
    """Return the runs of a matrix: each corpus alone, and all together by gossip.

    Parameters
    ----------
    config : the settings of all runs; ``corpus.name`` names several corpora.
    topology : a file or a name, taken at ``peers`` peers for each corpus of a run.
    peers : how many each corpus has.
    others : also train on all corpora but the tested one.
    pooled : also train one model on the clips of all corpora together, by either budget (``baselines``).
    folds, seeds, tune, inner, out, progress : as of ``planning.plan``.

    Raises ConfigError, TopologyError or CorpusError where these do not fit, ConfigError where there is one corpus only.
    """
    if len(config.corpus.parts()) < 2:
        raise ConfigError(f"a matrix needs several corpora, and {config.corpus.name} is one: name them as "
                          "--corpus emodb=DIR,ravdess=DIR")
    if config.corpus.split not in ("auto", "each") or config.corpus.train is not None:
        raise ConfigError("a matrix tests each corpus by its own folds and trains on each: leave corpus.split and "
                          "corpus.train as they are")
    if config.corpus.partition == "auto":
        config = config.with_settings(["corpus.partition=corpus:even"])
    whole = to_learn(config, several.load(config.corpus))[1]
    corpora = {part.name: len(folds_of(several.alone(whole, part)[0], "auto")) for part in whole.parts}
    names = list(corpora)

    def trained_on(trained: Sequence[str], *kinds: str) -> Plan:
        only = [] if len(trained) == len(names) else [f"corpus.train={as_yaml(trained)}"]
        folder = None if out is None else out / "_".join(file_name(name).replace("_", "-") for name in trained)
        return plan(config.with_settings(only), [spec.load(topology, peers * len(trained))], kinds=kinds, seeds=seeds,
                    folds=folds, tune=tune, inner=inner, out=folder, progress=progress)

    everything = trained_on(names, "gossip", *(["pooled", "pooled-steps"] if pooled else []))
    plans = {**{name: trained_on([name], "gossip") for name in names}, "all": everything}
    rows = {name: dict.fromkeys(names, (name, "gossip")) for name in names}
    if others and len(names) > 2:
        for left_out in names:
            plans[f"all but {left_out}"] = trained_on([name for name in names if name != left_out], "gossip")
        rows[OTHERS] = {tested: (f"all but {tested}", "gossip") for tested in names}
    elif others:
        rows[OTHERS] = {names[0]: (names[1], "gossip"), names[1]: (names[0], "gossip")}
    rows[ALL] = dict.fromkeys(names, ("all", "gossip"))
    if pooled:
        rows |= {row: dict.fromkeys(names, ("all", kind))
                 for row, kind in ((POOLED, "pooled"), (POOLED_STEPS, "pooled-steps")) if kind in everything.kinds}
    return Setup(corpora, plans, rows)


def summarised(setup: Setup, results: Mapping[str, Results]) -> Matrix:
    """Return the figures of each row's results."""
    runs, first = setup.plans["all"], results["all"].first
    config, names = runs.config, list(setup.corpora)
    models = {row: {tested: _predictions(setup, results, row, tested) for tested in names} for row in setup.rows}
    gaps, gaps_steps = ({name: paired(models[ALL][name], models[row][name]) for name in names} if row in models else {}
                        for row in (POOLED, POOLED_STEPS))
    return Matrix(
        corpora={name: _tested(models[ALL][name], folds, first["labels"]) for name, folds in setup.corpora.items()},
        corpus=first["corpus"], labels=first["labels"], normalise=first["normalise"],
        speaker_overlap=max(document["speaker_overlap"] for run in results.values() for document in run.outer.values()),
        peers_each=runs.peers // len(names), topology=next(iter(runs.topologies)),
        seeds=list(runs.seeds), folds=list(runs.folds), rounds=config.training.rounds,
        local_steps=config.training.local_steps, model=config.model.name,
        features=config.features.kind, map=dict(config.corpus.map), selection=runs.selection(
            "run and outer fold", "training speakers of the corpora that it trains on"),
        chosen={name: {f"{kind}, fold {fold}": value for (kind, _, fold), value in run.plan.chosen.items()}
                for name, run in results.items() if run.plan.chosen},
        rows=list(setup.rows),
        cells={row: {tested: _cell(by_seed) for tested, by_seed in columns.items()} for row, columns in models.items()},
        gains={name: paired(models[ALL][name], models[name][name]) for name in names},
        gaps_to_pooled=gaps, gaps_to_pooled_steps=gaps_steps, notes=first["notes"],
    )


def _predictions(setup: Setup, results: Mapping[str, Results], row: str, tested: str) -> list[list[Predictions]]:
    """Return, for each seed, each model's predictions of one corpus's clips, each of its folds once."""
    name, kind = setup.rows[row][tested]
    runs, own = setup.plans[name], setup.corpora[tested]
    scheme = next(iter(runs.topologies)) if kind == "gossip" else ""
    folds = list({fold % own: fold for fold in reversed(runs.folds)}.values())[::-1]
    by_seed = []
    for seed in runs.seeds:
        by_fold = [[part for model in predictions(results[name].outer[Job(kind, scheme, seed, fold)])
                    if (part := of_corpus(model, tested)) is not None] for fold in folds]
        by_seed.append([Predictions.concatenate(parts) for parts in zip(*by_fold)])
    return by_seed


def _cell(models: list[list[Predictions]]) -> Cell:
    uar, uar_sd = uar_of(models)
    return Cell(uar, uar_sd, pair(metrics.bootstrap([model for seed in models for model in seed])),
                pooled_uar_of(models))


def _tested(models: list[list[Predictions]], folds: int, labels: Sequence[str]) -> Tested:
    model = models[0][0]
    counts = np.bincount(model.targets, minlength=len(labels))
    return Tested(clips=len(model.targets), speakers=len(set(model.speakers)), folds=folds,
                  tested_folds=len(set(model.folds.tolist())), chance=1 / int((counts > 0).sum()),
                  majority=float(counts.max() / counts.sum()))
