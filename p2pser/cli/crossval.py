"""``p2pser crossval``: every fold, several seeds, gossip beside what it is measured against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from p2pser.base.progress import progress
from p2pser.cli.common import json_option, note, print_json, print_table, run_configuration, run_options


@click.command()
@click.option("--folds", "split", metavar="SPLIT",
              help="loso, emobox, group:K, each, corpus or language.  [default: the corpus's own]")
@click.option("--scheme", "schemes", default="gossip,fedavg,pooled,local", show_default=True, metavar="NAME,...",
              help="What is trained: between peers, with a server, on one heap, each peer alone.")
@click.option("--model", "models", metavar="NAME[:SETTING=VALUE]...,...",
              help="Families (p2pser models), each with settings of its own: mlp,svm:training.lr=0.2.  "
                   "[default: the run's]")
@click.option("--features", metavar="KIND,...",
              help="Kinds of features; a model takes the first that has the form it needs.  [default: the run's]")
@click.option("--norm", type=click.Choice(["auto", "none", "global", "speaker"]), help="Statistics to scale by.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True,
              help="How many seeds, counted from --seed on.")
@click.option("--topology", default="ring", show_default=True, help="Topology file or the name of a shipped one.")
@click.option("--peers", type=click.IntRange(min=1), help="Number of peers.  [default: one a training speaker]")
@click.option("--tune", multiple=True, metavar="SETTING=VALUE,VALUE,...",
              help="Let each scheme take the best value on inner folds (several times: of the whole grid).")
@click.option("--inner", type=click.IntRange(min=2), default=3, show_default=True,
              help="Inner folds, of training speakers.")
@click.option("--calibrate/--no-calibrate", default=True, show_default=True,
              help="Fit temperatures on inner folds, which have to be trained for it.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@json_option
@run_options
def crossval(split: str | None, schemes: str, models: str | None, features: str | None, norm: str | None, seeds: int,
             topology: str, peers: int | None, tune: tuple[str, ...], inner: int, calibrate: bool,
             workers: int | None, as_json: bool, **options: Any) -> None:
    """Cross-validate: all folds (or the one of --fold), several seeds, all schemes on the same clips and budget.

    Prints UAR with intervals over speakers, paired differences, recall, UAR by gender, the worst speaker and
    calibration. --out is its folder [default: runs/crossval]: crossval.json, predictions.csv, confusion-MODEL.png,
    calibration-MODEL.png and a file a finished run: a second call with the same settings computes only what is
    missing.

    Example: p2pser crossval --corpus emodb --data emodb/ --folds loso --scheme gossip,fedavg,pooled,local
    --model mlp --features functionals --norm speaker --seeds 3
    """
    from p2pser.base.atomic import write_json
    from p2pser.evaluation import listing
    from p2pser.experiments import crossval as experiment
    from p2pser.experiments.compare import COMMA
    from p2pser.experiments.report import crossval as text

    out = options["out"] or Path("runs") / "crossval"
    given = {"corpus.split": split, "features.normalise": norm}
    config = run_configuration(options, more=[f"{field}={json.dumps(value)}" for field, value in given.items()
                                              if value is not None])
    chosen = experiment.prepare(
        config, out, models=_names(COMMA.split(models)) if models else (config.model.name,),
        kinds=_names((features or "").split(",")), wanted=_names(schemes.split(",")), topology=topology, peers=peers,
        seeds=seeds, fold=options["fold"], tune=";".join(tune), inner=inner, calibrate=calibrate, progress=True)
    results = _run(chosen, workers)
    document = {**experiment.tabulate(chosen, results), "out": str(out)}
    if document["task"] != "dimensions":
        listing.write(out / "predictions.csv", text.rows(chosen, results))
        _draw(out, chosen, results, document)
    write_json(out / "crossval.json", document)
    if as_json:
        print_json(document)
        return
    for table in [text.of_models(document), *(one for row in document["models"] for one in text.of_schemes(row))]:
        print_table(table.head, table.rows, title=table.title)
    click.echo(text.legend(document))
    note(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")


def _draw(out: Path, chosen: Any, results: Any, document: Any) -> None:
    """Draw each model's confusion matrices and how often it is right by how sure it is."""
    from p2pser.experiments.report import crossval as text
    from p2pser.experiments.report.predictions import confusion_picture, reliability_picture

    for row in document["models"]:
        name = chosen.comparisons[row["model"]].out.name
        counts = {scheme: one["confusion"] for scheme, one in row["schemes"].items()}
        confusion_picture(out / f"confusion-{name}.png", counts, document["labels"])
        if drawn := text.reliabilities(chosen, results, row["model"]):
            reliability_picture(out / f"calibration-{name}.png", drawn)


def _names(parts: Sequence[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]


def _run(chosen: Any, workers: int | None) -> Any:
    """Run the jobs under a progress bar on standard error."""
    from p2pser.experiments import crossval as experiment

    with progress("runs", chosen.jobs) as bar:
        def done(model: str, job: Any, found: bool) -> None:
            inner = "" if job.inner is None else f", inner fold {job.inner[0]} {job.value}".rstrip()
            bar.advance(text=f"{model}, {job.kind}, fold {job.fold}, seed {job.seed}{inner}")

        return experiment.run(chosen, workers=workers, done=done)
