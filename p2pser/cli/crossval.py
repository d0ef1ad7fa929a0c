"""``p2pser crossval``: every fold, several seeds, gossip beside what it is measured against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

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
    from p2pser.experiments.crossval import crossval as experiment
    from p2pser.experiments.crossval import topology_for
    from p2pser.experiments.grids import COMMA
    from p2pser.experiments.report import crossval as report

    out = options["out"] or Path("runs") / "crossval"
    given = {"corpus.split": split, "features.normalise": norm}
    config = run_configuration(options, more=[f"{field}={json.dumps(value)}" for field, value in given.items()
                                              if value is not None])
    folds = None if options["fold"] is None else (options["fold"],)
    cross = experiment(
        topology_for(config, topology, peers, folds), config,
        models=_names(COMMA.split(models)) if models else (config.model.name,),
        features=_names((features or "").split(",")), schemes=_names(schemes.split(",")), folds=folds, seeds=seeds,
        tune=";".join(tune), inner=inner, calibrate=calibrate, out=out, jobs=workers, progress=True)
    report.write(cross, out)
    if as_json:
        print_json({**cross.to_dict(), "out": str(out)})
        return
    for table in report.tables(cross):
        print_table(table.head, table.rows, title=table.title)
    click.echo(report.legend(cross))
    note(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")


def _names(parts: Sequence[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]
