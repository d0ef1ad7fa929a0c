"""The cross-corpus matrix: a model of each corpus, and one of all together by gossip, tested on each corpus.

Every corpus has as many peers as every other, each of its own clips (partition ``corpus:even``), and a peer takes the
same local steps whether its corpus is alone or all are together. All runs of a fold are tested on the same clips of the
same speakers, whom none of them was trained on, so that the rows of a column can be compared in pairs. Each row is a
comparison (``p2pser.experiments.compare``) whose finished runs are kept on disk.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.corpora import combined as several
from p2pser.corpora.folds import folds as folds_of
from p2pser.corpora.partitioning import to_learn
from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import compare
from p2pser.experiments.by_corpus import of_corpus
from p2pser.experiments.compare import Comparison, Job
from p2pser.experiments.report import comparison as tables

ALL, OTHERS, POOLED = "all, by gossip", "all others, by gossip", "all, pooled"
"""Rows beside the corpora's own."""

Done = Callable[[str, Job, bool], None]
"""Called with the row, a job of it, and whether its result was found on disk."""


@dataclass(frozen=True)
class Matrix:
    """corpora: names, sorted, with the number of folds of each. runs: by the corpora that are trained on (in one text)
    a comparison. rows: the name of a row to, for each tested corpus, (its run, the kind of job).
    """

    corpora: dict[str, int]
    runs: dict[str, Comparison]
    rows: dict[str, dict[str, tuple[str, str]]]

    @property
    def jobs(self) -> int:
        """How many runs there are."""
        return sum(len(one.jobs()) + len(one.tuning_jobs()) for one in self.runs.values())


def prepare(config: Config, topology: str, peers: int, seeds: int, folds: str, out: Path, *, others: bool = False,
            pooled: bool = False, tune: str = "", inner: int = 3, progress: bool = False) -> Matrix:
    """Return the matrix of the corpora of ``config``, which are read, and their features in the cache.

    topology: a name or file, taken at ``peers`` peers for each corpus. seeds: how many, from ``config.seed`` on. folds:
    ``all``, or fold numbers with commas between them. others: a row of the models that heard all corpora but the tested
    one; pooled: one of centralised training on all. tune, inner: as of ``compare.prepare``, for each run by itself.

    Raises ConfigError, TopologyError, CorpusError where these do not fit, ConfigError where there is one corpus only.
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

    def trained_on(trained: Sequence[str], *kinds: str) -> Comparison:
        only = [] if len(trained) == len(names) else [f"corpus.train={json.dumps(trained)}"]
        folder = "_".join("".join(c if c.isalnum() or c in "-." else "-" for c in name) for name in trained)
        one = compare.prepare(config.with_settings(only), [topology], peers * len(trained), seeds, folds, out / folder,
                              tune=tune, inner=inner, progress=progress)
        return dataclasses.replace(one, kinds=kinds)

    everything = trained_on(names, "gossip", *(["pooled"] if pooled else []))
    runs = {**{name: trained_on([name], "gossip") for name in names}, "all": everything}
    rows = {name: dict.fromkeys(names, (name, "gossip")) for name in names}
    if others and len(names) > 2:
        for left_out in names:
            runs[f"all but {left_out}"] = trained_on([name for name in names if name != left_out], "gossip")
        rows[OTHERS] = {tested: (f"all but {tested}", "gossip") for tested in names}
    elif others:
        rows[OTHERS] = {names[0]: (names[1], "gossip"), names[1]: (names[0], "gossip")}
    rows[ALL] = dict.fromkeys(names, ("all", "gossip"))
    if pooled:
        rows[POOLED] = dict.fromkeys(names, ("all", "pooled"))
    return Matrix(corpora, runs, rows)


def run(matrix: Matrix, *, workers: int | None = None, done: Done | None = None) -> dict[str, tables.Results]:
    """Return the results of each run's jobs, computing what is missing as ``compare.run`` does."""
    def told(name: str) -> Callable[[Job, bool], None] | None:
        return None if done is None else lambda job, found: done(name, job, found)

    return {name: compare.run(one, workers=workers, done=told(name)) for name, one in matrix.runs.items()}


def tabulate(matrix: Matrix, results: Mapping[str, tables.Results]) -> dict[str, Any]:
    """Return the matrix as one plain document.

    ``cells[row][corpus]``: UAR (a), the mean over the corpus's own folds of the recall over the classes present, mean
    over seeds, with its sd over seeds and 95 % speaker-bootstrap interval; (b) over the folds' predictions pooled.
    Where the longest corpus has more folds than this one, which then begins again, each of its folds counts once.
    ``gains``: for each corpus the mean paired difference of the row of all to its own, over folds and seeds;
    ``gaps_to_pooled``: likewise to centralised training on all, where there is that row.
    """
    comparison = matrix.runs["all"]
    first = next(iter(results["all"].values()))
    said = {row: {tested: _predictions(matrix, results, row, tested) for tested in matrix.corpora}
            for row in matrix.rows}
    cells = {row: {tested: _cell(models) for tested, models in columns.items()} for row, columns in said.items()}
    return {
        "corpora": {name: _facts(said[ALL][name], folds, first["labels"]) for name, folds in matrix.corpora.items()},
        "corpus": first["corpus"], "labels": first["labels"], "normalise": first["normalise"],
        "speaker_overlap": max(one["speaker_overlap"] for run in results.values() for one in run.values()),
        "peers_each": comparison.peers // len(matrix.corpora), "topology": next(iter(comparison.schemes)),
        "seeds": list(comparison.seeds), "folds": list(comparison.folds), "rounds": comparison.config.training.rounds,
        "local_steps": comparison.config.training.local_steps, "model": comparison.config.model.name,
        "features": comparison.config.features.kind, "map": dict(comparison.config.corpus.map),
        "selection": _selection(comparison),
        "chosen": {name: {f"{kind}, fold {fold}": value for (kind, _, fold), value in one.chosen.items()}
                   for name, one in matrix.runs.items() if one.chosen},
        "rows": list(matrix.rows), "cells": cells,
        "gains": {name: tables.paired(said[ALL][name], said[name][name]) for name in matrix.corpora},
        "gaps_to_pooled": {name: tables.paired(said[ALL][name], said[POOLED][name]) for name in matrix.corpora}
        if POOLED in said else {},
        "notes": first["notes"],
    }


