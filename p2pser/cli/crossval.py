"""``p2pser crossval``: every fold, several seeds, gossip beside what it is measured against."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import (
    RunOptions,
    device_option,
    experiment_options,
    json_option,
    listed,
    note,
    print_json,
    print_table,
    run_options,
)
from p2pser.cli.kinds import writable


@click.command()
@click.option("--scheme", "schemes", default="gossip,fedavg,pooled,pooled-steps,local", show_default=True,
              metavar="NAME,...",
              help="What is trained: between peers, with a server, on all clips together (pooled: the same clips in "
                   "batches of 64; pooled-steps: the same clips in as many steps as a peer takes), each peer alone.")
@click.option("--model", "models", metavar="NAME[:SETTING=VALUE]...,...",
              help="Families (p2pser models), each with settings of its own: mlp,svm:training.lr=0.2.  "
                   "[default: the run's]")
@click.option("--norm", type=click.Choice(["auto", "none", "global", "speaker", "public"]),
              help="Statistics to scale by.")
@click.option("--calibrate/--no-calibrate", default=True, show_default=True,
              help="Fit temperatures on inner folds, which have to be trained for it.")
@experiment_options
@json_option
@device_option
@run_options("ring", lists={
    "folds": "Folds: numbers, all, or all of a split: loso, emobox, group:K, each, corpus, language.  [default: all]",
    "features": "Kinds of features; a model takes the first that has the form it needs.  [default: the run's]",
    "peers": "Number of peers.  [default: one per training speaker]"})
def crossval(options: RunOptions, device: str | None, schemes: str, models: str | None, norm: str | None, seeds: int,
             tune: tuple[str, ...], inner: int, calibrate: bool, workers: int | str | None, as_json: bool) -> None:
    """Cross-validate: all folds (or those of --folds), several seeds, all schemes on the same clips and budget.

    Prints UAR with intervals over speakers, paired differences, recall, UAR by gender, the worst speaker and
    calibration. --out is its folder [default: runs/crossval]: crossval.json, predictions.csv, confusion-MODEL.png,
    calibration-MODEL.png and a file a finished run: a second call with the same settings computes only what is
    missing.

    Example: p2pser crossval --corpus emodb --data emodb/ --folds loso --scheme gossip,fedavg,pooled,pooled-steps,local
    --model mlp --features functionals --norm speaker --seeds 3
    """
    from p2pser.experiments.crossval import crossval as experiment
    from p2pser.experiments.crossval import prepare, topology_for
    from p2pser.experiments.grids import COMMA
    from p2pser.experiments.report import crossval as report

    out = writable(options.out or Path("runs") / "crossval")
    config = options.config({"features.normalise": norm, "training.device": device})
    folds = options.fold_numbers()
    setup = prepare(
        topology_for(config, options.topology, options.peers, folds), config,
        models=[name.strip() for name in COMMA.split(models)] if models else (config.model.name,),
        features=listed(options.features), schemes=listed(schemes), folds=folds, seeds=seeds,
        tune=";".join(tune), inner=inner, calibrate=calibrate, out=out, progress=True)
    cross = experiment(setup, jobs=workers, progress=True)
    report.write(cross, out)
    if as_json:
        print_json({**cross.to_dict(), "out": str(out)})
        return
    for table in report.tables(cross):
        print_table(table.head, table.rows, title=table.title)
    click.echo(report.legend(cross))
    note(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")
