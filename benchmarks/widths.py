"""Peers of different width: what each size gains from training with the others instead of among its own kind.

8 peers on a ring, 4 of a quarter, 2 of half and 2 of the whole width, share the training speakers; simulated. UAR (a)
of each size's model on the held-out speakers; differences are means over seeds, paired, with 95 % intervals by
resampling of speakers. Finished (fold, seed) pairs are kept in --out.

    python benchmarks/widths.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/widths] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from p2pser.config import Config
from p2pser.experiments import widths
from p2pser.experiments.compare import fold_numbers
from p2pser.peer.files import write_json
from p2pser.speech.federation import federate
from p2pser.topology import spec


def pair(config: Config, topology: spec.Topology, kept: Path) -> dict[str, Any]:
    """Return the result of one (fold, seed), from ``kept`` where it is there."""
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    federation = federate(config, topology.size, hub=topology.hub)
    result = widths.measure(config, topology, federation, lambda what: print(
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
    parser.add_argument("--widths", default="0.25*4,0.5*2,1*2")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs") / "widths")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = Config().with_settings([
        f"corpus.name={given.corpus}", *([f"corpus.data={json.dumps(str(given.data))}"] if given.data else []),
        f"model.width={given.widths}", "peer.evaluate_every=1000000", *given.set])
    topology = spec.load(given.topology, len(base.model.width))
    results = []
    for seed in range(given.seeds):
        for fold in fold_numbers(base, given.folds):
            config = base.with_settings([f"seed={seed}", f"corpus.fold={fold}"])
            results.append(pair(config, topology, given.out / f"fold{fold}-seed{seed}.json"))
    rows = widths.tabulate(results)
    if given.json:
        print(json.dumps(rows))
    else:
        print(widths.table(rows), end="")
        print(f"{given.corpus}, {base.model.name}: {len(results)} (fold, seed) pairs; all {topology.size} with whole "
              f"models {rows[0]['all_whole']:.3f}; kept in {given.out}")


if __name__ == "__main__":
    main()