def _selection(comparison: Comparison) -> str:
    if not comparison.tunes:
        return "none: settings as given, the model after the last round"
    return (f"the best of {', '.join(comparison.tune)} for each run and outer fold, by the UAR over {comparison.inner} "
            "inner folds of training speakers of the corpora that it trains on; the model after the last round")


def _predictions(
    matrix: Matrix, results: Mapping[str, tables.Results], row: str, tested: str
) -> list[list[Predictions]]:
    """Return, for each seed, each model's predictions of one corpus's clips, each of its folds once."""
    name, kind = matrix.rows[row][tested]
    comparison, own = matrix.runs[name], matrix.corpora[tested]
    scheme = next(iter(comparison.schemes)) if kind == "gossip" else ""
    folds = list({fold % own: fold for fold in reversed(comparison.folds)}.values())[::-1]
    found = []
    for seed in comparison.seeds:
        by_fold = [[part for one in compare.predictions(results[name][Job(kind, scheme, seed, fold)])
                    if (part := of_corpus(one, tested)) is not None] for fold in folds]
        found.append([Predictions.concatenate(list(parts)) for parts in zip(*by_fold)])
    return found


def _cell(models: list[list[Predictions]]) -> dict[str, Any]:
    mean, sd = tables.uar_of(models)
    each = [one for seed in models for one in seed]
    low, high = metrics.bootstrap(each)
    return {"uar": mean, "uar_sd": sd, "interval": [low, high] if np.isfinite(low) else None,
            "uar_pooled_predictions": float(np.mean([metrics.uar_pooled(one) for one in each]))}


def _facts(models: list[list[Predictions]], folds: int, labels: Sequence[str]) -> dict[str, Any]:
    one = models[0][0]
    counts = np.bincount(one.targets, minlength=len(labels))
    return {"clips": len(one.targets), "speakers": len(set(one.speakers)), "folds": folds,
            "tested_folds": len(set(one.folds.tolist())), "chance": 1 / int((counts > 0).sum()),
            "majority": float(counts.max() / counts.sum())}


def text_rows(document: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of the table as text: trained on, a column a tested corpus, and their mean."""
    corpora = list(document["corpora"])
    rows = []
    for row in document["rows"]:
        cells = [document["cells"][row][name] for name in corpora]
        mean = float(np.mean([cell["uar"] for cell in cells]))
        rows.append((row, *(_said(cell) for cell in cells), f"{mean:.3f}"))
    for name, key in (("gossip on all, to its own", "gains"), ("gossip on all, to pooled", "gaps_to_pooled")):
        if document[key]:
            rows.append((name, *(tables.points(document[key][corpus]) for corpus in corpora), ""))
    return ("trained on", *corpora, "mean"), rows


def _said(cell: Mapping[str, Any]) -> str:
    return f"{cell['uar']:.3f}" + ("" if cell["uar_sd"] is None else f" ±{cell['uar_sd']:.3f}")


def legend(document: Mapping[str, Any]) -> str:
    """Return what the table's reader needs to know, in a few lines."""
    tested = "; ".join(f"{name}: {one['clips']} clips of {one['speakers']} speakers in {one['tested_folds']} of "
                       f"{one['folds']} folds, chance {one['chance']:.3f}, majority {one['majority']:.3f}"
                       for name, one in document["corpora"].items())
    merges = "".join(f", {a} counts as {b}" for a, b in document["map"].items())
    return "\n".join([
        f"emotions: {', '.join(document['labels'])}{merges}. Tested: {tested}.",
        f"{document['peers_each']} peers for each corpus on {document['topology']}, {document['model']} on "
        f"{document['features']}, {document['rounds']} rounds of {document['local_steps']} local steps, "
        f"{len(document['seeds'])} seed(s); normalisation {document['normalise']}.",
        "Cells: UAR (a), the mean over the tested corpus's folds of the recall over the classes present, mean and sd "
        "over seeds, of the consensus model. All rows of a column are tested on the same clips, of speakers that none "
        "was trained on. Last rows: mean paired difference over folds and seeds [95 % paired speaker bootstrap], "
        "points.",
        f"selection: {document['selection']}; test speakers that were trained on: {document['speaker_overlap']}",
        *document["notes"]])
