"""``p2pser peer``: one peer, from its recordings to the network's model."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from p2pser.cli.common import RunOptions, json_option, note, print_json, run_options


@click.command()
@click.option("--id", "me", type=click.IntRange(min=0), required=True, help="The id of this peer in the topology.")
@run_options("ring.yaml")
@click.option("--start-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Start without the neighbours that have not connected after this time.  [default: wait for ever]")
@click.option("--fresh", is_flag=True, help="Start anew, without the checkpoints of an earlier run in the same folder.")
@click.option("--check", is_flag=True,
              help="Connect to the neighbours, compare settings, print round-trip time and rate, and exit.")
@json_option
def peer(me: int, options: RunOptions, start_timeout: float | None, fresh: bool, check: bool, as_json: bool) -> None:
    """Run one peer: train on its own recordings, gossip with its neighbours, end with the network's model.

    The peer waits for its neighbours. After an interruption (Ctrl-C, SIGTERM, a crash) the same command resumes.
    On SIGHUP it reads the topology file again: other addresses and keys at once; another graph, with a higher epoch,
    as soon as all living peers have the file.

    The exit code is 0 when the run is done, 1 when it failed, 2 when the call or a file is wrong, and 3 when it is
    done but not with every peer that the topology declares.

    Example: p2pser peer --id 3 --topology ring.yaml --data my-clips/
    """
    from p2pser.base.errors import ConfigError

    config = options.config({"network.start_timeout": start_timeout}, own_data=True)
    topology = options.graph(config)
    if me >= topology.size:
        raise ConfigError(f"--id {me}: the topology {topology.name!r} has the peers 0 to {topology.size - 1}")
    from p2pser.peer.process import Peer
    from p2pser.peer.supervisor import Supervisor
    from p2pser.run.account import in_words

    supervisor = Supervisor()

    def say(sentence: str) -> None:
        note(sentence)
        supervisor.status(sentence)

    process = Peer(config, topology, me, fresh=fresh, say=say, supervisor=supervisor)
    if check:
        from p2pser.peer.check import check_neighbours

        report = check_neighbours(process)
        if as_json:
            print_json(report)
        else:
            for neighbour in report["neighbours"]:
                click.echo(neighbour["sentence"])
        raise click.exceptions.Exit(0 if report["fits"] else 2)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: process.interrupt())
    signal.signal(signal.SIGHUP, lambda *_: process.read_again(lambda: options.graph(config)))
    ending = process.run()
    supervisor.ready()  # of a run that had finished before, nothing was left to do
    supervisor.stopping()
    if as_json:
        print_json(ending.summary)
    elif ending.finished:
        uar = ending.summary["uar"]
        click.echo(f"model: {Path(ending.summary['model'])}")
        if uar is not None:
            click.echo(f"UAR on the held-out speakers: {uar:.3f}")
        click.echo(in_words(ending.summary))
    note(f"results: {ending.summary['out']}")
    raise click.exceptions.Exit(ending.exit_code)
