"""``p2pser corpus split``: a corpus partitioned over peers, as folders to be copied to real sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from p2pser.base.wording import counted
from p2pser.cli.common import RunOptions, json_option, new_folder_option, renamed, some_run_options, split_option
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.argument("corpus", metavar="CORPUS")
@some_run_options("data", "folds", "seed", "run", "set")
@click.option("--peers", type=click.IntRange(min=1), required=True, help="Number of peers.")
@click.option("--partition", metavar="PARTITION",
              help="Which peer holds which clips: speaker, iid, dirichlet:ALPHA, corpus, corpus:even, "
                   "language or language:even.  [default: corpus for several corpora, else speaker]")
@split_option
@renamed("--fold", "--folds")
@new_folder_option
@click.option("--copy", is_flag=True, help="Copy the recordings too, so that each folder is complete.")
@json_option
def split(corpus: str, options: RunOptions, peers: int, partition: str | None, split: str | None, out: Path, copy: bool,
          as_json: bool) -> None:
    """Partition a corpus over peers, as folders for real sites.

    Writes OUT/peer-0/manifest.csv and so on with the clips of each peer, OUT/test/manifest.csv with the held-out clips,
    and OUT/run.yaml with the settings that all sites share.

    A site then runs: p2pser peer --id 0 --topology ring --run run.yaml --data peer-0/

    Example: p2pser corpus split emodb --data emodb/ --peers 9 --folds 2 --copy --out sites/

    Example: p2pser corpus split emodb=emodb/,ravdess=ravdess/ --peers 6 --set corpus.map=calm=neutral --out sites/
    """
    from p2pser.corpora.partitioning import partition_corpus
    from p2pser.corpora.sites import write_sites

    config = replace(options, corpus=corpus).config(
        {"corpus.partition": partition, "corpus.split": split, "training.held_out": 0.0})  # each site holds out
    document = write_sites(config, partition_corpus(config, peers), out, copy=copy)
    if as_json:
        print_json(document)
        return
    for sentence in document["notes"]:
        note(sentence)
    echo(f"{document['corpus']} {document['version']}, {document['split']}: {len(document['labels'])} emotions "
               f"({', '.join(document['labels'])}), normalisation {document['normalise']}")
    for folder, contents in [*document["peers"].items(), ("test", document["test"])]:
        if contents["clips"]:
            speakers = counted(len(contents["speakers"]), "speaker")
            echo(f"  {folder:8s} {contents['clips']:5d} clips of {speakers}, "
                       f"{'+'.join(contents['corpora'])} {'/'.join(contents['languages'])}".rstrip())
    what = "manifests and recordings" if copy else "manifests (the recordings stay where they are; --copy copies them)"
    echo(f"written to {out}: {what}, run.yaml; at a site: p2pser peer --id 0 --topology ring "
               f"--run run.yaml --data peer-0/")
