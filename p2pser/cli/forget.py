"""``p2pser forget``: leave a speaker's clips out from now on."""

from __future__ import annotations

import click

from p2pser.cli.common import RunOptions, json_option, print_json, run_options


@click.command()
@click.argument("speaker")
@click.option("--id", "me", type=click.IntRange(min=0), required=True, help="The id of this peer in the topology.")
@click.option("--retrain", is_flag=True, help="Remove this peer's checkpoints and model: its next start begins anew.")
@run_options("ring.yaml")
@json_option
def forget(speaker: str, me: int, retrain: bool, options: RunOptions, as_json: bool) -> None:
    """Leave the clips of SPEAKER out of every later start of a peer, and write a receipt into its folder.

    Stop the peer first. The other options are those of its p2pser peer command. What has been learned from the clips
    is not undone: the receipt says what remains.

    Example: p2pser forget ann --id 3 --topology ring.yaml --data my-clips/
    """
    from p2pser.base.errors import ConfigError
    from p2pser.peer.forgetting import forget as forgets
    from p2pser.peer.forgetting import in_words

    config = options.config(own_data=True)
    topology = options.graph(config)
    if me >= topology.size:
        raise ConfigError(f"--id {me}: the topology {topology.name!r} has the peers 0 to {topology.size - 1}")
    receipt = forgets(config, topology, me, speaker, retrain=retrain)
    if as_json:
        print_json(receipt)
    else:
        click.echo(in_words(receipt))
