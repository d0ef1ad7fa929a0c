"""A cross-validation as tables of text, and as the files of its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2pser.base.atomic import write_json
from p2pser.base.wording import span
from p2pser.evaluation import listing
from p2pser.evaluation.calibration import Reliability, probabilities, reliability
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import FEW_CLIPS, FEW_SPEAKERS
from p2pser.experiments.crossval import CrossValidation, ModelRow, ready
from p2pser.experiments.differences import PairedDifference
from p2pser.experiments.jobs import file_name
from p2pser.experiments.report.comparison import BUDGETS, points, with_sd
from p2pser.experiments.report.predictions import confusion_picture, reliability_picture

DIFFERENCES = ("gap_to_pooled", "gap_to_pooled_steps", "gain_over_local")
"""Keys of the paired differences that the tables show."""


class Table(NamedTuple):
    """Rows of text under a head; title: what stands above it."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def write(cross: CrossValidation, out: Path) -> None:
    """Write ``crossval.json``, and where emotions are learned ``predictions.csv`` and each model's pictures: its
    confusion matrices, and how often it is right by its confidence.
    """
    if cross.task != "dimensions":
        listing.write(out / "predictions.csv", cross.prediction_rows())
    for row in cross.models if cross.task != "dimensions" else ():
        name = file_name(row.model)
        counts = {scheme: figures["confusion"] for scheme, figures in row.schemes.items()}
        confusion_picture(out / f"confusion-{name}.png", counts, cross.labels)
        if curves := reliabilities(cross, row):
            reliability_picture(out / f"calibration-{name}.png", curves)
    write_json(out / "crossval.json", {**cross.to_dict(), "out": str(out)})


def tables(cross: CrossValidation) -> list[Table]:
    """Return all tables: that of the models, then each model's."""
    return [of_models(cross), *(table for row in cross.models for table in of_schemes(row))]


def of_models(cross: CrossValidation) -> Table:
    """Return a row for each model: UAR (a) of each scheme, the paired gaps and gain of gossip, size and time.

    Where no emotions are learned, the mean CCC over the dimensions takes the place of UAR.
    """
    shown = list(dict.fromkeys(scheme for row in cross.models for scheme in row.schemes))
    emotions = cross.task != "dimensions"
    rows = []
    for row in cross.models:
        gossip = row.schemes.get("gossip", {})
        pairs = tuple(_points(gossip.get(key)) for key in DIFFERENCES)
        rows.append((
            row.model, row.features, *(_headline(row.schemes.get(scheme)) for scheme in shown),
            *(pairs if emotions else ()),
            "-" if row.parameters is None else f"{row.parameters:,}",
            "-" if row.seconds_per_round is None else f"{row.seconds_per_round:.3f}",
        ))
    head = ("gossip to pooled", "to pooled-steps", "over local") if emotions else ()
    return Table("UAR (a), unseen speakers" if emotions else "mean CCC, unseen speakers",
                 ("model", "features", *shown, *head, "parameters", "s/round"), rows)


def _points(difference: Mapping[str, Any] | None) -> str:
    return points(None if difference is None else PairedDifference(**difference))


def of_schemes(row: ModelRow) -> list[Table]:
    """Return one model's tables: accuracy, recall by emotion, UAR by corpus where there are several, UAR by group,
    calibration, dimensions.
    """
    main: list[tuple[str, ...]] = []
    recall: list[tuple[str, ...]] = []
    groups: list[tuple[str, ...]] = []
    chances: list[tuple[str, ...]] = []
    rated: list[tuple[str, ...]] = []
    corpora: list[tuple[str, ...]] = []
    for scheme, figures in row.schemes.items():
        if "uar" in figures:
            main += _main(scheme, figures)
            recall.append((scheme, *("-" if value is None else f"{value:.2f}" for value in figures["recall"].values())))
            if figures["uar_by_corpus"]:
                corpora.append((scheme, *map(_number, figures["uar_by_corpus"].values())))
            if figures["worst_speaker"] is not None:
                groups.append((scheme, *_groups(figures)))
            if figures["calibration"] is not None:
                chances.append((scheme, *_chances(figures)))
        if "ccc" in figures:
            rated.append((scheme, *(f"{_number(ccc['pooled'])}{span(ccc['interval'])}"
                                    for ccc in figures["ccc"].values())))
    first = next(iter(row.schemes.values()))
    name = f"{row.model} on {row.features}, normalisation {row.normalise}"
    tables = [
        Table(name, ("", "UAR (a)", "sd folds", "sd seeds", "UAR (b)", "accuracy", "macro F1", "to pooled",
                     "to pooled-steps", "over local"), main),
        Table("recall", ("", *first.get("labels", ())), recall),
        Table("UAR (b) by corpus", ("", *first.get("uar_by_corpus", ())), corpora),
        Table("whom it serves worse", ("", "women UAR (a)", "men UAR (a)", "gap f - m", "worst speaker"), groups),
        Table("calibration", ("", "ECE", "scaled", "Brier", "scaled", "NLL", "scaled", "temperatures"), chances),
        *of_coverage(row.schemes),
        Table(f"CCC of dimensions, {name}", ("", *first.get("ccc", ())), rated),
    ]
    return [table for table in tables if table.rows]


