"""What a local head, a local first layer and fine-tuning give and cost.

Each peer's model on held-out clips of the peer's own speakers (a quarter of each speaker's and emotion's, never trained
on) and on the fold's unseen speakers; simulated; mean over peers, folds and seeds, differences with 95 % intervals over
(fold, seed) pairs. Finished pairs are kept in --out.

    python benchmarks/personal.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/personal]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from p2pser.config import Config
from p2pser.experiments import personal
from p2pser.experiments.compare import fold_numbers
from p2pser.peer.files import write_json
from p2pser.speech.federation import federate
from p2pser.topology import spec


def pair(config: Config, topology: spec.Topology, kept: Path) -> list[dict[str, Any]]:
    """Return the result of one (fold, seed), from ``kept`` where it is there."""
    if kept.is_file():
        found: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    federation = federate(config, topology.size, hub=topology.hub)
    result = personal.measure(config, topology, federation, lambda what: print(
        f"fold {config.corpus.fold}, seed {config.seed}: {what}", file=sys.stderr))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="synthetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--topology", default="ring")
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50, help="of fine-tuning")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs") / "personal")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = Config().with_settings([
        f"corpus.name={given.corpus}", *([f"corpus.data={json.dumps(str(given.data))}"] if given.data else []),
        f"training.fine_tune={given.steps}", "peer.evaluate_every=1000000", *given.set])
    topology = spec.load(given.topology, given.peers)
    results: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for fold in fold_numbers(base, given.folds):
            config = base.with_settings([f"seed={seed}", f"corpus.fold={fold}"])
            results += pair(config, topology, given.out / f"fold{fold}-seed{seed}.json")
    rows = personal.tabulate(results)
    if given.json:
        print(json.dumps(rows))
    else:
        print(personal.table(rows), end="")
        pairs = len({(one["fold"], one["seed"]) for one in results})
        print(f"{given.corpus}, {base.model.name}, {topology.size} peers on {topology.name}: {pairs} (fold, seed) "
              f"pairs; {given.steps} steps of fine-tuning; kept in {given.out}")


if __name__ == "__main__":
    main()
