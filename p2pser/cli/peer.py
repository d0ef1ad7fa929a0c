"""``p2pser peer``: one peer, from its recordings to the consensus model."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NoReturn

import click

from p2pser.cli.common import RunOptions, from_option, id_option, json_option, require_peer, run_options
from p2pser.cli.kinds import Number, writable
from p2pser.cli.output import echo, note, print_findings, print_json

if TYPE_CHECKING:
    from p2pser.cli.peer_lines import Lines
    from p2pser.graph.spec import Topology
    from p2pser.peer.ending import Ending
    from p2pser.peer.process import Peer


@click.command()
@id_option
@run_options()
@click.option("--start-timeout", type=Number(min=0, min_open=True), metavar="SECONDS",
              help="Start without the neighbours that have not connected after this time.  [default: wait without "
                   "limit; with --check 5]")
@click.option("--fresh", is_flag=True, help="Discard the checkpoints of an earlier run in the same folder.")
@click.option("--check", is_flag=True,
              help="Check this site's recordings, address and machine, connect to neighbours that run or check too, "
                   "compare settings, print round-trip time and rate, and exit.")
@click.option("--alone", is_flag=True,
              help="At the end train a second model on this peer's clips alone, for comparison.")
@click.option("--metrics", metavar="[HOST:]PORT",
              help="Serve /metrics for Prometheus, and /health, at this TCP port of 127.0.0.1 or of HOST "
                   "(network.metrics_port, network.metrics_host).")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Form of standard error: sentences, or one JSON object on each line.")
@from_option
@json_option
def peer(me: int, options: RunOptions, start_timeout: float | None, fresh: bool, check: bool, alone: bool,
         metrics: str | None, log_format: str, start: Path | None, as_json: bool) -> None:
    """Run one peer: train on its own recordings, gossip with its neighbours, and end with the consensus model.

    The peer waits for its neighbours. After an interruption (Ctrl-C, SIGTERM, a crash) the same command resumes.
    On SIGHUP it reads the topology file again: new addresses and keys apply at once, a new graph with a higher epoch
    as soon as all live peers have the file.

    The exit code is 0 when the run is done, or was interrupted and can be resumed, 1 when it failed, 2 when the call or
    a file is wrong, and 3 when it is done but not with every peer that the topology declares.

    Example: p2pser peer --id 3 --topology ring --data my-clips/
    """
    from p2pser.cli.peer_lines import JsonLines, TextLines

    host, port = (None, None) if metrics is None else _endpoint(metrics)
    config = options.config({"network.start_timeout": start_timeout, "network.metrics_host": host,
                             "network.metrics_port": port, "peer.start": start, "peer.alone": alone or None},
                            own_data=True)
    writable(config.peer.out)
    from p2pser.peer.identity import signature

    lines = JsonLines(config, me) if log_format == "json" else TextLines(config, me)

    def read() -> Topology:
        topology = options.graph(config)
        if sentence := signature(config, topology):
            lines.say(sentence)
        return topology

    topology = read()
    require_peer(me, topology)
    from p2pser.peer.process import Peer
    from p2pser.peer.supervisor import Supervisor

    supervisor = Supervisor()

    def say(sentence: str) -> None:
        lines.say(sentence)
        supervisor.status(sentence)

    process = Peer(config, topology, me, fresh=fresh, hear=lines.hear, say=say, supervisor=supervisor)
    if check:
        _check(process, start_timeout, as_json)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: process.interrupt())
    signal.signal(signal.SIGHUP, lambda *_: process.read_again(read))
    _run(process, lines, as_json)


def _run(process: Peer, lines: Lines, as_json: bool) -> NoReturn:
    """Run a peer, and exit."""
    from p2pser.base.errors import P2PSERError, in_one_line

    try:
        with lines:
            ending = process.run()
    except P2PSERError as error:
        lines.failed(in_one_line(error))
        raise click.exceptions.Exit(error.exit_code) from None
    process.supervisor.ready()  # not yet reported where the run had finished before
    process.supervisor.stopping()
    try:
        _print(ending, as_json)
    except OSError as error:  # no reader, or a full disk: the exit code is the run's all the same
        lines.say(f"the outcome cannot be printed: {error.strerror}")
        with open(os.devnull, "wb") as nothing:  # Python writes the rest at its exit
            os.dup2(nothing.fileno(), sys.stdout.fileno())
    lines.say(f"results: {ending.summary['out']}")
    if ending.finished:
        model = quote(str(ending.summary["model"]))
        lines.say(f"next: p2pser predict {model} RECORDING.wav, or p2pser evaluate {model} --data FOLDER")
    raise click.exceptions.Exit(ending.exit_code)


def _endpoint(text: str) -> tuple[str | None, int]:
    """Return the host and port of ``[HOST:]PORT``. Raises click.BadParameter for another form."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise click.BadParameter(f"{text!r} is not of the form [HOST:]PORT: write, for example, 9100 or 192.0.2.7:9100",
                                 param_hint="--metrics")
    return host or None, int(port)


def _print(ending: Ending, as_json: bool) -> None:
    """Print how the run ended on standard output."""
    from p2pser.models.calibrated import Calibrated
    from p2pser.run.account import in_words

    if as_json:
        print_json(ending.summary)
    elif ending.finished:
        uar = ending.summary["uar"]
        echo(f"model: {Path(ending.summary['model'])}")
        if uar is not None:
            echo(f"UAR on the held-out speakers: {uar:.3f}")
            for name, what in (("uar_before", "this peer's parameters before the final consensus"),
                               ("uar_alone", "a model trained on this peer's clips alone"),
                               ("uar_personal", "this peer's personal model")):
                if ending.summary.get(name) is not None:
                    echo(f"  of {what}: {ending.summary[name]:.3f}")
        for line in Calibrated.read(ending.summary).lines() if "calibration" in ending.summary else ():
            echo(line)  # the summary of an earlier version has none
        echo(in_words(ending.summary))


def _check(process: Peer, timeout: float | None, as_json: bool) -> None:
    """Print the findings of a check, and exit: with 0 where all fits, else with 2."""
    from p2pser.peer.check import ANSWER_TIMEOUT
    from p2pser.peer.check import check as check_site

    report = check_site(process, timeout or ANSWER_TIMEOUT)
    if as_json:
        print_json(report)
    else:
        print_findings([*report["site"], *report["neighbours"]])
        note("Next: the same command without --check, at all sites." if report["fits"] else
             "Next: mend what is marked MEND, and check again; --start-timeout 600 waits for neighbours so long.")
    raise click.exceptions.Exit(0 if report["fits"] else 2)
