"""What a comparison found, in numbers: per topology and baseline, paired over folds and seeds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.compare import BASELINES, Comparison, Job, predictions
from p2pser.topology.summary import summarise

Results = Mapping[Job, Mapping[str, Any]]

NEAR_POOLED = 0.95
"""Share of the pooled UAR that "rounds to 95 % of pooled" asks for."""


def models_of(
    results: Results, kind: str, scheme: str, seeds: Sequence[int], folds: Sequence[int], key: str = "predicted"
) -> list[list[Predictions]]:
    """Return, for each seed, each model's predictions pooled over the folds."""
    found = []
    for seed in seeds:
        by_fold = [predictions(results[Job(kind, scheme, seed, fold)], key) for fold in folds]
        found.append([Predictions.concatenate(list(parts)) for parts in zip(*by_fold)])
    return found


def paired(ours: list[list[Predictions]], theirs: list[list[Predictions]]) -> dict[str, float | None]:
    """The mean paired difference over seeds, with its speaker bootstrap.

    As many models on both sides are paired one by one, else each of ours with each of theirs.
    """
    a: list[Predictions] = []
    b: list[Predictions] = []
    for mine, other in zip(ours, theirs):
        pairs = list(zip(mine, other) if len(mine) == len(other) else product(mine, other))
        a.extend(one for one, _ in pairs)
        b.extend(one for _, one in pairs)
    difference = metrics.paired(a, b)
    return {"mean": difference.mean, "low": _finite(difference.low), "high": _finite(difference.high)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def uar_of(models: list[list[Predictions]]) -> tuple[float, float | None]:
    """Mean over seeds and models of UAR (a), and the standard deviation over seeds of the models' mean."""
    by_seed = [float(np.mean([metrics.uar_folds(one) for one in seed])) for seed in models]
    return float(np.mean(by_seed)), float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None


def _of(results: Results, kind: str, scheme: str) -> list[Mapping[str, Any]]:
    """The results of all runs of a kind, of a scheme."""
    return [document for job, document in results.items() if job.kind == kind and job.scheme == scheme]


def curves(comparison: Comparison, results: Results) -> dict[str, dict[str, list[list[float | None]]]]:
    """Return by scheme the UAR and the consensus distance, one curve a run.

    The UAR is the consensus model's; where a run ends with several models, the mean of theirs.
    """
    found: dict[str, dict[str, list[list[float | None]]]] = {}
    for label in comparison.schemes:
        documents = _of(results, "gossip", label)
        found[label] = {
            "uar": [[entry["uar"]["consensus" if len(document["predicted"]) == 1 else "mean"]
                     for entry in document["history"]] for document in documents],
            "distance": [[entry["distance"] for entry in document["history"]] for document in documents],
        }
    return found


def rounds_to(curves: list[list[float | None]], level: float) -> int | None:
    """Return the first round (from 1) whose UAR, the mean over runs, is at least ``level``; None where none is."""
    for round, values in enumerate(zip(*curves), start=1):
        known = [value for value in values if value is not None]
        if known and float(np.mean(known)) >= level:
            return round
    return None


def tabulate(comparison: Comparison, results: Results) -> dict[str, Any]:
    """Return the comparison as one plain document: ``schemes`` and ``baselines`` are lists of rows.

    UAR is the mean over seeds of UAR (a) (mean over folds of the recall over the classes present), its sd is over
    seeds; ``uar_pooled_predictions`` is (b). gap_to_pooled and gain_over_local are mean paired differences over
    folds and seeds with 95 % paired speaker-bootstrap intervals; bytes_per_peer is the payload of the rounds,
    bytes_final_per_peer that of the final consensus.
    """
    seeds, folds, training = comparison.seeds, comparison.folds, comparison.config.training
    pooled = models_of(results, "pooled", "", seeds, folds)
    alone = models_of(results, "local-only", "", seeds, folds)
    level = NEAR_POOLED * uar_of(pooled)[0]
    drawn = curves(comparison, results)
    rows = []
    for label, scheme in comparison.schemes.items():
        facts = summarise(scheme.topology)
        documents = _of(results, "gossip", label)
        ours = models_of(results, "gossip", label, seeds, folds)
        each = models_of(results, "gossip", label, seeds, folds, "predicted_peers")
        mean, sd = uar_of(ours)
        reached = rounds_to(drawn[label]["uar"], level)
        rows.append({
            "scheme": label, "topology": scheme.topology.name, "settings": list(scheme.settings),
            "tuned": _chosen(comparison, "gossip", label), "peers": facts["peers"],
            "edges": facts["edges"], "degree": facts["degree"], "diameter": facts["diameter"],
            # What the runs mixed with: under clip weights not the graph's own.
            "slem": float(np.mean([d["slem"] for d in documents])),
            "spectral_gap": 1 - float(np.mean([d["slem"] for d in documents])),
            "bytes_per_peer": _mean(documents, "bytes_per_peer"),
            "bytes_final_per_peer": _mean(documents, "bytes_final_per_peer"),
            "uar": mean, "uar_sd": sd,
            "uar_pooled_predictions": float(np.mean([metrics.uar_pooled(one) for seed in ours for one in seed])),
            "uar_mean_peer": uar_of(each)[0],
            "uar_worst_peer": float(np.mean([min(metrics.uar_folds(one) for one in seed) for seed in each])),
            "gap_to_pooled": paired(ours, pooled), "gain_over_local": paired(ours, alone),
            "consensus_distance": float(np.mean([d["history"][-1]["distance"] for d in documents]))
            if documents[0]["history"] else None,
            "rounds_to_95": reached, "bytes_to_95": None if reached is None else float(
                np.mean([d["history"][reached - 1]["bytes"] for d in documents])),
            "final_exchanges": float(np.mean([d["final"]["exchanges"] for d in documents])),
            "converged": all(d["final"]["converged"] for d in documents),
        })
    baselines = []
    for kind in BASELINES:
        if kind not in comparison.kinds:
            continue
        models = models_of(results, kind, "", seeds, folds)
        mean, sd = uar_of(models)
        documents = _of(results, kind, "")
        baselines.append({
            "baseline": kind, "tuned": _chosen(comparison, kind, ""), "uar": mean, "uar_sd": sd,
            "uar_pooled_predictions": float(np.mean([metrics.uar_pooled(one) for seed in models for one in seed])),
            # A client of a server sends its row once a round.
            "bytes_per_peer": 4.0 * documents[0]["parameters"] * training.rounds if kind == "server" else 0.0,
            "gap_to_pooled": None if kind == "pooled" else paired(models, pooled),
        })
    first = next(iter(results.values()))
    return {
        "corpus": first["corpus"], "labels": first["labels"], "normalise": first["normalise"],
        "speaker_overlap": max(document["speaker_overlap"] for document in results.values()),
        "speakers": len(set(pooled[0][0].speakers)), "clips": len(pooled[0][0].targets),
        "peers": comparison.peers, "seeds": list(seeds), "folds": list(folds), "rounds": training.rounds,
        "local_steps": training.local_steps, "chance": 1 / len(first["labels"]),
        "selection": _selection(comparison),
        "schemes": rows, "baselines": baselines, "notes": first["notes"],
    }


def _chosen(comparison: Comparison, kind: str, scheme: str) -> list[str]:
    """What was chosen on inner folds, for each outer fold; empty where nothing was tuned."""
    return [comparison.chosen[kind, scheme, fold] for fold in comparison.folds] if comparison.values(scheme) else []


def _selection(comparison: Comparison) -> str:
    if not comparison.tunes:
        return "none: settings as given, the model after the last round"
    own = [f"{label.partition(':')[0]}: {', '.join(scheme.tune)}" for label, scheme in comparison.schemes.items()
           if scheme.tune]
    values = "; ".join(filter(None, [", ".join(comparison.tune), *own]))
    return (f"the best of {values} for each scheme, baseline and outer fold, by the UAR over {comparison.inner} inner "
            "folds of training speakers whom nobody trained on; the model after the last round")


def _mean(documents: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([document[key] for document in documents]))


def to_csv(document: Mapping[str, Any]) -> str:
    """Return the rows as CSV: schemes, then baselines (their own columns empty)."""
    rows = []
    for row in (*document["schemes"], *document["baselines"]):
        flat: dict[str, Any] = {"kind": "gossip" if "scheme" in row else "baseline"}
        flat["name"] = row.get("scheme") or row.get("baseline")
        for key, value in row.items():
            if isinstance(value, Mapping):
                flat.update({f"{key}_{part}": number for part, number in value.items()})
            elif isinstance(value, list):
                flat[key] = " ".join(value)
            elif key not in ("scheme", "baseline") and not (value is None and key == "gap_to_pooled"):
                flat[key] = value
        rows.append(flat)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def points(difference: Mapping[str, float | None] | None) -> str:
    """A paired difference in points of UAR."""
    if difference is None or difference["mean"] is None:
        return "-"
    low, high = difference["low"], difference["high"]
    interval = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * difference['mean']:+.1f}{interval}"


