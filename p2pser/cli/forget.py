"""``p2pser forget``: exclude a speaker's clips from every later start of a peer."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import RunOptions, from_option, id_option, json_option, require_peer, run_options
from p2pser.cli.output import echo, print_json


@click.command()
@click.argument("speaker")
@id_option
@click.option("--retrain", is_flag=True, help="Remove this peer's checkpoints and model: its next start trains anew.")
@run_options()
@from_option
@json_option
def forget(speaker: str, me: int, retrain: bool, options: RunOptions, start: Path | None, as_json: bool) -> None:
    """Exclude the clips of SPEAKER from every later start of a peer, and write a receipt into its folder.

    Stop the peer first. The other options are those of its p2pser peer command. The effect of the clips on earlier
    training is not undone: the receipt lists what remains, and what the peer's parameters tell of SPEAKER. Call it
    again after further training: the new receipt has the figures of the first one beside its own.

    Example: p2pser forget ann --id 3 --topology ring --data my-clips/
    """
    from p2pser.privacy.forgetting import forget as forgets
    from p2pser.privacy.forgetting import in_words

    config = options.config({"peer.start": start}, own_data=True)
    topology = options.graph(config)
    require_peer(me, topology)
    receipt = forgets(config, topology, me, speaker, retrain=retrain)
    if as_json:
        print_json(receipt)
    else:
        echo(in_words(receipt))
