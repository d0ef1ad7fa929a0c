"""What a cross-validation found, as tables of text and what their reader needs to know, and as rows of a CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from p2pser.evaluation import listing
from p2pser.evaluation.calibration import Reliability, probabilities, reliability, scaled
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import span
from p2pser.experiments.crossval import CrossValidation, predictions, schemes, temperatures
from p2pser.experiments.report import comparison as tables


class Table(NamedTuple):
    """Rows of text under a head; title: what stands above it."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def of_models(document: Mapping[str, Any]) -> Table:
    """Return a row a model: UAR (a) of each scheme, the paired gap and gain of gossip, size and time.

    Where no emotions are learned, the mean CCC over the dimensions stands in the place of UAR.
    """
    shown = list(dict.fromkeys(scheme for row in document["models"] for scheme in row["schemes"]))
    emotions = document["task"] != "dimensions"
    rows = []
    for row in document["models"]:
        figures = row["schemes"]
        gossip = figures.get("gossip", {})
        paired = (tables.points(gossip.get("gap_to_pooled")), tables.points(gossip.get("gain_over_local")))
        rows.append((
            row["model"], row["features"], *(_headline(figures.get(scheme)) for scheme in shown),
            *(paired if emotions else ()),
            "-" if row["parameters"] is None else f"{row['parameters']:,}",
            "-" if row["seconds_per_round"] is None else f"{row['seconds_per_round']:.3f}",
        ))
    head = ("gossip to pooled", "over local") if emotions else ()
    return Table("UAR (a), unseen speakers" if emotions else "mean CCC, unseen speakers",
                 ("model", "features", *shown, *head, "parameters", "s/round"), rows)


def of_schemes(row: Mapping[str, Any]) -> list[Table]:
    """Return one model's tables: accuracy, recall by emotion, UAR by corpus where there are several, whom it serves
    worse, its probabilities, dimensions.
    """
    figures = row["schemes"]
    main: list[tuple[str, ...]] = []
    recall: list[tuple[str, ...]] = []
    groups: list[tuple[str, ...]] = []
    chances: list[tuple[str, ...]] = []
    rated: list[tuple[str, ...]] = []
    corpora: list[tuple[str, ...]] = []
    for scheme, one in figures.items():
        if "uar" in one:
            main += _main(scheme, one)
            recall.append((scheme, *("-" if value is None else f"{value:.2f}" for value in one["recall"].values())))
            if one["uar_by_corpus"]:
                corpora.append((scheme, *map(_number, one["uar_by_corpus"].values())))
            if one["worst_speaker"] is not None:
                groups.append((scheme, *_groups(one)))
            if one["calibration"] is not None:
                chances.append((scheme, *_chances(one)))
        if "ccc" in one:
            rated.append((scheme, *(f"{_number(ccc['pooled'])}{span(ccc['interval'])}" for ccc in one["ccc"].values())))
    first = next(iter(figures.values()))
    name = f"{row['model']} on {row['features']}, normalisation {row['normalise']}"
    found = [
        Table(name, ("", "UAR (a)", "sd folds", "sd seeds", "UAR (b)", "accuracy", "macro F1", "to pooled",
                     "over local"), main),
        Table("recall", ("", *first.get("labels", ())), recall),
        Table("UAR (b) by corpus", ("", *first.get("uar_by_corpus", ())), corpora),
        Table("whom it serves worse", ("", "women UAR (a)", "men UAR (a)", "gap f - m", "worst speaker"), groups),
        Table("calibration", ("", "ECE", "scaled", "Brier", "scaled", "NLL", "scaled", "temperatures"), chances),
        Table(f"CCC of dimensions, {name}", ("", *first.get("ccc", ())), rated),
    ]
    return [table for table in found if table.rows]


def _main(scheme: str, one: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(
        scheme, f"{one['uar']['folds']:.3f}{span(one['uar']['folds_interval'])}", _number(one["uar"]["folds_sd"]),
        _number(one["seeds_sd"]), f"{one['uar']['pooled']:.3f}{span(one['uar']['pooled_interval'])}",
        f"{one['accuracy']:.3f}", f"{one['macro_f1']:.3f}", tables.points(one["gap_to_pooled"]),
        tables.points(one["gain_over_local"]),
    )]
    if "uar_mean_peer" in one:
        rows.append(("  mean peer", f"{one['uar_mean_peer']:.3f}", *[""] * 7))
        rows.append(("  worst peer", f"{one['uar_worst_peer']:.3f}", *[""] * 7))
    return rows


