"""``p2pser audit``: what a neighbour learns about a peer's recordings."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.base.wording import listed
from p2pser.cli.common import SEVERAL, RunOptions, json_option, run_options, seeds_option, which_corpus
from p2pser.cli.kinds import Source, writable
from p2pser.cli.output import echo, note, print_json, print_table


def _rounds(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    rounds = listed(value)
    if not rounds or not all(part.isdecimal() and int(part) for part in rounds):
        raise click.BadParameter(f"{value!r} must be numbers of rounds from 1 on: write, for example, 1,3,10")
    return tuple(map(int, rounds))


@click.command()
@click.option("--before", is_flag=True,
              help="Audit the settings by a simulated run, before anything is sent; all speakers of the corpus take "
                   "part. Without it the run of this name is audited, which took place with privacy.record.")
@click.option("--after-rounds", "seen", default="1,3,10", show_default=True, metavar="N,...", callback=_rounds,
              help="Numbers of rounds after which the attacker attacks.")
@click.option("--colluding", type=click.IntRange(min=1), default=1, show_default=True,
              help="Number of neighbours of the attacked peer that combine what they receive.")
@click.option("--rejoins", is_flag=True,
              help="The colluding neighbours rejoin without their state, and request the run's from the attacked peer.")
@click.option("--shadow", "shadows", multiple=True, metavar="NAME[=PATH]|PATH",
              help=f"A corpus from which the attacker learns to tell sexes and languages apart {SEVERAL}.")
@seeds_option(1)
@click.option("--card", type=Source(file_okay=False), metavar="MODEL_DIR",
              help="Model directory that was trained with these settings: the result is written into its card.")
@json_option
@run_options("ring")
def audit(options: RunOptions, before: bool, seen: tuple[int, ...], colluding: int, rejoins: bool,
          shadows: tuple[str, ...], seeds: int, card: Path | None, as_json: bool) -> None:
    """Measure what a neighbour learns about a peer's recordings, by attacks on the messages that it receives.

    Writes OUT/NAME/audit/: audit.html, audit.png, audit.json. The exit code is 1 where an attack finds more than
    privacy.limits allow.

    Example: p2pser audit --before --topology ring --peers 24

    A run that took place is audited with its own options, from the folders of all its peers and their recordings:

    p2pser demo --peers 4 --set privacy.record=10 && p2pser audit --name demo --peers 4
    """
    if seeds > 1 and not before:
        raise click.UsageError("--seeds goes with --before: a run that took place has one seed")
    import torch

    from p2pser.base.progress import progress
    from p2pser.config import CorpusSettings
    from p2pser.config.problems import section
    from p2pser.corpora.combined import load as load_corpus
    from p2pser.features.federation import federate
    from p2pser.models.directory import read_card
    from p2pser.privacy.audit import audit as run
    from p2pser.privacy.report import FILES, HEAD, into_card, text_rows, verdict, write
    from p2pser.privacy.runs import folders_of, recorded, simulated
    from p2pser.privacy.subjects import shadow
    from p2pser.run.fitting import fitting

    if card is not None:
        read_card(card)  # a missing card is reported before the audit
    config = options.config({"corpus.split": "none"} if before else None).with_settings(["privacy.record=0"])
    torch.set_num_threads(config.training.threads)
    folder = writable(config.peer.out / config.name / "audit")
    graph = options.graph(config)
    fitting(config, graph)
    if not before:
        folders_of(config, graph)  # a run that was not recorded is reported before features are computed
    corpora = [which_corpus(text, None) for text in shadows]
    for name, path in corpora:
        load_corpus(section(CorpusSettings, name=name, data=path))
    federation = federate(config, graph.size, hub=graph.hub, progress=True)
    held = [shadow(config, federation.labels, *corpus) for corpus in corpora]
    with progress("audit", seeds) as bar:
        result = run(config, graph, federation, rounds=seen, colluding=colluding, rejoins=rejoins, seeds=seeds,
                    shadows=held, progress=lambda done: bar(done, "run"), source=simulated if before else recorded)
    write(result, folder)
    if card is not None:
        into_card(result, card)
    if as_json:
        print_json({**result.to_dict(), "out": str(folder)})
    else:
        print_table(HEAD, text_rows(result))
        for sentence in (verdict(result), *result.notes):
            echo(sentence)
    note(f"written to {folder}: {', '.join(FILES)}")
    raise click.exceptions.Exit(1 if result.exceeded else 0)
