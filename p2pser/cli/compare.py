"""``p2pser compare``: topologies and algorithms beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import (
    RunOptions,
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
@experiment_options
@json_option
@run_options("ring,chain,star,torus,exponential,complete", peers=16, lists={
    "topology": "Topology files, or names of shipped ones.",
    "folds": "Folds to average over: numbers, all, or all of a split.  [default: the run's fold]",
    "algorithm": "Gossip algorithms, each on each topology, with hyper-parameters after colons; a name with a dot is a "
                 "setting: k-gt:training.momentum=0; values of its own to tune: training.lr=0.1|0.2.  [default: the "
                 "run's]"})
def compare(options: RunOptions, tune: tuple[str, ...], inner: int, seeds: int, workers: int | None,
            as_json: bool) -> None:
    """Compare topologies and algorithms by simulated runs, with pooled, local-only and server training beside them.

    --out is the folder of the comparison [default: runs/compare]: table.csv, comparison.json, comparison.png and
    a file a finished run. A second call with the same settings computes only what is missing.

    Example: p2pser compare --topology ring,torus,complete --peers 16 --seeds 3

    Example: p2pser compare --topology ring --algorithm dfedavg,quasi-global-momentum --set training.momentum=0
    --tune training.lr=0.05,0.1,0.2
    """
    from p2pser.experiments.compare import compare as experiment
    from p2pser.experiments.report.comparison import FILES, HEAD, legend, text_rows, write

    out = writable(options.out or Path("runs") / "compare")
    config = options.config()
    comparison = experiment(
        options.graphs(config), config, algorithms=listed(options.algorithm), seeds=seeds,
        folds=(config.corpus.fold,) if options.folds is None else options.fold_numbers(), tune=";".join(tune),
        inner=inner, out=out, jobs=workers, progress=True)
    write(comparison, out)
    if as_json:
        print_json({**comparison.to_dict(), "out": str(out)})
        return
    print_table(HEAD, text_rows(comparison), sections=(len(comparison.schemes) - 1,))
    click.echo(legend(comparison))
    note(f"written to {out}: {', '.join(FILES)}")