def _main(scheme: str, figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    uar = figures["uar"]
    rows: list[tuple[str, ...]] = [(
        scheme, f"{uar['folds']:.3f}{span(uar['folds_interval'])}", _number(uar["folds_sd"]),
        _number(figures["seeds_sd"]), f"{uar['pooled']:.3f}{span(uar['pooled_interval'])}",
        f"{figures['accuracy']:.3f}", f"{figures['macro_f1']:.3f}", *(_points(figures[key]) for key in DIFFERENCES),
    )]
    if "uar_mean_peer" in figures:
        rows.append(("  mean peer", f"{figures['uar_mean_peer']:.3f}", *[""] * 8))
        rows.append(("  worst peer", f"{figures['uar_worst_peer']:.3f}", *[""] * 8))
    return rows


def _headline(figures: Mapping[str, Any] | None) -> str:
    """UAR (a) with its sd over seeds, or the mean CCC over the dimensions that are known."""
    if figures is None:
        return "-"
    if "uar" in figures:
        return with_sd(figures["uar"]["folds"], figures["seeds_sd"])
    known = [ccc["pooled"] for ccc in figures["ccc"].values() if ccc["pooled"] is not None]
    return _number(sum(known) / len(known) if known else None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _groups(figures: Mapping[str, Any]) -> tuple[str, str, str, str]:
    gender, worst = figures["gender"], figures["worst_speaker"]
    few = worst["clips"] < FEW_CLIPS
    says = f" ({worst['clips']} clips: too few to judge by)" if few else span(worst["interval"])
    low = f"{worst['speaker']} {worst['uar']:.3f}{says}"
    if gender is None:
        return "-", "-", "-", low
    women, men = (f"{gender[name]['uar']:.3f}{_over(gender[name], gender[name]['interval'])}" for name in "fm")
    fewest = min((gender[name] for name in "fm"), key=lambda group: int(group["speakers"]))
    return women, men, f"{gender['gap']:+.3f}{_over(fewest, gender['gap_interval'], '+')}", low


def _over(group: Mapping[str, Any], interval: Sequence[float] | None, sign: str = "") -> str:
    """Return an interval over a group's speakers as text, or that they are too few for one."""
    return f" ({group['speakers']}*)" if group["speakers"] < FEW_SPEAKERS else span(interval, sign)


def of_coverage(schemes: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Return how often each scheme's sets of emotions hold the right one: over all speakers by level, and by group."""
    known = {scheme: figures["coverage"] for scheme, figures in schemes.items() if figures.get("coverage")}
    rows: list[tuple[str, ...]] = [
        (scheme if place == 0 else "", f"{100 * float(level):g} %", _covered(facts), f"{facts['size']:.2f}",
         f"{facts['one']:.2f}", f"{facts['unsure']:.2f}", _number(facts["right_answered"]))
        for scheme, coverage in known.items() for place, (level, facts) in enumerate(coverage["levels"].items())]
    groups: list[tuple[str, ...]] = [
        (scheme, name, f"{group} ({facts['speakers']})", _covered(facts)) for scheme, coverage in known.items()
        for name, each in coverage["groups"].items() for group, facts in each.items()]
    return [Table("sets of emotions on new speakers", ("", "level", "hold the right one", "emotions", "one",
                                                       "not sure", "accuracy of the others"), rows),
            Table("sets at 90 % by group", ("", "", "group (speakers)", "hold the right one"), groups)]


def _covered(facts: Mapping[str, Any]) -> str:
    return f"{facts['covered']:.3f}{_over(facts, facts['interval'])}"


def _chances(figures: Mapping[str, Any]) -> tuple[str, ...]:
    before, after, fitted = figures["calibration"], figures["calibration"]["scaled"], figures["temperatures"]
    pairs = [value for name in ("ece", "brier", "nll")
             for value in (f"{before[name]:.3f}", "-" if after is None else f"{after[name]:.3f}")]
    return (*pairs, "-" if fitted is None else f"{min(fitted):.2f} to {max(fitted):.2f}")


def legend(cross: CrossValidation) -> str:
    """Return what the tables' reader needs to know, in a few lines."""
    name = f"{cross.corpus['name']} {cross.corpus['version']}".rstrip()
    if cross.corpus["synthetic"]:
        name += " (synthetic: for trying the system only)"
    chance = "" if cross.chance is None else f"chance {cross.chance:.3f}, majority {cross.majority:.3f}; "
    return "\n".join([
        f"{name}, {cross.split}: {cross.clips} held-out clips of {cross.speakers} speakers in {len(cross.folds)} of "
        f"{cross.folds_of_split} folds, seeds {', '.join(map(str, cross.seeds))}; {cross.peers} peers on "
        f"{cross.topology}; {chance}test speakers that were trained on: {cross.speaker_overlap}",
        "UAR (a): mean over folds of the recall over the classes present; (b): over all predictions pooled; both with "
        "[95 % speaker bootstrap], of the mean over seeds. to pooled, to pooled-steps, over local: mean paired "
        "difference over folds and seeds [95 % paired speaker bootstrap], points. gossip: the consensus model; mean "
        "and worst peer: each peer's own before the final consensus. local: the mean over peers that train alone. "
        "worst speaker: [95 % over that speaker's clips]. s/round: simulated, all peers in one process.",
        BUDGETS,
        *([f"(N*): too few speakers, fewer than {FEW_SPEAKERS}, for an interval"] if _few(cross) else []),
        *([f"intervals over {cross.speakers} speakers say little: test on {FEW_SPEAKERS} or more"]
          if cross.speakers < FEW_SPEAKERS else []),
        *(line for row in cross.models for line in _model_lines(row, cross.clips_per_speaker)),
        *cross.notes])


def _few(cross: CrossValidation) -> bool:
    """Whether a group of the tables has too few speakers for an interval."""
    return any("*)" in cell for table in tables(cross) for row in table.rows for cell in row)


def _model_lines(row: ModelRow, clips_per_speaker: Sequence[int]) -> Iterator[str]:
    """Yield how a model was trained and chosen, what gossip sent, and its UAR by enrolment."""
    drawn = "" if row.clips_drawn is None else \
        f" of {row.local_steps} local steps, {row.clips_drawn:,} clips drawn by each scheme"
    yield f"{row.model}: {row.algorithm}, {row.rounds} rounds{drawn}; selection: {row.selection}"
    gossip = row.schemes.get("gossip")
    if gossip is None:
        return
    distance = gossip["consensus_distance"]
    yield (f"{row.model}, gossip: {gossip['bytes_per_peer'] / 1e6:.2f} MB in {gossip['messages_per_peer']:.0f} "
           f"messages a peer, and {gossip['bytes_final_per_peer'] / 1e6:.2f} MB in the final consensus"
           + ("" if gossip["converged"] else ", which was given up")
           + ("" if distance is None else f"; consensus distance after the last round {distance:.1e}"))
    if by_enrolment := gossip.get("uar", {}).get("by_enrolment"):
        few, many = clips_per_speaker
        yield (f"{row.model}, gossip: UAR (a) by the number of clips that give a test speaker's statistics (all: "
               f"{few} to {many})   " + "   ".join(f"{count}: {uar:.3f}" for count, uar in by_enrolment.items()))
        yield (f"{row.model}, gossip: ECE by that number, scaled by the temperature of the other speakers   "
               + "   ".join(f"{count}: {ece:.3f}" for count, ece in gossip["ece_by_enrolment"].items()))


def reliabilities(cross: CrossValidation, row: ModelRow) -> dict[str, dict[str, Reliability]]:
    """Return, for each scheme of a model, its accuracy by its confidence, before and after temperature scaling."""
    curves: dict[str, dict[str, Reliability]] = {}
    for scheme, by_seed in cross.predictions.get(row.model, {}).items():
        models = [model for seed in by_seed for model in seed]
        temperatures = row.schemes[scheme]["temperatures"]
        if any(model.logits is None for model in models):
            continue
        curves[scheme] = {"before": _pooled(models)}
        if temperatures is not None:
            curves[scheme]["after scaling"] = _pooled([ready(model, temperatures) for model in models])
    return curves


def _pooled(models: Sequence[Predictions]) -> Reliability:
    whole = Predictions.concatenate(models)
    return reliability(probabilities(whole), whole.targets)
