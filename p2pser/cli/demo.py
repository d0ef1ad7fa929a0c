"""``p2pser demo``: real peers on this machine, beside local-only and pooled training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import RunOptions, json_option, note, print_json, run_options
from p2pser.cli.kinds import writable
from p2pser.config.privacy import PRIVATE

if TYPE_CHECKING:
    from p2pser.cli.live import LiveTable


@click.command()
@run_options("ring.yaml")
@click.option("--kill", "kills", multiple=True, metavar="PEER@ROUND",
              help="Kill a peer when it begins a round (may be given several times).")
@click.option("--private", is_flag=True,
              help="No peer sees another's rows, only sums over all (secure-average); draws from secret keys.")
@json_option
def demo(options: RunOptions, kills: tuple[str, ...], private: bool, as_json: bool) -> None:
    """Run peers as real processes and compare their model with local-only and pooled training.

    The exit code is 3 when the run is done, but not with every peer.

    Example: p2pser demo --peers 8 --topology ring.yaml --kill 3@10
    """
    from p2pser.cli.live import LiveTable
    from p2pser.experiments import demo as experiment
    from p2pser.features.federation import federate
    from p2pser.peer.launch import require_fitting, start_forkserver
    from p2pser.run.account import INCOMPLETE, complete

    if private and options.algorithm is not None:
        raise click.UsageError(f"--private is the algorithm {PRIVATE}, and --algorithm names another: give one")
    mode = {"privacy.mode": "private", "privacy.draws": "secret", "gossip.algorithm": PRIVATE} if private else None
    config = replace(options, name=options.name or "demo").config(mode)
    writable(config.peer.out)
    start_forkserver(config)  # it imports what the peers need while this process imports what it needs itself
    topology = options.graph(config)
    planned = [experiment.Kill.parse(text, topology, config.training.rounds) for text in kills]
    require_fitting(config, topology)
    federation = federate(config, topology.size, hub=topology.hub, progress=True)
    for sentence in federation.notes:
        note(sentence)
    title = f"{topology.name} of {topology.size}, {federation.corpus.name}, {federation.split.name}"
    with LiveTable(topology.size, title, rounds=config.training.rounds) as table:
        result = experiment.run(config, topology, federation, kills=planned, watch=_watcher(table), say=table.note)
    if as_json:
        print_json(result)
    else:
        _print(result, federation.corpus.synthetic)
    note(f"results: {result['out']}")
    raise click.exceptions.Exit(0 if complete(result) else INCOMPLETE)


def _watcher(table: LiveTable) -> Callable[[Mapping[str, Any]], None]:
    """Return the function that shows a record of a peer in the table, and failures and refusals as sentences."""
    def watch(record: Mapping[str, Any]) -> None:
        table.update(record)
        if record.get("kind") in ("dead", "suspect", "alive", "refused", "checkpoint_failed"):
            table.note(f"peer {record['reporter']}: {record['kind'].replace('_', ' ')}, peer {record['peer']} "
                       f"{record.get('reason', '')}".rstrip())
        elif record.get("kind") == "failed":
            table.note(f"peer {record['peer']} failed: {record['reason']}")

    return watch


def _print(result: Mapping[str, Any], synthetic: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="On held-out speakers", title_justify="left")
    table.add_column("model")
    rated = result["ccc"] or {}
    dimensions = [f"CCC {name}" for name in rated.get("consensus", {})]
    for column in ["UAR"] * (result["uar"]["consensus"] is not None) + dimensions:
        table.add_column(column, justify="right")
    names = {"consensus": "consensus model of the peers", "mean_peer": "mean peer before the final consensus",
             "worst_peer": "worst peer before the final consensus", "local_only": "local-only (mean)",
             "fine_tuned": "personal models (mean)", "pooled": "pooled: one model on all peers' clips"}
    for key, name in names.items():
        if key not in result["uar"]:
            continue
        values = [result["uar"][key]] * (result["uar"]["consensus"] is not None)
        values += list((rated.get(key) or dict.fromkeys(dimensions)).values()) if rated else []
        table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values))
    for width, uar in result["uar_by_width"].items():
        table.add_row(f"consensus model of width {width}", f"{uar:.3f}", *("–" for _ in dimensions))
    from p2pser.models.calibrated import Calibrated
    from p2pser.run import budget
    from p2pser.run.account import in_words

    console = Console(emoji=False, markup=False)
    console.print(table)
    dead = ", ".join(map(str, result["peers_dead"])) or "none"
    for line in (
        f"consensus distance {result['consensus_distance']:.1e} after {result['consensus_exchanges']} exchanges",
        f"bytes sent per peer {result['bytes_per_peer']:,}, of which the final consensus "
        f"{result['bytes_per_peer_consensus']:,}",
        f"{in_words(result)}, dead peers {dead}",
        f"late messages {result['messages_late']}, lost to drift {result['drift']:.1e}",
        f"wall time {result['wall_s']:.1f} s for {result['rounds']} rounds of {result['peers']} peers",
        f"picture {result['picture']}",
        *Calibrated.read(result).lines(),
        *([] if result["privacy"] is None else [budget.in_words(result["privacy"])]),
    ):
        console.print(line, highlight=False, soft_wrap=True)
    if synthetic:
        console.print("The corpus is synthetic: for trying the system only.")
