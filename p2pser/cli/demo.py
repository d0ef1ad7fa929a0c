"""``p2pser demo``: real peers on this machine, compared with local-only and pooled training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import SEVERAL, RunOptions, json_option, run_options
from p2pser.cli.kinds import writable
from p2pser.cli.output import echo, note, print_json, print_table
from p2pser.config.privacy import PRIVATE

if TYPE_CHECKING:
    from p2pser.cli.live import LiveTable


@click.command()
@run_options()
@click.option("--kill", "kills", multiple=True, metavar="PEER@ROUND",
              help=f"Kill a peer at the beginning of a round {SEVERAL}.")
@click.option("--private", is_flag=True,
              help="Private mode: no peer sees another's rows, only sums over all (secure-average), and training "
                   "draws its random numbers from secret keys.")
@json_option
def demo(options: RunOptions, kills: tuple[str, ...], private: bool, as_json: bool) -> None:
    """Run peers as real processes and compare their model with local-only and pooled training.

    The exit code is 3 when the run is done, but not with every peer.

    Example: p2pser demo --peers 8 --topology ring --kill 3@10
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
    start_forkserver(config)  # imports the peers' modules while this process imports its own
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
    from p2pser.models.calibrated import Calibrated
    from p2pser.run import budget
    from p2pser.run.account import in_words

    rated = result["ccc"] or {}
    classes, dimensions = result["uar"]["consensus"] is not None, list(rated.get("consensus", {}))
    names = {"consensus": "consensus model of the peers", "mean_peer": "mean peer before the final consensus",
             "worst_peer": "worst peer before the final consensus", "local_only": "local-only (mean)",
             "fine_tuned": "personal models (mean)", "pooled": "pooled: one model on all peers' clips"}
    rows = [[name, *([result["uar"][key]] if classes else []), *(rated.get(key) or dict.fromkeys(dimensions)).values()]
            for key, name in names.items() if key in result["uar"]]
    rows += [[f"consensus model of width {width}", uar, *(None for _ in dimensions)]
             for width, uar in result["uar_by_width"].items()]
    print_table(("model", *(["UAR"] if classes else []), *(f"CCC {name}" for name in dimensions)), [
        [name, *("–" if value is None else f"{value:.3f}" for value in values)] for name, *values in rows],
        title="On held-out speakers")
    dead = ", ".join(map(str, result["peers_dead"])) or "none"
    for line in (
        f"consensus distance {result['consensus_distance']:.1e} after {result['consensus_exchanges']} exchanges",
        f"bytes sent per peer {result['bytes_per_peer']:,}, of which the final consensus "
        f"{result['bytes_per_peer_consensus']:,}",
        f"{in_words(result)}, dead peers {dead}",
        f"late messages {result['messages_late']}, drift {result['drift']:.1e}",
        f"wall time {result['wall_s']:.1f} s for {result['rounds']} rounds of {result['peers']} peers",
        f"picture {result['picture']}",
        *Calibrated.read(result).lines(),
        *([] if result["privacy"] is None else [budget.in_words(result["privacy"])]),
        *(["the corpus is synthetic: for trying the system only"] if synthetic else []),
    ):
        echo(line)
