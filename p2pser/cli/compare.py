"""``p2pser compare``: topologies and algorithms compared by simulated runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from p2pser.base.wording import listed
from p2pser.cli.common import ALGORITHMS_HELP, RunOptions, device_option, experiment_options, json_option, run_options
from p2pser.cli.kinds import Source, writable
from p2pser.cli.output import echo, note, print_json, print_table

WITH_GRID = ("out", "workers", "cluster", "as_json", "check")
"""Parameters of a call with a grid; all other settings are in the grid."""


@click.command()
@click.argument("grid", type=Source(dir_okay=False), required=False, metavar="[GRID.yaml]")
@click.option("--check", is_flag=True, help="Check a grid, print its number of trials and an estimate of time and "
                                            "memory, and exit.")
@experiment_options
@json_option
@device_option
@run_options("ring,chain,star,torus,exponential,complete", peers=16, lists={
    "topology": "Topology files, or names of shipped ones.",
    "folds": "Folds to average over: numbers, all, or all of a split.  [default: 0]",
    "algorithm": f"{ALGORITHMS_HELP}.  [default: the run's]",
    "out": "Folder of the results.  [default: runs/compare; of a grid runs/NAME]"})
@click.pass_context
def compare(ctx: click.Context, options: RunOptions, device: str | None, grid: Path | None, check: bool,
            tune: tuple[str, ...], inner: int, seeds: int, workers: int | str | None, as_json: bool) -> None:
    """Compare topologies and algorithms by simulated runs, with pooled, local-only and server training beside them.

    Writes to --out table.csv, comparison.json, comparison.png and a file for each finished run. A second call with the
    same settings computes only what is missing.

    GRID.yaml combines topologies, algorithms, peers, partitions, corpora, seeds and faults. Of a grid --out has
    report.html, figures/, tables, and trials/ with a file for each finished trial. Ctrl-C reports the finished trials;
    the next call computes the others.

    Example: p2pser compare --topology ring,torus,complete --peers 16 --seeds 3

    Example: p2pser compare grid.yaml --check

    Example: p2pser compare --topology ring --algorithm dfedavg,quasi-global-momentum --set training.momentum=0
    --tune training.lr=0.05,0.1,0.2
    """
    if grid is not None:
        _grid(ctx, grid, options.out, workers, check, as_json)
        return
    if check:
        raise click.UsageError("--check checks a grid: name its file, such as p2pser compare grid.yaml --check")
    from p2pser.experiments.compare import compare as experiment
    from p2pser.experiments.planning import plan
    from p2pser.experiments.report.comparison import FILES, HEAD, legend, text_rows, write

    out = writable(options.out or Path("runs") / "compare")
    config = options.config({"training.device": device})
    runs = plan(config, options.graphs(config), algorithms=listed(options.algorithm), seeds=seeds,
                folds=(config.corpus.fold,) if options.folds is None else options.fold_numbers(), tune=";".join(tune),
                inner=inner, out=out, progress=True)
    comparison = experiment(runs, jobs=workers, progress=True)
    write(comparison, out)
    if as_json:
        print_json({**comparison.to_dict(), "out": str(out)})
        return
    print_table(HEAD, text_rows(comparison), sections=(len(comparison.schemes) - 1,))
    echo(legend(comparison))
    note(f"written to {out}: {', '.join(FILES)}")


def _grid(ctx: click.Context, path: Path, out: Path | None, workers: int | str | None, check: bool,
          as_json: bool) -> None:
    """Check or compute a grid, and report it."""
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and isinstance(parameter, click.Option) and parameter.name not in WITH_GRID:
            raise click.UsageError(f"{parameter.opts[0]} and a grid exclude each other: write it into {path}", ctx)
    from p2pser.experiments.grid import file
    from p2pser.experiments.grid.comparison import compare_grid, estimated
    from p2pser.experiments.report import grid as report

    grid = file.load(path)
    folder = writable(out or Path("runs") / grid.name)
    if check:
        expected = estimated(grid, folder, workers)
        if as_json:
            print_json(vars(expected))
        else:
            echo(f"{path}: {expected}")
        expected.require_memory()
        return
    comparison = compare_grid(grid, folder, processes=workers, progress=True,
                              beforehand=lambda expected: note(f"{grid.name}: {expected}"))
    written = report.write(comparison, folder)
    if as_json:
        print_json({**report.to_dict(comparison), "out": str(folder)})
    else:
        print_table(report.HEAD, report.text_rows(comparison.summary))
        echo(report.legend(comparison))
    note(f"written to {folder}: {', '.join(written)}")
    if comparison.interrupted:
        note(f"interrupted: {comparison.missing} trials are missing; repeat the call to compute them")
        sys.exit(130)
