"""Cross-validation of federated training: every fold, several seeds, gossip beside what it is measured against.

For each model a comparison (``p2pser.experiments.compare``) of one topology with the baselines asked for: its jobs run
over processes, a finished one is a file, and a second call computes what is missing. On inner folds of training
speakers each scheme chooses its settings, where a grid is given, and its temperature (``evaluation.calibration``)
is fitted on what the models of the chosen settings say of speakers whom they did not train on. Test speakers play no
part in either.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError, nearest
from p2pser.base.registries import FAMILIES
from p2pser.config import Config, FeatureSettings
from p2pser.corpora.partitioning import partition_corpus, splits
from p2pser.evaluation import calibration, metrics
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import concordances, summarise
from p2pser.experiments import compare
from p2pser.experiments.by_corpus import mean_uar
from p2pser.experiments.compare import Comparison, Job
from p2pser.experiments.report import comparison as tables
from p2pser.topology import spec

SCHEMES = {"gossip": "gossip", "fedavg": "server", "pooled": "pooled", "local": "local-only"}
"""The name of a scheme to its kind of job, in the order of reports."""

VOTING = "voting"
"""What stands in the place of ``fedavg`` where a server has nothing to average: local models that vote."""

Done = Callable[[str, Job, bool], None]
"""Called with the model, a job of it, and whether its result was found on disk."""


@dataclass(frozen=True)
class CrossValidation:
    """comparisons: one a model, by its text. split: its name, and how many folds it has.

    notes: what a reader should know of how this was set up.
    """

    comparisons: dict[str, Comparison]
    split: tuple[str, int]
    calibrate: bool
    notes: tuple[str, ...] = ()

    @property
    def jobs(self) -> int:
        """How many runs there are, those on inner folds counted."""
        return sum(len(one.jobs()) + len(one.tuning_jobs()) for one in self.comparisons.values())


def prepare(
    config: Config,
    out: Path,
    *,
    models: Sequence[str] = ("mlp",),
    kinds: Sequence[str] = (),
    wanted: Sequence[str] = tuple(SCHEMES),
    topology: str = "ring",
    peers: int | None = None,
    seeds: int = 3,
    fold: int | None = None,
    tune: str = "",
    inner: int = 3,
    calibrate: bool = True,
    progress: bool = False,
) -> CrossValidation:
    """Return what is to be computed, the features of every clip in the cache.

    models: ``NAME[:SECTION.FIELD=VALUE]…`` each. kinds: of features; a model takes the first that has the form it needs
    (vector or matrix), its own default where none has. wanted: names of ``SCHEMES``. topology: a file or a name.
    peers: default, as many as there are training speakers (in the fold with fewest), and a hub where the topology has
    one. fold: that one only. tune: as ``compare.prepare``. inner: how many inner folds. calibrate: fit temperatures,
    which takes the inner folds even where nothing is tuned.

    Raises ConfigError, CorpusError, ModelError, TopologyError where these do not fit.
    """
    for scheme in wanted:
        if scheme not in SCHEMES:
            raise ConfigError(f"there is no scheme {scheme!r}{nearest(scheme, SCHEMES)}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise ConfigError(f"name each scheme once, and at least one of {', '.join(SCHEMES)}")
    if not models or len(set(models)) < len(models):
        raise ConfigError("name each model once, and at least one, such as mlp")
    folds = splits(config)
    if not folds[0].test:
        raise ConfigError(f"the split {config.corpus.split!r} holds nothing out: take loso or group:K, for example")
    name, speakers = _training(config, range(len(folds)) if fold is None else (fold,))
    if config.training.task == "dimensions":
        calibrate = False  # there are no probabilities
    if (tune or calibrate) and speakers < inner:
        raise ConfigError(f"{inner} inner folds need as many training speakers, and there are {speakers}: give fewer "
                          "with --inner, or leave out --tune and give --no-calibrate")
    hub = spec.load(topology, peers or speakers).hub is not None
    size = peers or speakers + hub
    comparisons, notes = {}, []
    for text in models:
        chosen, note = _configured(config, text, kinds)
        notes += [note] if note else []
        one = compare.prepare(chosen, [topology], size, seeds, "all" if fold is None else str(fold),
                              out / _folder(text), tune=tune, inner=inner, dimensions=True, progress=progress)
        # A grid of one value, the settings as they are: its inner folds serve the temperature.
        comparisons[text] = dataclasses.replace(one, kinds=_kinds(chosen, wanted),
                                                tune=one.tune or (("",) if calibrate else ()))
    return CrossValidation(comparisons, (name, len(folds)), calibrate, tuple(notes))


def _kinds(config: Config, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of jobs that these schemes mean for a model."""
    there = ("gossip", *compare.baselines_of(config))
    return tuple(kind if kind in there else VOTING for scheme, kind in SCHEMES.items() if scheme in wanted)


