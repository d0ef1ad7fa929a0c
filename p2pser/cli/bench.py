"""``p2pser bench``: schemes on frozen benchmarks, and their ranking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pser.cli.common import json_option, listed, note, print_json, print_table, worker_options
from p2pser.cli.kinds import Source, Target, writable

if TYPE_CHECKING:
    from p2pser.experiments.bench.ranking import Ranking

DEFAULT = Path("runs") / "bench"
"""The folder of results."""


@click.group()
def bench() -> None:
    """Measure topologies and algorithms on a frozen benchmark, and rank the results of all who did.

    A benchmark fixes clips, folds, seeds, partition, model, features, rounds, bytes, and what may be tuned.

    Example: p2pser bench run synthetic --topology ring --algorithm dfedavg
    """


@bench.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the benchmarks.

    Example: p2pser bench list
    """
    from p2pser.experiments.bench import definition

    found = [definition.load(name) for name in definition.names()]
    if as_json:
        print_json([{**each.model_dump(mode="json"), "digest": each.digest} for each in found])
        return
    print_table(("benchmark", "peers", "folds", "seeds", "rounds", "MB/peer", "what it asks"), [
        (str(each), str(each.peers), str(len(each.folds)), str(each.seeds), str(each.settings["training.rounds"]),
         f"{each.megabytes:g}", each.about) for each in found])


@bench.command()
@click.argument("name", metavar="BENCHMARK")
@click.option("--data", type=Source(), help="Folder of the recordings; the synthetic benchmark needs none.")
@click.option("--topology", default="ring", show_default=True, metavar="NAME|FILE,...",
              help="Topology files, or names of shipped ones.")
@click.option("--algorithm", default="dfedavg", show_default=True, metavar="NAME,...",
              help="Gossip algorithms, each on each topology, with hyper-parameters after colons as in p2pser compare; "
                   "values of its own to tune: training.lr=0.1|0.2.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="A setting that the benchmark leaves open, for all algorithms (may be given several times).")
@click.option("--out", type=Target(folder=True), default=DEFAULT, show_default=True, help="Folder of the results.")
@click.option("--check", is_flag=True, help="Check recordings and schemes, estimate time and memory, and compute no "
                                            "more.")
@worker_options
@json_option
def run(name: str, data: Path | None, topology: str, algorithm: str, settings: tuple[str, ...], out: Path, check: bool,
        workers: int | str | None, as_json: bool) -> None:
    """Measure schemes on a BENCHMARK: NAME-VERSION, or NAME for its newest version.

    OUT/BENCHMARK/ then has a JSON file a scheme, for p2pser bench rank, and a file a finished trial below trials/. A
    second call computes only what is missing; Ctrl-C or a kill loses no more than the trials that have begun.

    Example: p2pser bench run emodb --data D/emodb --topology ring,torus --algorithm dfedavg,k-gt:training.momentum=0
    """
    from p2pser.experiments.bench import definition, outcome, ranking
    from p2pser.experiments.bench.clips import require_same
    from p2pser.experiments.grid.comparison import compare_grid, estimated

    chosen = definition.load(name)
    grid = chosen.grid(listed(topology), listed(algorithm), data, settings)
    chosen.require_frozen(grid)
    require_same(chosen, grid.config(chosen.corpus, chosen.partition))
    folder = writable(out / str(chosen))
    if check:
        expected = estimated(grid, folder, workers)
        click.echo(f"{chosen}: {expected}")
        expected.require_memory()
        return
    comparison = compare_grid(grid, folder, processes=workers, progress=True,
                              beforehand=lambda expected: note(f"{chosen}: {expected}"))
    written = outcome.write(outcome.outcomes(chosen, comparison), folder)
    if written:
        found, _ = ranking.read(written)
        _print(ranking.rank(found[str(chosen)]), as_json)
        note(f"written to {folder}: {', '.join(path.name for path in written)}; next: p2pser bench rank {out}")
    if comparison.interrupted:
        note(f"interrupted: {comparison.missing} trials are missing; the same call goes on with them")
        sys.exit(130)


@bench.command()
@click.argument("results", type=Source(exists=True), nargs=-1, metavar="[RESULT]...")
@json_option
def rank(results: tuple[Path, ...], as_json: bool) -> None:
    """Rank results of benchmarks: files, and folders of them (default: runs/bench).

    A scheme's rank is 1 + the number of schemes that are significantly better, by paired differences over folds and
    seeds, a randomisation test and Holm's correction; schemes that are alike share a rank.

    Example: p2pser bench rank runs/bench theirs/dfedavg.json
    """
    from p2pser.experiments.bench import ranking

    found, notes = ranking.read(results or [DEFAULT])
    rankings = [ranking.rank(own) for own in found.values()]
    if as_json:
        print_json({"rankings": [{"bench": str(each.bench), "places": [place.to_dict() for place in each.places],
                                  "notes": each.notes} for each in rankings], "notes": notes})
        return
    for each in rankings:
        _print(each, as_json=False)
    for sentence in notes:
        note(sentence)


def _print(ranking: Ranking, as_json: bool) -> None:
    from p2pser.experiments.report.ranking import HEAD, legend, text_rows

    if as_json:
        print_json({"bench": str(ranking.bench), "places": [each.to_dict() for each in ranking.places],
                    "notes": ranking.notes})
        return
    print_table(HEAD, text_rows(ranking), title=str(ranking.bench))
    click.echo(legend(ranking))
