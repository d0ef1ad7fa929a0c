"""UAR, bytes and simulated seconds of secure-average beside plain gossip and a server, on the same clips and draws.

UAR is the mean over folds of the consensus model's on held-out speakers; differences to the server are paired over
folds and seeds, with a 95 % paired speaker-bootstrap interval. No setting is chosen: learning rate .05 with momentum
.9, and .1 with quasi-global momentum in its place, whose steps are larger. Finished runs are kept in --out.

Seconds are those of ``p2pser plan``; local steps take 0.05 s each. All messages of a peer share its line, a server's
too.

    python benchmarks/secure_average.py --corpus emodb --data FOLDER --peers 9 [--folds all] [--seeds 5] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from functools import partial
from typing import Any

import numpy as np
import pairs

from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import baselines
from p2pser.experiments.costs import costs
from p2pser.experiments.differences import paired, uar_of
from p2pser.features.federation import federate
from p2pser.graph import spec
from p2pser.simulation.clock import preset
from p2pser.simulation.engine import simulate
from p2pser.simulation.links import LINES
from p2pser.simulation.results import Simulation

SCHEMES = {
    "dfedavg": [],
    "quasi-global-momentum": ["training.momentum=0", "training.lr=0.1"],
    "secure-average": [],
}
SERVER = "server"


def schemes(config: Config) -> dict[str, Config]:
    """Return the settings of each scheme."""
    return {name: config.with_settings([f"gossip.algorithm={name}", *own]) for name, own in SCHEMES.items()} \
        | {SERVER: config}


def run(name: str, config: Config, peers: int) -> dict[str, Any]:
    """Return a run's predictions, and what it sent."""
    federation = federate(config, peers)
    simulation: Simulation = baselines.fedavg(config, federation) if name == SERVER else simulate(
        config, spec.load("ring", peers), federation, each_peer=False)
    outcome = simulation.predictions
    if outcome is None:
        raise SystemExit(f"{name} has no common model")
    return {"targets": outcome.targets.tolist(), "predicted": outcome.predicted.tolist(),
            "speakers": outcome.speakers, "classes": outcome.classes,
            "uar": simulation.outputs and simulation.outputs.uar,
            "row": len(simulation.row) * 4, "bytes": simulation.bytes_training[:peers].tolist(),
            "bytes_final": simulation.bytes_final[:peers].tolist(), "exchanges_final": simulation.final.exchanges,
            "server": int(simulation.bytes_training[peers:].sum())}


def planned(name: str, config: Config, peers: int) -> dict[str, Any]:
    """Return the simulated seconds of the rounds and of the end on each kind of link, and the exchanges of a round."""
    topology = spec.load("ring", peers)
    if name == SERVER:
        topology = dataclasses.replace(spec.load("star", peers + 1), hub=0)
        config = config.with_settings(["gossip.algorithm=fedavg"])
    clips = [50] * topology.size
    each = {link: costs(config, topology, clips, preset(link, jitter=0.0)) for link in LINES}
    return {"seconds": {link: [float(cost.seconds.rounds.max()), float(cost.seconds.end.max())]
                        for link, cost in each.items()}}


def tabulate(results: dict[str, dict[tuple[int, int], dict[str, Any]]], base: Config, given: argparse.Namespace
             ) -> dict[str, Any]:
    """Return the figures of each scheme. results : by scheme and (seed, fold)."""
    common = sorted(set.intersection(*(set(runs) for runs in results.values())))
    seeds = sorted({seed for seed, _ in common})
    models = {name: [[Predictions.concatenate([
        Predictions.of(outcome["targets"], outcome["predicted"], outcome["speakers"], outcome["classes"])
        for outcome in (runs[seed, fold] for s, fold in common if s == seed)])] for seed in seeds]
        for name, runs in results.items()}
    rows = {}
    for name, own in schemes(base).items():
        done = [results[name][pair] for pair in common]
        rows[name] = {
            "uar": uar_of(models[name])[0], "to_server": dataclasses.asdict(paired(models[name], models[SERVER])),
            "megabytes": float(np.mean([outcome["bytes"] for outcome in done])) / 1e6,
            "megabytes_server": float(np.mean([outcome["server"] for outcome in done])) / 1e6,
            "megabytes_final": float(np.mean([outcome["bytes_final"] for outcome in done])) / 1e6,
            **planned(name, own, given.peers)}
    same = sum(results["secure-average"][pair]["predicted"] == results[SERVER][pair]["predicted"] for pair in common)
    return {"corpus": given.corpus, "peers": given.peers, "rounds": base.training.rounds, "folds": len({
        fold for _, fold in common}), "seeds": len(seeds), "runs": len(common), "same": same, "rows": rows}


def lines(table: dict[str, Any]) -> list[str]:
    """Return the lines of a table in Markdown, and a last line that names its corpus, folds and seeds."""
    links = table["rows"][SERVER]["seconds"]
    markdown = ["| | UAR | to the server | MB a peer | at the end | " + " | ".join(
        f"s, {link} (the end)" for link in links) + " |", "|---|---|---|---|---|" + "---|" * len(links)]
    for name, row in table["rows"].items():
        by = row["to_server"]
        to_server = "" if name == SERVER else f"{100 * by['mean']:+.1f}"
        if to_server and by["low"] is not None:
            to_server += f" [{100 * by['low']:+.1f}, {100 * by['high']:+.1f}]"
        sent = f"{row['megabytes']:.1f}"
        if row["megabytes_server"]:
            sent += f" (the server {row['megabytes_server']:.0f})"
        seconds = (f"{rounds:.0f} ({end:.1f})" for rounds, end in row["seconds"].values())
        cells = [name if name == SERVER else f"`{name}`", f"{row['uar']:.3f}".lstrip("0"), to_server.replace("-", "−"),
                 sent, f"{row['megabytes_final']:.1f}", *seconds]
        markdown.append(f"| {' | '.join(cells)} |")
    return [*markdown, f"{table['corpus']}, {table['peers']} peers on a ring, {table['rounds']} rounds; folds: "
            f"{table['folds']}, seeds: {table['seeds']}. secure-average and server predict alike in {table['same']} of "
            f"{table['runs']} runs."]


def main() -> None:
    """Print the table, or JSON."""
    parser = pairs.options(__doc__, "secure_average")
    parser.add_argument("--peers", type=int, default=9)
    given = parser.parse_args()
    base = pairs.settings(given, "peer.evaluate_every=1000000")
    results: dict[str, dict[tuple[int, int], dict[str, Any]]] = {name: {} for name in (*SCHEMES, SERVER)}
    for config in pairs.each(base, given):
        for name, own in schemes(config).items():
            outcome = pairs.kept(given.out, own, partial(run, name, own, given.peers),
                                 scheme=name, peers=given.peers)
            results[name][config.seed, config.corpus.fold] = outcome
            print(f"seed {config.seed}, fold {config.corpus.fold}, {name}: UAR {outcome['uar']:.3f}", file=sys.stderr,
                  flush=True)
    table = tabulate(results, base, given)
    print(json.dumps(table) if given.json else "\n".join(lines(table)))


if __name__ == "__main__":
    main()