def _headline(one: Mapping[str, Any] | None) -> str:
    """UAR (a) with its sd over seeds, or the mean CCC over the dimensions that are known."""
    if one is None:
        return "-"
    if "uar" in one:
        return f"{one['uar']['folds']:.3f}" + ("" if one["seeds_sd"] is None else f" ±{one['seeds_sd']:.3f}")
    known = [ccc["pooled"] for ccc in one["ccc"].values() if ccc["pooled"] is not None]
    return _number(sum(known) / len(known) if known else None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _groups(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    gender, worst = one["gender"], one["worst_speaker"]
    low = "-" if worst is None else f"{worst['speaker']} {worst['uar']:.3f}{span(worst['interval'])}"
    if gender is None:
        return "-", "-", "-", low
    women, men = (f"{gender[name]['uar']:.3f}{span(gender[name]['interval'])}" for name in "fm")
    return women, men, f"{gender['gap']:+.3f}{span(gender['gap_interval'], '+')}", low


def _chances(one: Mapping[str, Any]) -> tuple[str, ...]:
    before, after, found = one["calibration"], one["calibration"]["scaled"], one["temperatures"]
    pairs = [value for name in ("ece", "brier", "nll")
             for value in (f"{before[name]:.3f}", "-" if after is None else f"{after[name]:.3f}")]
    return (*pairs, "-" if found is None else f"{min(found):.2f} to {max(found):.2f}")


def legend(document: Mapping[str, Any]) -> str:
    """Return what the tables' reader needs to know, in a few lines."""
    corpus, folds = document["corpus"], len(document["folds"])
    name = f"{corpus['name']} {corpus['version']}".rstrip()
    if corpus["synthetic"]:
        name += " (synthetic: for trying the system only)"
    lines = [
        f"{name}, {document['split']}: {document['clips']} held-out clips of {document['speakers']} speakers in "
        f"{folds} of {document['folds_of_split']} folds, seeds {', '.join(map(str, document['seeds']))}; "
        f"{document['peers']} peers on {document['topology']}; "
        + ("" if document["chance"] is None else
           f"chance {document['chance']:.3f}, majority {document['majority']:.3f}; ")
        + f"test speakers that were trained on: {document['speaker_overlap']}",
        "UAR (a): mean over folds of the recall over the classes present; (b): over all predictions pooled; both with "
        "[95 % speaker bootstrap], of the mean over seeds. to pooled, over local: mean paired difference over folds "
        "and seeds [95 % paired speaker bootstrap], points. gossip: the consensus model; mean and worst peer: each "
        "peer's own before the final consensus. local: the mean over peers that train alone. worst speaker: [95 % "
        "over that speaker's clips]. s/round: simulated, all peers in one process.",
    ]
    for row in document["models"]:
        gossip = row["schemes"].get("gossip")
        drawn = "" if row["clips_drawn"] is None else \
            f" of {row['local_steps']} local steps, {row['clips_drawn']:,} clips drawn by each scheme"
        lines.append(f"{row['model']}: {row['algorithm']}, {row['rounds']} rounds{drawn}; "
                     f"selection: {row['selection']}")
        if gossip is not None:
            lines.append(
                f"{row['model']}, gossip: {gossip['bytes_per_peer'] / 1e6:.2f} MB in {gossip['messages_per_peer']:.0f} "
                f"messages a peer, and {gossip['bytes_final_per_peer'] / 1e6:.2f} MB in the final consensus"
                + ("" if gossip["converged"] else ", which was given up")
                + ("" if gossip["consensus_distance"] is None else
                   f"; consensus distance after the last round {gossip['consensus_distance']:.1e}"))
            if by_enrolment := gossip.get("uar", {}).get("by_enrolment"):
                few, many = document["clips_per_speaker"]
                lines.append(f"{row['model']}, gossip: UAR (a) by the number of clips that give a test speaker's "
                             f"statistics (all: {few} to {many})   "
                             + "   ".join(f"{count}: {uar:.3f}" for count, uar in by_enrolment.items()))
    return "\n".join([*lines, *document["notes"]])


def rows(cross: CrossValidation, results: Mapping[str, tables.Results]) -> Iterator[dict[str, Any]]:
    """Yield a row a prediction: of every clip, by every model, scheme and seed, and of local-only training every peer.

    Columns: corpus, model, scheme, seed, peer (local-only), path, speaker, gender, fold, target, predicted, ``p_LABEL``
    each (after temperature scaling where a temperature was fitted). Nothing where no emotions are learned.
    """
    for model, comparison in cross.comparisons.items():
        if comparison.config.training.task == "dimensions":
            continue
        document = next(iter(results[model].values()))
        for scheme in schemes(comparison):
            found = temperatures(comparison, scheme)
            for seed, several in zip(comparison.seeds, predictions(comparison, results[model], scheme)):
                for place, one in enumerate(several):
                    for row in listing.rows(_ready(one, found), document["labels"], corpus=document["corpus"]["name"],
                                            model=model, scheme=scheme, seed=seed,
                                            peer=place if len(several) > 1 else ""):
                        yield {**row, "fold": comparison.folds[row["fold"]]}


def _ready(one: Predictions, found: Mapping[int, float] | None) -> Predictions:
    return one if found is None or one.logits is None else scaled(one, found)


def reliabilities(cross: CrossValidation, results: Mapping[str, tables.Results],
                  model: str) -> dict[str, dict[str, Reliability]]:
    """Return, for each scheme of a model, how often it is right by how sure it is, before and after scaling."""
    comparison = cross.comparisons[model]
    drawn: dict[str, dict[str, Reliability]] = {}
    for scheme in schemes(comparison):
        several = [one for seed in predictions(comparison, results[model], scheme) for one in seed]
        found = temperatures(comparison, scheme)
        if any(one.logits is None for one in several):
            continue
        drawn[scheme] = {"before": _joined(several)}
        if found is not None:
            drawn[scheme]["after scaling"] = _joined([scaled(one, found) for one in several])
    return drawn


def _joined(several: Sequence[Predictions]) -> Reliability:
    whole = Predictions.concatenate(several)
    return reliability(probabilities(whole), whole.targets)
