"""``p2pser corpus split``: a corpus partitioned over peers, as folders to be copied to real sites."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.base.wording import counted
from p2pser.cli.common import RunOptions, json_option, note, print_json, renamed
from p2pser.cli.kinds import Source, Target


@click.command()
@click.argument("corpus", metavar="CORPUS")
@click.option("--data", type=Source(),
              help="Folder or manifest of the recordings; for several corpora a folder with a sub-folder for each.")
@click.option("--peers", type=click.IntRange(min=1), required=True, help="Number of peers.")
@click.option("--partition", help="speaker, iid, dirichlet:ALPHA, corpus, corpus:even, language or language:even.  "
                                  "[default: corpus for several corpora, else speaker]")
@click.option("--split", "split_name", help="How clips are held out: loso, emobox, group:K, speakers:A+B, each, "
                                            "corpus:NAME, none.  [default: the corpus's own]")
@click.option("--folds", metavar="N", help="Number of the fold that is held out.  [default: 0]")
@renamed("--fold", "--folds")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the run, used by iid and dirichlet.")
@click.option("--out", type=Target(folder=True), required=True,
              help="Folder to make; it must be new or empty.")
@click.option("--copy", is_flag=True, help="Copy the recordings too, so that each folder is complete.")
@click.option("--run", "run_file", type=Source(dir_okay=False),
              help="Run file (YAML) with the settings of the run.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="Override one setting of the run (may be given several times).")
@json_option
def split(corpus: str, data: Path | None, peers: int, partition: str | None, split_name: str | None, folds: str | None,
          seed: int | None, out: Path, copy: bool, run_file: Path | None, settings: tuple[str, ...],
          as_json: bool) -> None:
    """Partition a corpus over peers and write the clips of each: OUT/peer-0/manifest.csv and so on,
    OUT/test/manifest.csv with the held-out clips, and OUT/run.yaml with the settings that all sites share.

    A site then runs: p2pser peer --id 0 --topology ring.yaml --run run.yaml --data peer-0/

    Example: p2pser corpus split emodb --data emodb/ --peers 9 --folds 2 --copy --out sites/

    Example: p2pser corpus split emodb=emodb/,ravdess=ravdess/ --peers 6 --set corpus.map=calm=neutral --out sites/
    """
    from p2pser.corpora.partitioning import partition_corpus
    from p2pser.corpora.sites import write_sites

    config = RunOptions(run_file, settings, corpus, data, folds=folds, seed=seed).config(
        {"corpus.partition": partition, "corpus.split": split_name, "training.held_out": 0.0})  # sites hold out
    document = write_sites(config, partition_corpus(config, peers), out, copy=copy)
    if as_json:
        print_json(document)
        return
    for sentence in document["notes"]:
        note(sentence)
    click.echo(f"{document['corpus']} {document['version']}, {document['split']}: {len(document['labels'])} emotions "
               f"({', '.join(document['labels'])}), normalisation {document['normalise']}")
    for folder, contents in [*document["peers"].items(), ("test", document["test"])]:
        if contents["clips"]:
            speakers = counted(len(contents["speakers"]), "speaker")
            click.echo(f"  {folder:8s} {contents['clips']:5d} clips of {speakers}, "
                       f"{'+'.join(contents['corpora'])} {'/'.join(contents['languages'])}".rstrip())
    where = "manifests and recordings" if copy else "manifests (the recordings stay where they are; --copy takes them)"
    click.echo(f"written to {out}: {where}, run.yaml; at a site: p2pser peer --id 0 --topology ring.yaml "
               f"--run run.yaml --data peer-0/")
