"""``p2pser compare``: topologies and algorithms beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pser.cli.common import json_option, note, print_json, print_table, run_configuration, run_options


@click.command()
@click.option("--topologies", default="ring,chain,star,torus,exponential,complete", show_default=True,
              metavar="NAME,NAME,...", help="Topology files or names of shipped ones.")
@click.option("--algorithms", default="", metavar="NAME[:PARAM=VALUE]...,...",
              help="Gossip algorithms, each on each topology; a name with a dot is a setting: "
                   "k-gt:training.momentum=0; values of its own to tune: training.lr=0.1|0.2.  [default: the run's]")
@click.option("--tune", default="", metavar="SETTING=VALUE,VALUE,...",
              help="Let each scheme and baseline take the best value on inner folds, such as "
                   "training.lr=0.02,0.05,0.1.")
@click.option("--inner", type=click.IntRange(min=2), default=3, show_default=True, help="Inner folds of --tune.")
@click.option("--peers", type=click.IntRange(min=1), default=16, show_default=True, help="Number of peers in each.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True,
              help="How many seeds, counted from --seed on.")
@click.option("--folds", metavar="all|0,1,...", help="Folds to average over.  [default: the run's fold]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@json_option
@run_options
def compare(topologies: str, algorithms: str, tune: str, inner: int, peers: int, seeds: int, folds: str | None,
            workers: int | None, as_json: bool, **options: Any) -> None:
    """Compare topologies and algorithms by simulated runs, with pooled, local-only and server training beside them.

    --out is the folder of the comparison [default: runs/compare]: table.csv, comparison.json, comparison.png and
    a file a finished run. A second call with the same settings computes only what is missing.

    Example: p2pser compare --topologies ring,torus,complete --peers 16 --seeds 3

    Example: p2pser compare --topologies ring --algorithms dfedavg,quasi-global-momentum --set training.momentum=0
    --tune training.lr=0.05,0.1,0.2
    """
    from p2pser.experiments.compare import compare as experiment
    from p2pser.experiments.planning import fold_numbers
    from p2pser.experiments.report.comparison import FILES, HEAD, legend, text_rows, write
    from p2pser.topology import spec

    out = options["out"] or Path("runs") / "compare"
    config = run_configuration(options)
    comparison = experiment(
        [spec.load(name, peers) for name in _names(topologies)], config, algorithms=_names(algorithms), seeds=seeds,
        folds=(config.corpus.fold,) if folds is None else fold_numbers(folds), tune=tune, inner=inner, out=out,
        jobs=workers, progress=True)
    write(comparison, out)
    if as_json:
        print_json({**comparison.to_dict(), "out": str(out)})
        return
    print_table(HEAD, text_rows(comparison), sections=(len(comparison.schemes) - 1,))
    click.echo(legend(comparison))
    note(f"written to {out}: {', '.join(FILES)}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