def schemes(comparison: Comparison) -> tuple[str, ...]:
    """Return the names of a model's schemes, in the order of reports."""
    names = {kind: name for name, kind in SCHEMES.items()} | {VOTING: VOTING}
    return tuple(names[kind] for kind in comparison.kinds)


def _training(config: Config, folds: Sequence[int]) -> tuple[str, int]:
    """Return the split's name, and how many training speakers there are in the fold that has fewest."""
    counts = []
    for number in folds:
        partitioning = partition_corpus(config.with_settings([f"corpus.fold={number}", "corpus.partition=iid"]), 1)
        counts.append(len({partitioning.corpus.clips[index].speaker for index in partitioning.split.train}))
    split = config.corpus.split
    return partitioning.corpus.default_split if split == "auto" else split, min(counts)


def _configured(config: Config, text: str, kinds: Sequence[str]) -> tuple[Config, str]:
    """Return the settings of a model's runs, and a note where none of the kinds of features fits it."""
    name, *settings = text.split(":")
    family = FAMILIES[name]  # refuses an unknown name before anything runs
    usual = family.defaults.get("features.kind", "functionals")
    fitting = [kind for kind in kinds if FeatureSettings(kind=kind).vector == (family.takes == "vector")]
    own = any(setting.startswith("features.kind=") for setting in settings)
    note = ""
    if kinds and not fitting and not own:
        note = f"{text} takes {usual}: it cannot be trained on {' or '.join(kinds)}"
    kind = [f"features.kind={(fitting or [usual])[0]}"] if kinds and not own else []
    chosen = config.with_settings([f"model.name={name}", *kind, *settings])
    # No curves are drawn, and evaluating every round would only take time.
    return chosen.with_settings([f"peer.evaluate_every={max(1, chosen.training.rounds)}"]), note


