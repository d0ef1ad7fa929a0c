"""``p2pser bench``: schemes on frozen benchmarks, and the ranking of their results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pser.base.wording import listed
from p2pser.cli.common import ALGORITHMS_HELP, RUN_OPTION, SEVERAL, json_option, worker_options
from p2pser.cli.kinds import Source, Target, writable
from p2pser.cli.output import echo, note, print_json, print_table

if TYPE_CHECKING:
    from p2pser.experiments.bench.ranking import Ranking

DEFAULT = Path("runs") / "bench"
"""The folder of results."""


@click.group()
def bench() -> None:
    """Measure topologies and algorithms on a frozen benchmark, and rank results.

    A benchmark fixes clips, folds, seeds, partition, model, features, rounds and bytes, and which settings
    may be tuned.

    Example: p2pser bench run synthetic --topology ring --algorithm dfedavg
    """


@bench.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the benchmarks.

    Example: p2pser bench list
    """
    from p2pser.experiments.bench import definition

    definitions = [definition.load(name) for name in definition.names()]
    if as_json:
        print_json([{**each.model_dump(mode="json"), "digest": each.digest} for each in definitions])
        return
    print_table(("benchmark", "peers", "folds", "seeds", "rounds", "MB/peer", "question"), [
        (str(each), str(each.peers), str(len(each.folds)), str(each.seeds), str(each.settings["training.rounds"]),
         f"{each.megabytes:g}", each.about) for each in definitions], left=(0, 6))


@bench.command()
@click.argument("name", metavar="BENCHMARK")
@RUN_OPTION["data"]
@click.option("--topology", default="ring", show_default=True, metavar="NAME|FILE,...",
              help="Topology files, or names of shipped ones.")
@click.option("--algorithm", default="dfedavg", show_default=True, metavar="NAME,...",
              help=f"{ALGORITHMS_HELP}.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help=f"Override one setting that the benchmark leaves open, for all algorithms {SEVERAL}.")
@click.option("--out", type=Target(folder=True), default=DEFAULT, show_default=True, help="Folder of the results.")
@click.option("--check", is_flag=True, help="Check recordings and schemes, print an estimate of time and memory, and "
                                            "exit.")
@worker_options
@json_option
def run(name: str, data: Path | None, topology: str, algorithm: str, settings: tuple[str, ...], out: Path, check: bool,
        workers: int | str | None, as_json: bool) -> None:
    """Measure schemes on a BENCHMARK: NAME-VERSION, or NAME for its newest version.

    Writes OUT/BENCHMARK/: a JSON file for each scheme, which p2pser bench rank reads, and below trials/ a file for each
    finished trial. A second call computes only what is missing; Ctrl-C or a kill loses the running trials only.

    Example: p2pser bench run emodb --data emodb/ --topology ring,torus --algorithm dfedavg,k-gt:training.momentum=0
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
        echo(f"{chosen}: {expected}")
        expected.require_memory()
        return
    comparison = compare_grid(grid, folder, processes=workers, progress=True,
                              beforehand=lambda expected: note(f"{chosen}: {expected}"))
    written = outcome.write(outcome.outcomes(chosen, comparison), folder)
    if written:
        outcomes, _ = ranking.read(written)
        _print(ranking.rank(outcomes[str(chosen)]), as_json)
        note(f"written to {folder}: {', '.join(path.name for path in written)}; next: p2pser bench rank {out}")
    if comparison.interrupted:
        note(f"interrupted: {comparison.missing} trials are missing; repeat the call to compute them")
        sys.exit(130)


@bench.command()
@click.argument("results", type=Source(exists=True), nargs=-1, metavar="[RESULT]...")
@json_option
def rank(results: tuple[Path, ...], as_json: bool) -> None:
    """Rank results of benchmarks: files, or folders of files (by default runs/bench).

    A scheme's rank is 1 + the number of schemes that are significantly better, by paired differences over folds and
    seeds, a randomisation test and Holm's correction; schemes without a significant difference share a rank.

    Example: p2pser bench rank runs/bench theirs/dfedavg.json
    """
    from p2pser.experiments.bench import ranking

    outcomes, notes = ranking.read(results or [DEFAULT])
    rankings = [ranking.rank(own) for own in outcomes.values()]
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
    echo(legend(ranking))
