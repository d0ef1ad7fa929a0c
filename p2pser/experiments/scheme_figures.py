"""The figures of the schemes of a cross-validated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np

from p2pser.evaluation import calibration, metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import concordances, summarise
from p2pser.experiments.by_corpus import mean_uar
from p2pser.experiments.differences import mean, paired, uar_of, worst_uar_of
from p2pser.experiments.held_sets import coverage_of
from p2pser.experiments.jobs import Document, Job
from p2pser.experiments.results import Results, predictions, traffic

Part = tuple[str, str]
"""(kind, label) of a scheme's runs."""


def figures(results: Results, schemes: Mapping[str, Part]) -> dict[str, dict[str, Any]]:
    """Return the figures of each scheme, ready for JSON.

    Of emotions: those of ``evaluation.summary.summarise``, with ``uar.by_enrolment`` and ``ece_by_enrolment`` (gossip),
    ``coverage`` (of sets of emotions), ``seeds_sd``, ``models`` (how many a run ends with), ``temperatures`` (of each
    fold), ``uar_by_corpus``, ``tuned`` (of each fold), and the paired differences ``gap_to_pooled``,
    ``gap_to_pooled_steps``, ``gain_over_local``, ``gain_over_fedavg``. Of dimensions: ``ccc``. Of gossip:
    ``uar_mean_peer``, ``uar_worst_peer``, agreement and traffic.
    """
    emotions = results.plan.config.training.task != "dimensions"
    models = {scheme: results.models(*part) for scheme, part in schemes.items()} if emotions else {}
    rows: dict[str, dict[str, Any]] = {}
    for scheme, part in schemes.items():
        row = _emotions(results, scheme, part, models) if emotions else {}
        if ratings := results.ratings(*part):
            speakers = ratings[0].speakers
            row = {"clips": len(speakers), "speakers": len(set(speakers)), **row, "ccc": concordances(ratings)}
        if scheme == "gossip":
            row |= traffic(results.of(*part))
        if scheme == "gossip" and emotions:
            peers = results.models(*part, "predicted_peers")
            row |= {"uar_mean_peer": uar_of(peers)[0], "uar_worst_peer": worst_uar_of(peers)}
            curve = _by_enrolment(results, part, models[scheme])
            row["uar"]["by_enrolment"], row["ece_by_enrolment"] = curve.get("uar", {}), curve.get("ece", {})
        rows[scheme] = row
    return rows


def _emotions(results: Results, scheme: str, part: Part,
              models: Mapping[str, list[list[Predictions]]]) -> dict[str, Any]:
    ours, folds, labels = models[scheme], results.plan.folds, results.first["labels"]
    flat = [model for seed in ours for model in seed]
    temperatures = temperatures_of(results, part)
    known = temperatures is not None and all(model.logits is not None for model in flat)
    summary = summarise(flat, labels, scaled=[calibration.scaled(model, dict(enumerate(temperatures or ())))
                                              for model in flat] if known else None)
    summary["uar"]["by_fold"] = {str(folds[int(place)]): uar for place, uar in summary["uar"]["by_fold"].items()}
    corpora, tuned = results.first["corpus"]["name"].split("+"), results.chosen(*part)

    def difference(other: str, wanted: bool = True) -> dict[str, Any] | None:
        return asdict(paired(ours, models[other])) if wanted and other in models and other != scheme else None

    return {
        **summary, "coverage": coverage_of(results, part, temperatures), "seeds_sd": uar_of(ours)[1],
        "models": len(ours[0]), "temperatures": temperatures,
        "uar_by_corpus": {name: mean_uar(flat, name) for name in corpora} if len(corpora) > 1 else {},
        "tuned": tuned if any(tuned) else [],
        "gap_to_pooled": difference("pooled"), "gap_to_pooled_steps": difference("pooled-steps"),
        "gain_over_local": difference("local"),
        "gain_over_fedavg": difference("fedavg", scheme == "gossip"),
    }


def temperatures_of(results: Results, part: Part) -> list[float] | None:
    """Return the temperature of each fold; None where no inner folds ran, or their models gave no logits.

    It is fitted on the inner folds' logits under the settings that were chosen, of the first seed. All models of a
    local-only run share one, as they share their settings.
    """
    if not results.plan.tunes:
        return None
    fitted = [calibration.fit(results.inner_models(*part, fold)) for fold in results.plan.folds]
    known = [temperature for temperature in fitted if temperature is not None]
    return known if len(known) == len(fitted) else None


def _by_enrolment(results: Results, part: Part, everything: Sequence[Sequence[Predictions]]) -> dict[str, Any]:
    """Return ``uar`` (a) and ``ece`` by the number of clips that give a test speaker's statistics; {} where it does not
    apply. Each speaker's logits are scaled by the temperature of the other speakers.
    """
    plan = results.plan
    runs = {key: results.outer[Job(*part, *key)] for key in product(plan.seeds, plan.folds)}
    numbers = list(next(iter(runs.values())).get("logits_enrolled", {}))
    if not numbers:
        return {}
    by_number = {number: [Predictions.concatenate([_enrolled(runs[seed, fold], number) for fold in plan.folds])
                          for seed in plan.seeds] for number in numbers}
    by_number["all"] = [seed[0] for seed in everything]
    return {"uar": {number: mean(map(metrics.uar_folds, models)) for number, models in by_number.items()},
            "ece": {number: mean(map(_honest_ece, models)) for number, models in by_number.items()}}


def _enrolled(document: Document, number: str) -> Predictions:
    logits = np.array(document["logits_enrolled"][number])
    return dataclasses.replace(predictions({**document, "enrolled": [logits.argmax(axis=1)]}, "enrolled")[0],
                               logits=logits)


def _honest_ece(model: Predictions) -> float:
    scaled = calibration.by_others(model) if len(set(model.speakers)) > 1 else model
    return calibration.ece(calibration.probabilities(scaled), scaled.targets)
