"""``p2pser compare``: topologies and algorithms beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pser.base.progress import progress
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
    from p2pser.base.atomic import write_json
    from p2pser.experiments import compare as experiment
    from p2pser.experiments.report.comparison import HEAD, curves, legend, tabulate, text_rows, to_csv
    from p2pser.experiments.report.runs import compare_picture

    out = options["out"] or Path("runs") / "compare"
    config = run_configuration(options)
    chosen = experiment.prepare(config, _names(topologies), peers, seeds, folds or str(config.corpus.fold), out,
                                algorithms=_names(algorithms), tune=tune, inner=inner, progress=True)
    results = _run(chosen, workers)
    document = {**tabulate(chosen, results), "out": str(out)}
    (out / "table.csv").write_text(to_csv(document), encoding="utf-8")
    baselines = {row["baseline"]: row["uar"] for row in document["baselines"]}
    compare_picture(out / "comparison.png", curves(chosen, results), baselines)
    write_json(out / "comparison.json", document)
    if as_json:
        print_json(document)
        return
    print_table(HEAD, text_rows(document), sections=(len(document["schemes"]) - 1,))
    click.echo(legend(document))
    note(f"written to {out}: table.csv, comparison.json, comparison.png")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _run(chosen: Any, workers: int | None) -> Any:
    """Run the jobs under a progress bar on standard error."""
    from p2pser.experiments import compare as experiment

    with progress("runs", len(chosen.tuning_jobs()) + len(chosen.jobs())) as bar:
        def done(job: Any, found: bool) -> None:
            inner = "" if job.inner is None else f", inner fold {job.inner[0]}, {job.value}"
            name = job.scheme or job.kind
            bar.advance(text=f"{name}, fold {job.fold}, seed {job.seed}{inner}")

        return experiment.run(chosen, workers=workers, done=done)
