"""``p2pser plan``: what a run will cost each site."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.clock import clock_options, for_peers
from p2pser.cli.common import RunOptions, json_option, note, print_json, print_table, run_options

if TYPE_CHECKING:
    from p2pser.simulation.clock import Clock

UNITS = ("B", "kB", "MB", "GB", "TB")
SHOWN = 32
"""Peers of which the table has a line."""


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise ValueError(f"{text!r} is no number of clips from 1 to 1,000,000")
    return int(text)


@click.command()
@click.option("--clips", default="100", show_default=True, metavar="NUMBER[,PEER:NUMBER...]",
              help="Number of clips of a peer, and of single peers, such as 200,3:1000.")
@click.option("--emotions", type=click.IntRange(2, 9), default=7, show_default=True,
              help="Number of emotions, where corpus.labels does not fix them.")
@clock_options
@json_option
@run_options("ring.yaml")
def plan(options: RunOptions, clips: str, emotions: int, clock: Callable[[int, int], Clock], timed: bool,
         as_json: bool) -> None:
    """Tell what a run will cost before it starts: bytes, hours, memory, and what a curious neighbour can learn.

    A few rounds are simulated on made-up clips; no recording is read. Hours are without the features' computation.

    Example: p2pser plan --topology ring.yaml --peers 8 --clips 200 --network dsl --rounds 100
    """
    from p2pser.experiments.costs import costs

    config = options.config()
    graph = options.graph(config)
    ordinary, of = for_peers(clips, _count, "200, or 200,3:1000")
    beyond = sorted(peer for peer in of if peer >= graph.size)
    if beyond:
        raise click.BadParameter(f"there is no peer {beyond[0]} among {graph.size}", param_hint="--clips")
    document = costs(config, graph, [of.get(i, ordinary or 100) for i in range(graph.size)],
                     clock(config.seed, graph.size), emotions).to_dict()
    if as_json:
        print_json(document)
        return
    _show(document)


def _show(document: dict[str, Any]) -> None:
    total, seen = document["total"], document["exposure"]
    click.echo(f"{document['algorithm']} over {document['topology']}, {document['peers']} peers, {document['rounds']} "
               f"rounds, {document['parameters']:,} parameters")
    rows = [[str(one["peer"]), str(one["clips"]), str(one["neighbours"]), *map(_bytes, (
        one["bytes_sent"], one["bytes_received"], one["memory_bytes"])), _time(one["hours"]["whole"]),
        "" if one["solves_for"] is None else str(one["solves_for"])] for one in document["each"][:SHOWN]]
    print_table(("peer", "clips", "neighbours", "sends", "receives", "memory", "time", "can solve for"), rows)
    if document["peers"] > SHOWN:
        note(f"the first {SHOWN} of {document['peers']} peers; --json has all")
    hours = total["hours"]
    click.echo(f"all peers send {_bytes(total['bytes_sent'])}; the run takes {_time(hours['whole'])}: set-up "
               f"{_time(hours['set_up'])}, rounds {_time(hours['rounds'])}, end {_time(hours['end'])}")
    click.echo(f"a curious peer can solve for the rows of {seen['solves_for']} of the {document['peers'] - 1} others "
               f"in gossip without local steps; {seen['privacy']}")


def _bytes(number: float) -> str:
    place = 0
    while number >= 999.5 and place < len(UNITS) - 1:
        number, place = number / 1000, place + 1
    return f"{number:.3g} {UNITS[place]}"


def _time(hours: float) -> str:
    seconds = hours * 3600
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{hours:.1f} h"
