"""Hostile peers: the UAR that honest peers keep under each attack, by plain averaging and by each robust rule.

3 of 16 peers on a random regular graph of degree 6 send what the attack says; they are placed so that no honest peer
has more than 2 of them for neighbours, and robust rules are told so. Simulated; every honest peer's own model on the
held-out speakers, the mean over peers, folds and seeds. Finished (fold, seed) pairs are kept in --out.

    python benchmarks/hostile.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/hostile] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from p2pser.config import Config
from p2pser.experiments import hostile
from p2pser.experiments.compare import fold_numbers
from p2pser.peer.files import write_json
from p2pser.speech.federation import federate
from p2pser.topology import spec

DEGREE = 6


def pair(config: Config, peers: int, count: int, most: int, kept: Path) -> list[hostile.Outcome]:
    """Return the outcomes of one (fold, seed), from ``kept`` where they are there."""
    if kept.is_file():
        return [hostile.Outcome(**one) for one in json.loads(kept.read_text(encoding="utf-8"))]
    graph = {"kind": "random-regular", "peers": peers, "degree": DEGREE}
    topology = spec.parse({"name": "random-regular", "graph": graph}, "the benchmark")
    federation = federate(config, peers)
    chosen = hostile.place(topology.graph, count, most, config.seed)
    outcomes = hostile.measure(config, topology, federation, chosen, observe=lambda one: print(
        f"fold {config.corpus.fold}, seed {config.seed}: {one}", file=sys.stderr))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, [asdict(one) for one in outcomes])
    return outcomes


def mean(several: list[list[hostile.Outcome]]) -> list[hostile.Outcome]:
    """Return the outcomes' means over (fold, seed) pairs; one that broke down counts as a UAR of 0."""
    def over(values: list[float | None]) -> float:
        return float(np.mean([0.0 if value is None else value for value in values]))

    return [hostile.Outcome(same[0].rule, same[0].attack, over([one.mean for one in same]),
                            over([one.worst for one in same]), None) for same in zip(*several)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="synthetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", type=int, default=16)
    parser.add_argument("--count", type=int, default=3, help="hostile peers")
    parser.add_argument("--most", type=int, default=2, help="hostile neighbours that an honest peer has at most")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs") / "hostile")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = Config().with_settings([f"corpus.name={given.corpus}",
                                   *([f"corpus.data={json.dumps(str(given.data))}"] if given.data else []), *given.set])
    several = []
    for seed in range(given.seeds):
        for fold in fold_numbers(base, given.folds):
            config = base.with_settings([f"seed={seed}", f"corpus.fold={fold}"])
            several.append(pair(config, given.peers, given.count, given.most,
                                given.out / f"fold{fold}-seed{seed}.json"))
    found = mean(several)
    if given.json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        print(hostile.table(found), end="")
        print(f"{given.corpus}: mean UAR of honest peers over {len(several)} (fold, seed) pairs; {given.count} of "
              f"{given.peers} peers hostile, at most {given.most} neighbours of an honest one; kept in {given.out}")


if __name__ == "__main__":
    main()
