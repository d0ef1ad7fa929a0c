"""``p2pser simulate``: all peers in one process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import click

from p2pser.base.progress import progress
from p2pser.cli.common import json_option, note, print_json, run_configuration, run_options


def _deaths(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, int]:
    deaths = {}
    for value in values:
        peer, at, round = value.partition("@")
        if not (at and peer.isdecimal() and round.isdecimal()):
            raise click.BadParameter(f"{value!r}: write PEER@ROUND, for example 3@10")
        deaths[int(peer)] = int(round)
    return deaths


def _attacks(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    attacks = {}
    for value in values:
        peer, at, name = value.partition(":")
        if not (at and peer.isdecimal()):
            raise click.BadParameter(f"{value!r}: write PEER:ATTACK, for example 3:sign-flip")
        attacks[int(peer)] = name
    return attacks


def _slow(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, float]:
    slow = {}
    for value in values:
        peer, _, factor = value.partition(":")
        try:
            slow[int(peer)] = float(factor)
        except ValueError:
            raise click.BadParameter(f"{value!r}: write PEER:FACTOR, for example 3:5") from None
    return slow


@click.command()
@click.option("--topology", default="ring.yaml", show_default=True, help="Topology file or the name of a shipped one.")
@click.option("--peers", type=click.IntRange(min=1), help="Number of peers, instead of the file's.")
@click.option("--kill", "deaths", multiple=True, metavar="PEER@ROUND", callback=_deaths,
              help="Silence a peer from a round on (may be given several times).")
@click.option("--hostile", "attacks", multiple=True, metavar="PEER:ATTACK", callback=_attacks,
              help="Let a peer send something else than its parameters: sign-flip, large-norm, same-value, "
                   "a-little-is-enough or inner-product (may be given several times).")
@click.option("--network", metavar="lan|wan|phone", help="Tell what the run would cost in seconds over such links "
                                                         "(asynchronous algorithms run by them; default lan).")
@click.option("--step-seconds", type=click.FloatRange(min=0, min_open=True), default=0.05, show_default=True,
              help="Simulated seconds of a local step.")
@click.option("--slow", multiple=True, metavar="PEER:FACTOR", callback=_slow,
              help="Let a peer's local steps take so many times longer (may be given several times).")
@click.option("--exact", is_flag=True, help="Mix bit for bit as the network does (slower).")
@click.option("--baselines/--no-baselines", default=True, show_default=True,
              help="Train local-only and pooled models beside it.")
@click.option("--calibrate", type=click.IntRange(min=2), metavar="FOLDS",
              help="Fit the temperature of the model's probabilities on so many inner folds of training speakers, each "
                   "a run of its own; predict uses it.")
@json_option
@run_options
def simulate(topology: str, peers: int | None, deaths: dict[int, int], attacks: dict[int, str], network: str | None,
             step_seconds: float, slow: dict[int, float], exact: bool, baselines: bool,
             calibrate: int | None, as_json: bool, **options: Any) -> None:
    """Run all peers in one process: the same algorithms and local work as between processes, without a network.

    Writes OUT/NAME/simulation/: metrics.jsonl (a line a round), run.png, model/ (the consensus model, or the first
    honest peer's where there is none: with hostile peers, a robust algorithm or gossip.share), and model-WIDTH/ of each
    smaller size (model.width).

    Example: p2pser simulate --topology ring.yaml --peers 8
    """
    import torch

    from p2pser.features.federation import federate
    from p2pser.gossip.attacks import Attack
    from p2pser.simulation import engine
    from p2pser.simulation.clock import preset
    from p2pser.simulation.scenario import Scenario
    from p2pser.topology import spec

    config = run_configuration(options)
    hostile = {peer: Attack(name) for peer, name in attacks.items()}
    clock = preset(network or "lan", step_s=step_seconds, slow=slow, seed=config.seed) if network or slow else None
    torch.set_num_threads(config.training.threads)
    graph = spec.load(topology, peers)
    federation = federate(config, graph.size, hub=graph.hub, progress=True)
    folder = config.peer.out / config.name / "simulation"
    run = _train(engine, config, graph, federation, exact=exact,
                 scenario=Scenario(dead=deaths, hostile=hostile, clock=clock))
    document = _document(run)
    document["temperature"] = _temperature(config, graph, federation, calibrate)
    trained = _baselines(config, federation, baselines)
    document["uar_by_corpus"] = _by_corpus(run, document, trained)
    for name, baseline in trained.items():
        document["uar"][name] = baseline and baseline.uar
        if document["ccc"] is not None:
            document["ccc"][name] = baseline and baseline.ccc
    document["out"] = str(folder)
    _write(folder, run, document)
    if as_json:
        print_json(document)
    else:
        _print(document)
        note(f"written to {folder}: metrics.jsonl, run.png, model/")


def _train(engine: Any, config: Any, topology: Any, federation: Any, **how: Any) -> Any:
    """Run under a progress bar on standard error."""
    from p2pser.evaluation.outputs import in_short

    with progress("round", config.training.rounds) as bar:
        def observe(round: Any) -> None:
            uar = round.uar["consensus"]
            ccc = in_short(round.ccc["consensus"]) if round.ccc else None
            said = ("" if uar is None else f"  UAR {uar:.3f}") + ("" if ccc is None else f"  CCC {ccc:.3f}")
            bar(round.round, f"round  loss {round.loss:.3f}{said}")

        return engine.simulate(config, topology, federation, card=True, observe=observe, **how)


def _temperature(config: Any, topology: Any, federation: Any, folds: int | None) -> float | None:
    """Fit the temperature on inner folds, under a progress bar; None where that was not asked for."""
    if folds is None:
        return None
    from p2pser.experiments import tuning

    with progress("calibration", folds) as bar:
        return tuning.temperature(config, topology, federation, folds, bar)


def _baselines(config: Any, federation: Any, wanted: bool) -> dict[str, Any]:
    if not wanted or federation.test is None:
        return {"local_only": None, "pooled": None}
    from p2pser.experiments.baselines import local_only, pooled

    return {"local_only": local_only(config, federation), "pooled": pooled(config, federation)}


def _document(run: Any) -> dict[str, Any]:
    """The run as plain data; the keys that ``p2pser demo --json`` has, and more."""
    from p2pser.evaluation import metrics
    from p2pser.evaluation.outputs import ccc_of_several

    federation, agreed = run.federation, isfinite(run.final.distance)
    rated = None if run.answers is None else run.answers.ccc
    mean, worst = ccc_of_several([one.ccc for one in run.peer_answers])
    each = [metrics.uar_pooled(one) for one in run.peer_predictions]
    return {
        "peers": run.topology.size,
        "rounds": run.config.training.rounds,
        "uar": {
            "consensus": metrics.uar_pooled(run.predictions) if run.predictions is not None and agreed else None,
            "mean_peer": sum(each) / len(each) if each else None,
            "worst_peer": min(each) if each else None,
            **({"fine_tuned": _mean_uar(run.personal_answers)} if run.personal is not None else {}),
            "local_only": None,
            "pooled": None,
        },
        "uar_by_width": _by_width(run),
        "ccc": None if rated is None else {
            "consensus": rated if agreed else None, "mean_peer": mean, "worst_peer": worst, "local_only": None,
            "pooled": None,
        },
        "consensus_distance": run.consensus_distance,
        "bytes_per_peer": float((run.bytes_training + run.bytes_final).mean()),
        "messages_late": run.messages_late,
        "peers_dead": [i for i in range(run.topology.size) if i not in run.living + run.hostile],
        "peers_hostile": list(run.hostile),
        "wall_s": run.wall_s,
        "simulated_s": run.history[-1].seconds if run.history else None,
        "asynchronous": run.asynchronous,
        "out": None,
        "topology": run.topology.name,
        "corpus": federation.corpus.name,
        "synthetic": federation.corpus.synthetic,
        "labels": list(federation.labels),
        "split": federation.split.name,
        "test_speakers": list(federation.split.test_speakers),
        "speaker_overlap": federation.speaker_overlap,
        "normalise": federation.normalise,
        "notes": [*federation.notes, *run.notes],
        "slem": run.slem,
        "final": {"exchanges": run.final.exchanges, "converged": run.final.converged,
                  "bound": run.final.distance if agreed else None,
                  "bytes_per_peer": float(run.bytes_final.mean())},
    }


def _by_corpus(run: Any, document: dict[str, Any], trained: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """The UAR on each of several corpora."""
    from p2pser.experiments.by_corpus import uar_by_corpus

    consensus = None if document["uar"]["consensus"] is None else run.predictions
    said = {name: () if baseline is None else baseline.predictions for name, baseline in trained.items()}
    return uar_by_corpus(run.federation, consensus, said["local_only"], said["pooled"])


def _mean_uar(answers: Any) -> float | None:
    known = [one.uar for one in answers if one.uar is not None]
    return sum(known) / len(known) if known else None


def _by_width(run: Any) -> dict[str, float | None]:
    """The mean UAR of the models of each width at the end, where there are several widths."""
    of = {width: [one for i, one in zip(run.living, run.final_answers) if run.widths[i] == width]
          for width in sorted(set(run.widths))}
    return {f"{width:g}": _mean_uar(answers) for width, answers in of.items()} if len(of) > 1 else {}


def _models(run: Any) -> Iterator[tuple[str, float, Any]]:
    """Yield (folder, width, row) of the widest model, and of one of each other width."""
    by_width = {run.widths[i]: i for i in reversed(run.living)}
    for width in sorted(by_width, reverse=True):
        row = run.networks[width].own(run.final.rows[by_width[width]].float())
        yield "model" if width == max(by_width) else f"model-{width:g}", width, row


def _write(folder: Path, run: Any, document: dict[str, Any]) -> None:
    """Write the run's history, picture and model."""
    from p2pser.evaluation.outputs import in_short
    from p2pser.experiments.report.runs import MEAN_CCC, UAR, run_picture
    from p2pser.models import directory
    from p2pser.run.card import card

    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(round.to_dict()) for round in run.history]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    names = {"consensus model": "consensus", "mean peer": "mean", "worst peer": "worst"}
    if document["labels"]:
        curves = {name: [round.uar[key] for round in run.history] for name, key in names.items()}
        levels = document["uar"]
    else:
        curves = {name: [None if round.ccc is None else in_short(round.ccc[key]) for round in run.history]
                  for name, key in names.items()}
        levels = {name: in_short(one) for name, one in document["ccc"].items()} if document["ccc"] else document["uar"]
    run_picture(
        folder / "run.png", topology=run.topology, dead=document["peers_dead"], rounds=document["rounds"],
        uar=curves, baselines={"pooled": levels["pooled"], "local-only": levels["local_only"]},
        score=UAR if document["labels"] else MEAN_CCC,
        distance=[round.distance for round in run.history], final_distance=list(run.final_distance), slem=run.slem,
    )
    for before in (folder / "model", *folder.glob("model-*")):  # of the simulation before
        if (before / directory.CARD).is_file():
            shutil.rmtree(before)
    for name, width, row in _models(run):
        # The temperature is of the model that was measured, the widest.
        own = document["temperature"] if name == "model" else None
        directory.save(folder / name, row, run.networks[width].schema, card(
            run.config, run.topology, run.federation, run.statistics, width=width, temperature=own))


