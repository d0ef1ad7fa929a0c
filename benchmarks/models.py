"""The cost of each model family: parameters, multiply-adds, a local step, and a round of simulated peers.

    python benchmarks/models.py [--families gru,lstm] [--peers 8] [--rounds 3] [--json]

Features are random numbers of the family's default kind and shape; one thread. Times are CPU times, which other
processes hardly change: the fastest of several for a step and a prediction; a round is the simulator's, of all peers
together, without evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import networkx as nx
import numpy as np
import torch

from p2pser import models
from p2pser.base.registries import FAMILIES
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features import clip_features
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology
from p2pser.models.cost import cost
from p2pser.models.inference import logits
from p2pser.run.participant import Cohort
from p2pser.simulation.engine import simulate

CLASSES, CLIPS, REPEATS = 7, 60, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), help="names, joined by commas")
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(name, chosen.peers, chosen.rounds) for name in chosen.families.split(",")]
    if chosen.json:
        print(json.dumps(results))
        return
    print(f"{'family':<14} {'features':<22} {'parameters':>11} {'multiply-adds':>14} {'step':>10} {'answer':>10} "
          f"{'round':>8}")
    for one in results:
        kind = f"{one['features']} {'x'.join(map(str, one['shape']))}"
        print(f"{one['family']:<14} {kind:<22} {one['parameters']:>11,} {one['operations']:>14,} "
              f"{shown(one['step_ms'], 'ms'):>10} {one['answer_ms']:>7.2f} ms {one['round_s']:>6.2f} s")
    print(f"step: of {Config().training.batch_size} clips; answer: a clip's; round: {chosen.peers} peers, "
          f"{Config().training.local_steps} steps each")


def shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def measure(name: str, peers: int, rounds: int) -> dict[str, Any]:
    """Return one family's figures; a family without gradient steps has no time of a step."""
    config = Config().with_settings([f"model.name={name}", f"training.rounds={rounds}", "peer.evaluate_every=1000"])
    clip_shape = clip_features.shape(config.features)
    federation = made_up(clip_shape, peers)
    graph = Topology("ring", nx.cycle_graph(peers), {}, "metropolis", {})
    began = time.process_time()
    run = simulate(config, graph, federation, each_peer=False)
    round_s = (time.process_time() - began) / rounds
    module = models.build(run.config.model, clip_shape, CLASSES, config.seed)
    run.schema.bind(module, run.row.contiguous())
    spent = cost(module, clip_shape)
    step_ms = None
    if not FAMILIES[name].boosts:
        learner = Cohort(run.config, federation, federation.train).prepare_alone(None).learners[0]
        step_ms = fastest(lambda: learner.gradient(run.row, 0))
    clip = federation.train[0].features[:1]
    return {"family": name, "features": config.features.kind, "shape": list(clip_shape),
            "parameters": spent.parameters, "operations": spent.operations, "step_ms": step_ms,
            "answer_ms": fastest(lambda: logits(module, clip)), "round_s": round_s}


def fastest(call: Callable[[], object]) -> float:
    """Return the milliseconds of the fastest of several calls, after one to warm up."""
    call()
    spent = []
    for _ in range(REPEATS):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return 1000 * min(spent)


def made_up(shape: tuple[int, ...], peers: int) -> Federation:
    """Return peers with random features of a shape."""
    draw = np.random.default_rng(0)
    train = {}
    for peer in range(peers):
        values = draw.standard_normal((CLIPS, *shape), dtype=np.float32)
        labels = np.arange(CLIPS, dtype=np.int64) % CLASSES
        train[peer] = Examples(values, labels, (f"s{peer}",) * CLIPS, tuple(map(str, range(CLIPS))))
    corpus = Corpus("made-up", "1", (), (), default_split="none")
    return Federation(tuple("abcdefg"), train, None, Split("none", (), (), (), True), corpus, "none", [], 0,
                      ((),) * peers)


if __name__ == "__main__":
    main()
