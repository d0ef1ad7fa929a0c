"""``p2pser simulate``: all peers of a run in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pser.cli.clock import churn_of, clock_options
from p2pser.cli.common import SEVERAL, RunOptions, device_option, from_option, json_option, run_options
from p2pser.cli.kinds import writable
from p2pser.cli.output import echo, note, print_json

if TYPE_CHECKING:
    from p2pser.simulation.clock import Clock


def _deaths(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, int]:
    deaths = {}
    for value in values:
        peer, at, round = value.partition("@")
        if not (at and peer.isdecimal() and round.isdecimal()):
            raise click.BadParameter(f"{value!r} is not of the form PEER@ROUND: write, for example, 3@10")
        deaths[int(peer)] = int(round)
    return deaths


def _attacks(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    attacks = {}
    for value in values:
        peer, colon, name = value.partition(":")
        if not (colon and peer.isdecimal()):
            raise click.BadParameter(f"{value!r} is not of the form PEER:ATTACK: write, for example, 3:sign-flip")
        attacks[int(peer)] = name
    return attacks


@click.command()
@click.option("--kill", "deaths", multiple=True, metavar="PEER@ROUND", callback=_deaths,
              help=f"Kill a peer at the beginning of a round {SEVERAL}.")
@click.option("--hostile", "attacks", multiple=True, metavar="PEER:ATTACK", callback=_attacks,
              help="Make a peer hostile: it sends manipulated parameters, by the attack sign-flip, large-norm, "
                   f"same-value, a-little-is-enough or inner-product {SEVERAL}.")
@clock_options
@click.option("--churn", metavar="CSV|RATE[:SECONDS]",
              help="Peers leave and return in simulated time: a file with the columns peer,leaves_s,returns_s, or how "
                   "often each peer leaves in an hour and for how many seconds on average (300 where not given).")
@click.option("--exact", is_flag=True, help="Compute the same bits as peers on a network (slower).")
@click.option("--baselines/--no-baselines", default=True, show_default=True,
              help="Also train local-only and pooled models.")
@click.option("--sample", type=click.IntRange(min=1), metavar="PEERS",
              help="Evaluate the own models of this number of peers, drawn by the seed.  [default: all]")
@click.option("--calibrate", type=click.IntRange(min=2), metavar="FOLDS",
              help="Fit the temperature of the model's probabilities and its sets of emotions, for p2pser predict, on "
                   "this number of inner folds of training speakers, each with a run of its own.")
@from_option
@json_option
@device_option
@run_options()
def simulate(options: RunOptions, device: str | None, deaths: dict[int, int], attacks: dict[int, str],
             clock: Callable[[int, int], Clock], timed: bool, churn: str | None, exact: bool, baselines: bool,
             calibrate: int | None, sample: int | None, start: Path | None, as_json: bool) -> None:
    """Run all peers in one process: the algorithms and the training of a real network, without the network.

    Writes OUT/NAME/simulation/: metrics.jsonl (one line per round), run.png, model/ (the consensus model; with hostile
    peers, a robust algorithm or gossip.share there is none, and model/ is that of the first honest peer), and
    model-WIDTH/ for each smaller width (model.width).

    The same command continues an interrupted run from the last checkpoint in checkpoint/ there, with the same results
    bit for bit. A run starts anew under other settings, in simulated time, and with hostile peers, a budget, secure
    sums or an asynchronous algorithm.

    Example: p2pser simulate --topology ring --peers 8
    """
    import torch

    from p2pser.experiments import simulation as experiment
    from p2pser.experiments.report import simulation as report
    from p2pser.features.federation import federate
    from p2pser.gossip.attacks import Attack
    from p2pser.models.start import begun
    from p2pser.run.fitting import fitting
    from p2pser.run.participant import size_of
    from p2pser.simulation import memory
    from p2pser.simulation.resume import Keep, alone
    from p2pser.simulation.scenario import Scenario

    config = options.config({"peer.start": start, "training.device": device})
    torch.set_num_threads(config.training.threads)
    folder = writable(config.peer.out / config.name / "simulation")
    graph = options.graph(config)
    scenario = Scenario(dead=deaths, hostile={peer: Attack(name) for peer, name in attacks.items()},
                        clock=clock(config.seed, graph.size) if timed or churn else None,
                        churn=None if churn is None else churn_of(churn, config.seed, graph.size))
    fitting(config, graph)
    scenario.living(graph)
    federation = federate(begun(config), graph.size, hub=graph.hub, progress=True)
    bytes_ = memory.require(config, graph, size_of(config, federation, graph.size))
    if bytes_ >= memory.LARGE:
        note(f"{graph.size} peers take about {memory.in_words(bytes_)} of memory")
    click.get_current_context().with_resource(alone(folder))
    keep = Keep(folder / "checkpoint", note)
    result = experiment.run(config, graph, federation, scenario, exact=exact, baselines=baselines,
                            calibrate=calibrate, sample=sample, show_progress=True, keep=keep)
    report.write(result, folder)
    keep.done()
    document = {**result.to_dict(), "out": str(folder)}
    if as_json:
        print_json(document)
        return
    for line in report.text(document):
        echo(line)
    note(f"written to {folder}: metrics.jsonl, run.png, model/")
