"""``p2pser crosscorpus``: a model of each corpus and one of all together, each tested on each corpus."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import RunOptions, experiment_options, json_option, run_options
from p2pser.cli.kinds import writable
from p2pser.cli.output import echo, note, print_json, print_table

PEERS = 4
"""Default number of peers of each corpus."""


@click.command()
@click.option("--others/--no-others", default=True, show_default=True,
              help="Also train on all corpora but the tested one.")
@click.option("--pooled", is_flag=True, help="Also train one model on the clips of all peers.")
@experiment_options
@json_option
@run_options("exponential", peers=PEERS, folds="all", lists={
    "peers": "Number of peers of each corpus.", "folds": "Folds to average over: numbers, or all.",
    "out": "Folder of the results.  [default: runs/crosscorpus]"})
def crosscorpus(options: RunOptions, seeds: int, others: bool, pooled: bool, tune: tuple[str, ...], inner: int,
                workers: int | str | None, as_json: bool) -> None:
    """Train on each of several corpora, and on all together by gossip, and test on each: the cross-corpus matrix.

    Each corpus has --peers peers; all runs are tested on the same clips of held-out speakers, of the emotions
    that all corpora have (corpus.map merges some). Writes to --out matrix.json, matrix.png and a file for each finished
    run. A second call with the same settings computes only what is missing.

    Example: p2pser crosscorpus --corpus emodb=emodb/,ravdess=ravdess/ --set corpus.map=calm=neutral
    """
    from p2pser.experiments.crosscorpus import crosscorpus as experiment
    from p2pser.experiments.crosscorpus import prepare
    from p2pser.experiments.report.matrix import FILES, legend, text_rows, write

    out = writable(options.out or Path("runs") / "crosscorpus")
    setup = prepare(options.config(), options.topology, peers=options.peers or PEERS, others=others, pooled=pooled,
                    folds=options.fold_numbers(), seeds=seeds, tune=";".join(tune), inner=inner, out=out, progress=True)
    matrix = experiment(setup, jobs=workers, progress=True)
    write(matrix, out)
    if as_json:
        print_json({**matrix.to_dict(), "out": str(out)})
        return
    print_table(*text_rows(matrix), sections=(len(matrix.corpora) - 1, len(matrix.rows) - 1))
    echo(legend(matrix))
    note(f"written to {out}: {', '.join(FILES)}")