def _sized(value: float) -> str:
    return f"{value / 1e6:.1f}"


HEAD = ("", "gap", "degree", "MB/peer", "UAR (a)", "to pooled", "over local", "distance", "to 95 %: rounds", "MB",
        "final")


def text_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table's rows under ``HEAD`` as text, schemes first."""
    rows: list[tuple[str, ...]] = []
    for row in document["schemes"]:
        degree = row["degree"]
        spread = f"{degree['min']}" if degree["min"] == degree["max"] else f"{degree['min']}-{degree['max']}"
        rows.append((
            row["scheme"], f"{row['spectral_gap']:.3f}", spread, _sized(row["bytes_per_peer"]), _with_sd(row),
            points(row["gap_to_pooled"]), points(row["gain_over_local"]),
            "-" if row["consensus_distance"] is None else f"{row['consensus_distance']:.1e}",
            "-" if row["rounds_to_95"] is None else str(row["rounds_to_95"]),
            "-" if row["bytes_to_95"] is None else _sized(row["bytes_to_95"]),
            f"{row['final_exchanges']:.0f}" + ("" if row["converged"] else " (given up)"),
        ))
    for row in document["baselines"]:
        sent = _sized(row["bytes_per_peer"]) if row["baseline"] == "server" else "-"
        rows.append((row["baseline"], "", "", sent, _with_sd(row), points(row["gap_to_pooled"]), "", "", "", "", ""))
    return rows


