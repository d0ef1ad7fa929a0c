"""``p2pser plan``: an estimate of what a run costs each site."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from p2pser.base.wording import size
from p2pser.cli.clock import clock_options, for_peers
from p2pser.cli.common import RunOptions, json_option, run_options
from p2pser.cli.output import echo, note, print_json, print_table

if TYPE_CHECKING:
    from p2pser.simulation.clock import Clock

SHOWN = 32
"""Largest number of peers in the table."""


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise ValueError(f"{text!r} is not a number of clips from 1 to 1000000")
    return int(text)


@click.command()
@click.option("--clips", default="100", show_default=True, metavar="NUMBER[,PEER:NUMBER...]",
              help="Numbers of clips of the peers; of single peers as in 200,3:1000.")
@click.option("--emotions", type=click.IntRange(2, 9), default=7, show_default=True,
              help="Number of emotions, where corpus.labels does not fix them.")
@clock_options
@json_option
@run_options()
def plan(options: RunOptions, clips: str, emotions: int, clock: Callable[[int, int], Clock], timed: bool,
         as_json: bool) -> None:
    """Estimate what a run costs before it starts: bytes, hours, memory, and what a curious neighbour can learn.

    A few rounds are simulated on made-up clips; no recording is read. Hours do not include the computation of features.

    Example: p2pser plan --topology ring --peers 8 --clips 200 --network dsl --rounds 100
    """
    from p2pser.experiments.costs import costs

    config = options.config()
    graph = options.graph(config)
    ordinary, counts = for_peers(clips, _count, "200, or 200,3:1000")
    if beyond := sorted(peer for peer in counts if peer >= graph.size):
        raise click.BadParameter(f"peer {beyond[0]} does not exist: name peers from 0 to {graph.size - 1}",
                                 param_hint="--clips")
    document = costs(config, graph, [counts.get(i, ordinary or 100) for i in range(graph.size)],
                     clock(config.seed, graph.size), emotions).to_dict()
    if as_json:
        print_json(document)
        return
    _show(document)


def _show(document: dict[str, Any]) -> None:
    total, hours, exposure = document["total"], document["total"]["hours"], document["exposure"]
    echo(f"{document['algorithm']} over {document['topology']}, {document['peers']} peers, {document['rounds']} "
               f"rounds, {document['parameters']:,} parameters")
    rows = [[str(peer["peer"]), str(peer["clips"]), str(peer["neighbours"]), *map(size, (
        peer["bytes_sent"], peer["bytes_received"], peer["memory_bytes"])), _time(peer["hours"]["whole"]),
        "" if peer["solves_for"] is None else str(peer["solves_for"])] for peer in document["each"][:SHOWN]]
    print_table(("peer", "clips", "neighbours", "sends", "receives", "memory", "time", "can solve for"), rows)
    if document["peers"] > SHOWN:
        note(f"the first {SHOWN} of {document['peers']} peers; --json has all")
    echo(f"all peers send {size(total['bytes_sent'])}; the run takes {_time(hours['whole'])}: set-up "
               f"{_time(hours['set_up'])}, rounds {_time(hours['rounds'])}, end {_time(hours['end'])}")
    echo(f"a curious peer can solve for the rows of {exposure['solves_for']} of the {document['peers'] - 1} "
               f"others in gossip without local steps; {exposure['privacy']}")


def _time(hours: float) -> str:
    seconds = hours * 3600
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{hours:.1f} h"
