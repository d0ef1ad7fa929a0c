"""The gain of peers with models of different width from each other: each size trained with all, and by itself.

On one (fold, seed) of a corpus: all peers together, each with a model of its width; the peers of each width by
themselves, with the links between them, on their own clips; and all together with whole models, which narrow peers
could not afford. Rounds and local steps are the same in all. Each model is that of the final consensus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import networkx as nx

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.models.widths import widths
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation

TOGETHER, ALONE, WHOLE = "together", "own kind", "all whole"


def measure(config: Config, topology: Topology, federation: Federation,
            done: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Return, as plain data, the predictions of each size's model on the held-out clips: ``predicted[way][width]``.

    Raises ConfigError where all peers have one width or nothing is held out.
    """
    sizes = {width: [i for i, own in enumerate(widths(config.model, topology.size)) if own == width]
             for width in sorted(set(widths(config.model, topology.size)))}
    if len(sizes) < 2 or federation.test is None:
        raise ConfigError("there is nothing to compare: give peers of several widths, such as "
                          "model.width=0.25*4,0.5*2,1*2, and a split that holds clips out")
    predicted: dict[str, dict[str, list[int]]] = {TOGETHER: {}, ALONE: {}, WHOLE: {}}

    def run(what: str, width: Any, where: Topology, clips: Federation) -> Simulation:
        simulation = simulate(config.with_settings([f"model.width={width}"]), where, clips, each_peer=False)
        done(what)
        return simulation

    together = run(TOGETHER, ",".join(map(str, config.model.width)), topology, federation)
    for width, peers in sizes.items():
        predicted[TOGETHER][str(width)] = _predicted(together, peers[0])
        alone = run(f"{ALONE} {width:g}", width, among(topology, peers), held_by(federation, peers))
        predicted[ALONE][str(width)] = _predicted(alone, 0)
    predicted[WHOLE]["1.0"] = _predicted(run(WHOLE, 1.0, topology, federation), 0)
    return {"targets": federation.test.labels.tolist(), "speakers": list(federation.test.speakers),
            "classes": len(federation.labels), "fold": config.corpus.fold, "seed": config.seed,
            "peers": {str(width): len(peers) for width, peers in sizes.items()}, "predicted": predicted,
            "parameters": {str(width): len(together.networks[width].start) for width in sizes},
            "megabytes": {str(width): float(together.bytes_training[peers].mean() / 1e6)
                          for width, peers in sizes.items()}}


def _predicted(run: Simulation, peer: int) -> list[int]:
    """Return a peer's predicted labels. Raises ConfigError where no emotions are learned."""
    outputs = run.final_outputs[peer] if run.final_outputs else run.outputs
    if outputs is None or outputs.predictions is None:
        raise ConfigError("models of several widths are compared by their UAR: take training.task=classes or both")
    predicted: list[int] = outputs.predictions.predicted.tolist()
    return predicted


def among(topology: Topology, peers: Sequence[int]) -> Topology:
    """Return these peers' own graph, numbered from 0; where it is not connected, a ring of them."""
    graph = nx.relabel_nodes(topology.graph.subgraph(peers), {peer: k for k, peer in enumerate(peers)})
    if not nx.is_connected(graph):
        graph = nx.cycle_graph(len(peers)) if len(peers) > 2 else nx.path_graph(len(peers))
    return Topology(f"{topology.name}, own kind", nx.Graph(graph), {}, "metropolis", {})


def held_by(federation: Federation, peers: Sequence[int]) -> Federation:
    """Return the federation of these peers alone, numbered from 0."""
    return dataclasses.replace(federation, train={k: federation.train[i] for k, i in enumerate(peers)},
                               held=tuple(federation.held[i] for i in peers))


def tabulate(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each width: UAR together and among its own kind, and their mean paired difference over seeds
    with its 95 % speaker-bootstrap interval. results: of ``measure``, for the same folds of each seed.
    """
    seeds = sorted({result["seed"] for result in results})

    def predictions(way: str, width: str) -> list[Predictions]:
        return [Predictions.concatenate([
            Predictions.of(result["targets"], result["predicted"][way][width], result["speakers"], result["classes"])
            for result in sorted(results, key=lambda result: int(result["fold"])) if result["seed"] == seed])
            for seed in seeds]

    def uar(several: Sequence[Predictions]) -> float:
        return sum(map(metrics.uar_folds, several)) / len(several)

    whole = predictions(WHOLE, "1.0")
    rows = []
    for width, peers in results[0]["peers"].items():
        together, alone = predictions(TOGETHER, width), predictions(ALONE, width)
        rows.append({
            "width": float(width), "peers": peers, "parameters": results[0]["parameters"][width],
            "megabytes": sum(result["megabytes"][width] for result in results) / len(results),
            "together": uar(together), "own_kind": uar(alone), "all_whole": uar(whole),
            "gain": metrics.paired(together, alone)._asdict(),
            "gap_to_whole": metrics.paired(together, whole)._asdict(),
        })
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [["width", "peers", "parameters", "MB sent", "own kind", "together", "together - own kind",
              "together - all whole"], ["---"] * 8]
    for row in rows:
        differences = [f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
                       for gain in (row["gain"], row["gap_to_whole"])]
        lines.append([f"{row['width']:g}", str(row["peers"]), str(row["parameters"]), f"{row['megabytes']:.1f}",
                      f"{row['own_kind']:.3f}", f"{row['together']:.3f}", *differences])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