def _with_sd(row: Mapping[str, Any]) -> str:
    return f"{row['uar']:.3f}" + ("" if row["uar_sd"] is None else f" ±{row['uar_sd']:.3f}")


def legend(document: Mapping[str, Any]) -> str:
    """Return what the table's reader needs to know, in a few lines."""
    corpus = document["corpus"]
    name = corpus["name"] + (" (synthetic: for trying the system only)" if corpus["synthetic"] else "")
    overlap = document["speaker_overlap"]
    lines = [
        f"{name}: {document['clips']} held-out clips of {document['speakers']} speakers in {len(document['folds'])} "
        f"fold(s), {len(document['seeds'])} seed(s), {document['peers']} peers, {document['rounds']} rounds of "
        f"{document['local_steps']} local steps; normalisation {document['normalise']}; "
        f"chance {document['chance']:.3f}",
        "gap: spectral gap 1 - slem. MB/peer: payload of the rounds, sent by a peer. UAR (a): mean over folds of the "
        "recall over the classes present, of the consensus model (where there is none, of each peer's), mean and sd "
        "over seeds. to pooled, over local: mean paired difference over folds and seeds [95 % paired speaker "
        "bootstrap], points. distance: consensus distance after the last round. to 95 %: rounds and MB/peer until the "
        "mean UAR is 95 % of pooled's. final: exchanges of the final consensus.",
        f"selection: {document['selection']}; test speakers that were trained on: {overlap}",
    ]
    return "\n".join([*lines, *document["notes"]])