def _print(document: dict[str, Any]) -> None:
    uar = document["uar"]
    names = {"consensus": "consensus model", "mean_peer": "mean peer", "worst_peer": "worst peer",
             "fine_tuned": "personal (mean)", "local_only": "local-only (mean)", "pooled": "pooled"}
    said = ", ".join(document["test_speakers"])
    kind = " (synthetic: for trying the system only)" if document["synthetic"] else ""
    ccc = document["ccc"] or {}
    told = ["UAR"] * bool(document["labels"]) + ["CCC"] * bool(ccc)
    click.echo(f"{document['corpus']}{kind}, {document['split']}: {' and '.join(told)} on the held-out speakers {said}")
    columns = ["UAR"] * bool(document["labels"]) + list(next(filter(None, ccc.values()), {}))
    if ccc:
        click.echo(f"  {'':<18} " + "  ".join(f"{column:>5}" for column in columns))
    for key, name in names.items():
        if key not in uar:
            continue
        values = [uar[key]] * bool(document["labels"]) + list((ccc.get(key) or {}).values())
        shown = ["–" if value is None else f"{value:.3f}" for value in values]
        if any(value is not None for value in values):
            click.echo(f"  {name:<18} " + "  ".join(f"{text:>{max(5, len(column))}}"
                                                    for text, column in zip(shown, columns)))
    for width, value in document["uar_by_width"].items():
        if value is not None:
            click.echo(f"  {f'width {width}':<18} {value:.3f}")
    for corpus, found in document["uar_by_corpus"].items():
        each = ", ".join(f"{names[key]} {value:.3f}" for key, value in found.items() if value is not None)
        if each:
            click.echo(f"  on {corpus}: {each}")
    chance = f"chance {1 / len(document['labels']):.3f}, " if document["labels"] else ""
    click.echo(f"{chance}normalisation {document['normalise']}, test speakers that "
               f"were trained on: {document['speaker_overlap']}")
    if document["temperature"] is not None:
        click.echo(f"temperature of the probabilities {document['temperature']:.2f}, fitted on inner folds")
    final = document["final"]
    end = f"{final['exchanges']} exchanges of the final consensus ({'agreed' if final['converged'] else 'gave up'})"
    if final["bound"] is None:
        end = "no final consensus (the model is one peer's)"
    click.echo(f"consensus distance {document['consensus_distance']:.1e} after {document['rounds']} rounds and "
               f"{end}; "
               f"{document['bytes_per_peer'] / 1e6:.2f} MB sent per peer; {document['wall_s']:.1f} s")
    if document["simulated_s"] is not None:
        click.echo(f"over such a network and with such peers it would take {document['simulated_s']:.1f} s")
    if document["asynchronous"] is not None:
        told, stale = document["asynchronous"], document["asynchronous"]["staleness"]
        click.echo(f"staleness of exchanges: mean {stale['mean']:.2f}, at most {stale['max']} rounds (bound "
                   f"{stale['bound']}); {told['refused']} refused, drift {told['drift']:.1e}")
    for text in document["notes"]:
        click.echo(text)
