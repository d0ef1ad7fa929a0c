"""``p2pser runs``: the runs in a folder, and the export of their measurements."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from p2pser.base.wording import counted, number
from p2pser.cli.common import json_option
from p2pser.cli.kinds import Source, Target
from p2pser.cli.output import echo, note, print_json, print_table

if TYPE_CHECKING:
    from p2pser.peer.view import RunView

TARGETS = ("csv", "tensorboard", "mlflow", "trackio")


@click.group()
def runs() -> None:
    """List runs, and write their measurements for other programs.

    Example: p2pser runs export runs/demo --to csv
    """


@runs.command(name="list")
@click.argument("folder", type=Source(), default=Path(), required=False)
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (by default this one) and its runs/, the newest first.

    Example: p2pser runs list
    """
    from p2pser.peer.view import look, run_folders

    summaries = [_summary(path, look(path)) for path in run_folders(folder)]
    if as_json:
        print_json(summaries)
        return
    print_table(["run", "peers", "state", "rounds", "UAR", "folder"], [
        [run["run"], str(run["peers"]), ", ".join(f"{count} {state}" for state, count in run["states"].items()),
         f"{run['round']} of {run['rounds']}", number(run["uar"], ".3f"), run["folder"]] for run in summaries],
        left=(0, 2, 5))


@runs.command()
@click.argument("run", type=Source(exists=True))
@click.option("--to", "target", type=click.Choice(TARGETS), required=True, help="Format to write.")
@click.option("--out", type=Target(folder=True),
              help="Folder of the results.  [default: exports/FORMAT in the folder of the run]")
@json_option
def export(run: Path, target: str, out: Path | None, as_json: bool) -> None:
    """Write the measurements of all peers of a RUN (runs/NAME, or one peer's folder) for another program.

    The run may still be active: the next call adds the new rounds. csv is one table with a row for each peer and round.
    tensorboard, mlflow and trackio have a run for each peer; they need their packages. mlflow writes to
    MLFLOW_TRACKING_URI where that is set, trackio to TRACKIO_DIR.

    Example: p2pser runs export runs/demo --to csv
    """
    from p2pser.experiments import exporting

    place, written = exporting.export(run, target, out)
    if as_json:
        rounds = {str(peer): count for peer, count in written.items()}
        print_json({"run": str(run), "to": target, "out": str(place), "rounds": rounds})
        return
    echo(str(place))
    note(f"{sum(written.values())} rounds of {counted(len(written), 'peer')}")
    if target == "tensorboard":
        note(f"next: tensorboard --logdir {quote(str(place))}")


def _summary(folder: Path, run: RunView) -> dict[str, Any]:
    states = [peer.state for peer in run.peers]
    scores = [uar for peer in run.peers if (uar := peer.newest("uar")) is not None]
    return {"run": run.name, "folder": str(folder), "peers": len(states),
            "states": {state: states.count(state) for state in sorted(set(states))},
            "round": min(peer.round for peer in run.peers), "rounds": max(peer.rounds for peer in run.peers),
            "uar": sum(scores) / len(scores) if scores else None}
