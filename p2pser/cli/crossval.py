"""``p2pser crossval``: every fold and several seeds of gossip, server, pooled and local-only training."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.base.wording import listed
from p2pser.cli.common import RunOptions, device_option, experiment_options, json_option, renamed, run_options
from p2pser.cli.kinds import writable
from p2pser.cli.output import echo, note, print_json, print_table


@click.command()
@click.option("--scheme", "schemes", default="gossip,fedavg,pooled,pooled-steps,local", show_default=True,
              metavar="NAME,...",
              help="Kinds of training: gossip between peers, a server, one model on the clips of all peers (pooled: in "
                   "batches of 64; pooled-steps: in as many steps as a peer takes), each peer alone.")
@click.option("--model", "models", metavar="NAME[:SETTING=VALUE]...,...",
              help="Families (p2pser models), each with its settings after colons: mlp,svm:training.lr=0.2.  "
                   "[default: the run's]")
@renamed("--norm", "--set", setting="features.normalise")
@click.option("--calibrate/--no-calibrate", default=True, show_default=True,
              help="Fit the temperatures of the probabilities on inner folds, each with runs of its own.")
@experiment_options
@json_option
@device_option
@run_options("ring", lists={
    "folds": "Folds to average over: numbers, all, or all of a split: loso, emobox, group:K, each, corpus, language.  "
             "[default: all]",
    "features": "Kinds of features; a model takes the first that has the form it needs.  [default: the run's]",
    "peers": "Number of peers.  [default: one per training speaker]",
    "out": "Folder of the results.  [default: runs/crossval]"})
def crossval(options: RunOptions, device: str | None, schemes: str, models: str | None, seeds: int,
             tune: tuple[str, ...], inner: int, calibrate: bool, workers: int | str | None, as_json: bool) -> None:
    """Cross-validate: all folds (or those of --folds), several seeds, all schemes on the same clips and budget.

    Prints UAR with intervals over speakers, paired differences, recall, UAR by gender, the worst speaker and
    calibration. Writes to --out crossval.json, predictions.csv, confusion-MODEL.png, calibration-MODEL.png and a file
    for each finished run. A second call with the same settings computes only what is missing.

    Example: p2pser crossval --corpus emodb --data emodb/ --folds loso --scheme gossip,fedavg,pooled,pooled-steps,local
    --model mlp --features functionals --set features.normalise=speaker --seeds 3
    """
    from p2pser.experiments.crossval import crossval as experiment
    from p2pser.experiments.crossval import prepare, topology_for
    from p2pser.experiments.report import crossval as report

    out = writable(options.out or Path("runs") / "crossval")
    config = options.config({"training.device": device})
    folds = options.fold_numbers()
    setup = prepare(
        topology_for(config, options.topology, options.peers, folds), config,
        models=listed(models) or (config.model.name,),
        features=listed(options.features), schemes=listed(schemes), folds=folds, seeds=seeds,
        tune=";".join(tune), inner=inner, calibrate=calibrate, out=out, progress=True)
    cross = experiment(setup, jobs=workers, progress=True)
    report.write(cross, out)
    if as_json:
        print_json({**cross.to_dict(), "out": str(out)})
        return
    for table in report.tables(cross):
        print_table(table.head, table.rows, title=table.title)
    echo(report.legend(cross))
    note(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")
