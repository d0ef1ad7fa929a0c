"""``p2pser status``: the state of a run, in answers to an operator's five questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from p2pser.base.wording import duration
from p2pser.cli.common import json_option
from p2pser.cli.kinds import Source
from p2pser.cli.output import echo, print_json

if TYPE_CHECKING:
    from p2pser.peer.view import PeerView

SHOWN = 5
"""Number of problems that are shown, the newest."""


@click.command()
@click.argument("folder", type=Source(), required=False)
@json_option
def status(folder: Path | None, as_json: bool) -> None:
    """Show the state of a run. FOLDER is that of a run or of one peer; in another folder, by default this
    one, the newest run is meant.

    The command reads the files that the peers on this machine write, also those of a run that was killed. The exit code
    is 0 where each peer runs or has finished, else 1.

    Example: p2pser status runs/demo/peer-3
    """
    from p2pser.peer.view import run_folder

    show(run_folder(folder or Path()), as_json)


def show(folder: Path, as_json: bool) -> NoReturn:
    """Print the state of a run, and exit."""
    from p2pser.peer.view import FINISHED, RUNNING, look

    run = look(folder)
    if as_json:
        print_json({"run": run.name, "peers": [_plain(peer) for peer in run.peers]})
    else:
        for peer in run.peers:
            echo(f"run {run.name}, peer {peer.peer} ({peer.folder})")
            for question, answers in _answers(peer):
                for k, answer in enumerate(answers):
                    echo(f"  {question if k == 0 else '':<16}{answer}")
    healthy = all(peer.state in (RUNNING, FINISHED) for peer in run.peers)
    raise click.exceptions.Exit(0 if healthy else 1)


def _answers(peer: PeerView) -> Iterator[tuple[str, list[str]]]:
    """Yield an operator's five questions, each with the lines of its answer."""
    from p2pser.peer.event_words import sentence
    from p2pser.peer.view import KILLED, when

    yield "is it running", [_running(peer)]
    none = "no neighbour" if peer.stalled is None else \
        "no reported neighbour: its own work takes long, or its process is stopped"
    yield "waits for", list(peer.waits_for.values()) or [none]
    yield "how good", [_quality(peer)]
    yield "how long", [_left(peer)]
    problems = [f"{at:%Y-%m-%d %H:%M:%S} {sentence(event)}" for event in peer.problems[-SHOWN:]
                if (at := when(event)) is not None]
    if peer.state == KILLED:
        problems.append("it ended without a last word: killed, out of memory, or the machine went down")
    yield "what went wrong", problems or ["nothing"]


def _running(peer: PeerView) -> str:
    from p2pser.peer import view

    if peer.state == view.RUNNING and not peer.history:
        return "yes; it reads its recordings, and does not listen to its neighbours yet"
    rounds = f"{peer.round} of {peer.rounds} rounds are over"
    since = "" if peer.since is None else f" since {peer.since.astimezone():%Y-%m-%d %H:%M:%S}"
    if peer.state == view.RUNNING:
        stalls = "" if peer.stalled is None else f", and round {peer.round + 1} has lasted {duration(peer.stalled)}"
        return f"yes{since}; {rounds}{stalls}"
    if peer.state == view.FINISHED and peer.summary is not None:
        from p2pser.run import account

        model = str(peer.summary.get("model"))
        gone = "" if Path(model).exists() else ", which has been removed"
        return f"no, it has finished: {account.in_words(peer.summary)}; model: {model}{gone}"
    if peer.state == view.NOT_STARTED:
        return "no, it has never listened to its neighbours: the command printed why it ended"
    words = {view.INTERRUPTED: "it was stopped", view.FAILED: "it failed", view.KILLED: "it was killed, or the machine"
             " went down"}
    return f"no, {words[peer.state]}; {rounds}: the same command resumes it"


def _quality(peer: PeerView) -> str:
    uar, loss = peer.newest("uar"), peer.newest("loss")
    if peer.summary is not None and isinstance(peer.summary.get("uar"), float):
        uar = peer.summary["uar"]
    first = next(iter(peer.measured("uar")), None)
    if not peer.metrics:
        return "no round is over yet"
    quality = "no held-out speakers" if uar is None else f"UAR {uar:.3f} on the held-out speakers" + (
        f" ({first:.3f} after the first round that was measured)" if first is not None else "")
    return quality if loss is None else f"{quality}; training loss {loss:.3f}"


def _left(peer: PeerView) -> str:
    if peer.seconds_left is None or peer.round_seconds is None:
        return "nothing is left" if peer.summary is not None else "not known yet"
    rounds = f"{peer.rounds - peer.round} rounds ({peer.round_seconds:.2f} s each)"
    return f"about {duration(peer.seconds_left)} for {rounds}, then the consensus"


def _plain(peer: PeerView) -> dict[str, Any]:
    return {"peer": peer.peer, "folder": str(peer.folder), "state": peer.state,
            "since": None if peer.since is None else peer.since.isoformat(), "round": peer.round, "rounds": peer.rounds,
            "uar": peer.newest("uar"), "loss": peer.newest("loss"), "seconds_left": peer.seconds_left,
            "stalled": peer.stalled, "waits_for": {str(j): sentence for j, sentence in peer.waits_for.items()},
            "links": {str(j): link.state for j, link in peer.links.items()},
            "problems": [dict(event) for event in peer.problems[-SHOWN:]]}
