"""``p2pser compare``: topologies and algorithms beside each other."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

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
from p2pser.cli.kinds import Source, writable

WITH_GRID = ("out", "workers", "cluster", "as_json", "check")
"""The options that a call with a grid takes; the grid itself has the others."""


@click.command()
@click.argument("grid", type=Source(dir_okay=False), required=False, metavar="[GRID.yaml]")
@click.option("--check", is_flag=True, help="With a grid: validate it, print its number of trials and an estimate of "
                                            "time and memory, and compute nothing more.")
@experiment_options
@json_option
@device_option
@run_options("ring,chain,star,torus,exponential,complete", peers=16, lists={
    "topology": "Topology files, or names of shipped ones.",
    "folds": "Folds to average over: numbers, all, or all of a split.  [default: the run's fold]",
    "algorithm": "Gossip algorithms, each on each topology, with hyper-parameters after colons; a name with a dot is a "
                 "setting: k-gt:training.momentum=0; values of its own to tune: training.lr=0.1|0.2.  [default: the "
                 "run's]"})
@click.pass_context
def compare(ctx: click.Context, options: RunOptions, device: str | None, grid: Path | None, check: bool,
            tune: tuple[str, ...], inner: int, seeds: int, workers: int | str | None, as_json: bool) -> None:
    """Compare topologies and algorithms by simulated runs, with pooled, local-only and server training beside them.

    --out is the folder of the comparison [default: runs/compare]: table.csv, comparison.json, comparison.png and
    a file a finished run. A second call with the same settings computes only what is missing.

    GRID.yaml combines topologies, algorithms, peers, partitions, corpora, seeds and faults. --out [default:
    runs/NAME] then has report.html, figures/, tables, and trials/ with a file a finished trial. Ctrl-C reports what is
    finished; the next call goes on.

    Example: p2pser compare --topology ring,torus,complete --peers 16 --seeds 3

    Example: p2pser compare grid.yaml --check

    Example: p2pser compare --topology ring --algorithm dfedavg,quasi-global-momentum --set training.momentum=0
    --tune training.lr=0.05,0.1,0.2
    """
    if grid is not None:
        _grid(ctx, grid, options.out, workers, check, as_json)
        return
    if check:
        raise click.UsageError("--check is about a grid: name its file, such as p2pser compare grid.yaml --check")
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
    click.echo(legend(comparison))
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
            click.echo(f"{path}: {expected}")
        expected.require_memory()
        return
    comparison = compare_grid(grid, folder, processes=workers, progress=True,
                              beforehand=lambda expected: note(f"{grid.name}: {expected}"))
    written = report.write(comparison, folder)
    if as_json:
        print_json({**report.to_dict(comparison), "out": str(folder)})
    else:
        print_table(report.HEAD, report.text_rows(comparison.summary))
        click.echo(report.legend(comparison))
    note(f"written to {folder}: {', '.join(written)}")
    if comparison.interrupted:
        note(f"interrupted: {comparison.missing} trials are missing; the same call goes on with them")
        sys.exit(130)
