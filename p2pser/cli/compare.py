"""``p2pser compare``: topologies beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pser.cli.common import json_option, note, print_json, run_configuration, run_options


@click.command()
@click.option("--topologies", default="ring,chain,star,torus,exponential,complete", show_default=True,
              metavar="NAME,NAME,...", help="Topology files or names of shipped ones.")
@click.option("--peers", type=click.IntRange(min=1), default=16, show_default=True, help="Number of peers in each.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True,
              help="How many seeds, counted from --seed on.")
@click.option("--folds", metavar="all|0,1,...", help="Folds to average over.  [default: the run's fold]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@json_option
@run_options
def compare(topologies: str, peers: int, seeds: int, folds: str | None, workers: int | None, as_json: bool,
            **options: Any) -> None:
    """Compare topologies by simulated runs, with pooled, local-only and server training beside them.

    --out is the folder of the comparison [default: runs/compare]: table.csv, comparison.json, comparison.png and
    a file a finished run. A second call with the same settings computes only what is missing.

    Example: p2pser compare --topologies ring,torus,complete --peers 16 --seeds 3
    """
    from p2pser.experiments import compare as experiment
    from p2pser.experiments.plots import compare_picture
    from p2pser.experiments.tables import curves, legend, tabulate, to_csv
    from p2pser.peer.files import write_json

    out = options["out"] or Path("runs") / "compare"
    config = run_configuration(options)
    names = [name.strip() for name in topologies.split(",") if name.strip()]
    chosen = experiment.prepare(config, names, peers, seeds, folds or str(config.corpus.fold), out, progress=True)
    results = _run(chosen, workers)
    document = {**tabulate(chosen, results), "out": str(out)}
    (out / "table.csv").write_text(to_csv(document), encoding="utf-8")
    baselines = {row["baseline"]: row["uar"] for row in document["baselines"]}
    compare_picture(out / "comparison.png", curves(chosen, results), baselines)
    write_json(out / "comparison.json", document)
    if as_json:
        print_json(document)
        return
    _print_table(document)
    click.echo(legend(document))
    note(f"written to {out}: table.csv, comparison.json, comparison.png")


def _run(chosen: Any, workers: int | None) -> Any:
    """Run the jobs under a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from p2pser.experiments import compare as experiment

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=len(chosen.jobs()))

        def done(job: Any, found: bool) -> None:
            name = job.topology or job.kind
            bar.update(task, advance=1, description=f"{name}, fold {job.fold}, seed {job.seed}")

        return experiment.run(chosen, workers=workers, done=done)


def _print_table(document: Any) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from p2pser.experiments.tables import HEAD, text_rows

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(HEAD):
        table.add_column(head, justify="left" if number == 0 else "right", no_wrap=True)
    rows = text_rows(document)
    for number, row in enumerate(rows):
        table.add_row(*row, end_section=number == len(document["topologies"]) - 1)
    # Never cut, not even where the terminal is narrow: the numbers are the result.
    needed = Console(width=10_000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)