def _folder(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-.=" else "_" for letter in text)


def run(cross: CrossValidation, *, workers: int | None = None, done: Done | None = None) -> dict[str, tables.Results]:
    """Return each model's results, computing what is missing in ``workers`` processes (default: one a processor)."""
    found: dict[str, tables.Results] = {}
    for model, comparison in cross.comparisons.items():
        def each(job: Job, stored: bool, model: str = model) -> None:
            if done is not None:
                done(model, job, stored)

        found[model] = compare.run(comparison, workers=workers, done=each)
    return found


def temperatures(comparison: Comparison, scheme: str) -> dict[int, float] | None:
    """Return the temperature of each place among the folds; None where there were no inner folds, or no logits.

    It is fitted on the inner folds' logits under the settings that were chosen, of the first seed; all models of a
    local-only run share one, as they share their settings.
    """
    if not comparison.tunes:
        return None
    kind, label = _job_key(comparison, scheme)
    found: dict[int, float] = {}
    for place, fold in enumerate(comparison.folds):
        several: list[Predictions] = []
        for number in range(comparison.inner):
            value = comparison.chosen[kind, label, fold]
            document = comparison.stored(Job(kind, label, comparison.seeds[0], fold, (number, comparison.inner), value))
            several += [] if document is None else compare.predictions(document)
        fitted = calibration.fit(several)
        if fitted is None:
            return None
        found[place] = fitted
    return found


def _job_key(comparison: Comparison, scheme: str) -> tuple[str, str]:
    """A scheme's kind of job and label."""
    kind = SCHEMES.get(scheme, scheme)
    return kind, next(iter(comparison.schemes)) if kind == "gossip" else ""


def predictions(comparison: Comparison, results: tables.Results, scheme: str,
                key: str = "predicted") -> list[list[Predictions]]:
    """Return, for each seed, each model's predictions over all folds; fold k is the k-th of ``comparison.folds``."""
    return tables.models_of(results, *_job_key(comparison, scheme), comparison.seeds, comparison.folds, key)


def tabulate(cross: CrossValidation, results: Mapping[str, tables.Results]) -> dict[str, Any]:
    """Return the cross-validation as one plain document, a row a model, in it the figures of each scheme."""
    rows = [_model(model, comparison, results[model]) for model, comparison in cross.comparisons.items()]
    comparison = next(iter(cross.comparisons.values()))
    documents = [document for one in results.values() for document in one.values()]
    first, config = documents[0], comparison.config
    topology = next(iter(comparison.schemes.values())).topology
    name, number = cross.split
    figures = next(iter(rows[0]["schemes"].values()))
    return {
        "corpus": first["corpus"], "split": name, "folds": list(comparison.folds), "folds_of_split": number,
        "seeds": list(comparison.seeds), "labels": first["labels"],
        "clips": figures["clips"], "speakers": figures["speakers"],
        "clips_per_speaker": _per_speaker(comparison, documents),
        "speaker_overlap": max(document["speaker_overlap"] for document in documents),
        "peers": comparison.peers, "topology": topology.name, "partition": config.corpus.partition,
        "task": config.training.task, "chance": figures.get("chance"), "majority": figures.get("majority"),
        "models": rows,
        "notes": [*dict.fromkeys([*cross.notes, *(note for one in documents for note in one["notes"])])],
    }


def _per_speaker(comparison: Comparison, documents: Sequence[Mapping[str, Any]]) -> list[int]:
    """The fewest and the most held-out clips of a speaker in a fold."""
    counts: list[int] = []
    for fold in comparison.folds:
        one = next(document for document in documents if document["job"]["fold"] == fold)
        counts += Counter((one.get("test") or one["ratings"])["speakers"]).values()
    return [min(counts), max(counts)]


def _model(model: str, comparison: Comparison, results: tables.Results) -> dict[str, Any]:
    """One model's row."""
    emotions = comparison.config.training.task != "dimensions"
    said = {scheme: predictions(comparison, results, scheme) if emotions else [] for scheme in schemes(comparison)}
    config, first = comparison.config, next(iter(results.values()))
    sizes = [document["parameters"] for document in results.values() if "parameters" in document]
    gossip = [document for job, document in results.items() if job.kind == "gossip"]
    rounds = config.training.rounds
    return {
        "model": model, "features": config.features.kind, "normalise": first["normalise"],
        "parameters": sizes[0] if sizes else None,
        "seconds_per_round": _mean([document["wall_s"] for document in gossip]) / rounds if gossip and rounds else None,
        "rounds": rounds, "local_steps": config.training.local_steps,
        "algorithm": config.gossip.algorithm,
        # Trees are grown on all clips of a peer at once.
        "clips_drawn": None if FAMILIES[config.model.name].boosts else
        comparison.peers * rounds * config.training.local_steps * config.training.batch_size,
        "selection": _selection(comparison),
        "schemes": {scheme: _scheme(comparison, results, scheme, said, first["labels"]) for scheme in said},
    }


def _scheme(comparison: Comparison, results: tables.Results, scheme: str, said: Mapping[str, list[list[Predictions]]],
            labels: Sequence[str]) -> dict[str, Any]:
    kind, label = _job_key(comparison, scheme)
    documents = [results[Job(kind, label, seed, fold)] for seed, fold in product(comparison.seeds, comparison.folds)]
    row: dict[str, Any] = {}
    if said[scheme]:
        row = _emotions(comparison, scheme, said, labels, documents[0]["corpus"]["name"].split("+"))
    rated = ratings(comparison, results, scheme)
    if rated:
        speakers = rated[0].speakers
        row = {"clips": len(speakers), "speakers": len(set(speakers)), **row, "ccc": concordances(rated)}
    if scheme == "gossip":
        row |= _network(documents)
    if scheme == "gossip" and said[scheme]:
        each = predictions(comparison, results, scheme, "predicted_peers")
        row |= {"uar_mean_peer": tables.uar_of(each)[0],
                "uar_worst_peer": _mean([min(metrics.uar_folds(one) for one in seed) for seed in each])}
        row["uar"]["by_enrolment"] = _by_enrolment(comparison, results, row["uar"]["folds"])
    return row


def _emotions(comparison: Comparison, scheme: str, said: Mapping[str, list[list[Predictions]]],
              labels: Sequence[str], corpora: Sequence[str]) -> dict[str, Any]:
    ours = said[scheme]
    flat = [one for seed in ours for one in seed]
    found = temperatures(comparison, scheme)
    scaled = None if found is None or any(one.logits is None for one in flat) else [
        calibration.scaled(one, found) for one in flat]
    kind, label = _job_key(comparison, scheme)
    tuned = [comparison.chosen[kind, label, fold] for fold in comparison.folds] if comparison.tunes else []
    figures = summarise(flat, labels, scaled=scaled)
    figures["uar"]["by_fold"] = {str(comparison.folds[int(place)]): value
                                 for place, value in figures["uar"]["by_fold"].items()}
    return {
        **figures, "seeds_sd": tables.uar_of(ours)[1], "models": len(ours[0]),
        "temperatures": None if found is None else [found[place] for place in range(len(comparison.folds))],
        "uar_by_corpus": {name: mean_uar(flat, name) for name in corpora} if len(corpora) > 1 else {},
        "tuned": tuned if any(tuned) else [],
        "gap_to_pooled": tables.paired(ours, said["pooled"]) if "pooled" in said and scheme != "pooled" else None,
        "gain_over_local": tables.paired(ours, said["local"]) if "local" in said and scheme != "local" else None,
        "gain_over_fedavg": tables.paired(ours, said["fedavg"]) if "fedavg" in said and scheme == "gossip" else None,
    }


def ratings(comparison: Comparison, results: tables.Results, scheme: str) -> list[Ratings]:
    """Return what each model of each seed says of the dimensions, over all folds; empty where none is learned."""
    kind, label = _job_key(comparison, scheme)
    found: list[Ratings] = []
    for seed in comparison.seeds:
        by_fold = [compare.ratings(results[Job(kind, label, seed, fold)]) for fold in comparison.folds]
        found += [Ratings.concatenate(parts) for parts in zip(*by_fold)]
    return found


def _by_enrolment(comparison: Comparison, results: tables.Results, all_clips: float) -> dict[str, float]:
    """UAR (a) by the number of clips that give a test speaker's statistics; empty where it does not apply."""
    found: dict[str, float] = {}
    kind, label = _job_key(comparison, "gossip")
    runs = {key: results[Job(kind, label, *key)] for key in product(comparison.seeds, comparison.folds)}
    for name in next(iter(runs.values())).get("predicted_enrolled", {}):
        by_seed = [Predictions.concatenate([
            compare.predictions({**runs[seed, fold], "only": [runs[seed, fold]["predicted_enrolled"][name]]}, "only")[0]
            for fold in comparison.folds]) for seed in comparison.seeds]
        found[name] = _mean([metrics.uar_folds(one) for one in by_seed])
    return {**{name: uar for name, uar in found.items() if name != "none"}, "all": all_clips,
            "none": found["none"]} if found else {}


def _network(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What only gossip has: agreement and traffic."""
    return {
        "consensus_distance": _mean([document["history"][-1]["distance"] for document in documents])
        if documents[0]["history"] else None,
        "bytes_per_peer": _mean([document["bytes_per_peer"] for document in documents]),
        "bytes_final_per_peer": _mean([document["bytes_final_per_peer"] for document in documents]),
        "messages_per_peer": _mean([document["messages_per_peer"] for document in documents]),
        "final_exchanges": _mean([document["final"]["exchanges"] for document in documents]),
        "converged": all(document["final"]["converged"] for document in documents),
    }


def _selection(comparison: Comparison) -> str:
    values = [value for value in comparison.tune if value]
    if not values:
        return "none: settings as given, the model after the last round"
    return (f"the best of {', '.join(values)} for each scheme and outer fold, by the UAR over {comparison.inner} inner "
            "folds of training speakers whom nobody trained on; the model after the last round")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
