"""The gain and the cost of a local head, a local first layer and fine-tuning.

Each peer's model on held-out clips of the peer's own speakers (a quarter of each speaker's and emotion's, never trained
on) and on the fold's unseen speakers; simulated; mean over peers, folds and seeds, differences with 95 % intervals over
(fold, seed) pairs. Finished pairs are kept in --out.

    python benchmarks/personal.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/personal]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import pairs
import personal_models as personal

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph import spec


def main() -> None:
    parser = pairs.options(__doc__, "personal")
    parser.add_argument("--topology", default="ring")
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50, help="of fine-tuning")
    given = parser.parse_args()
    base = pairs.settings(given, f"training.fine_tune={given.steps}", "peer.evaluate_every=1000000")
    topology = spec.load(given.topology, given.peers)

    def measure(config: Config) -> Any:
        return personal.measure(config, topology, federate(config, topology.size, hub=topology.hub), lambda what: print(
            f"fold {config.corpus.fold}, seed {config.seed}: {what}", file=sys.stderr))

    results: list[dict[str, Any]] = [
        row for config in pairs.each(base, given)
        for row in pairs.kept(given.out, config, partial(measure, config), topology=topology.digest())]
    rows = personal.tabulate(results)
    if given.json:
        print(json.dumps(rows))
    else:
        print(personal.table(rows), end="")
        count = len({(result["fold"], result["seed"]) for result in results})
        print(f"{given.corpus}, {base.model.name}, {topology.size} peers on {topology.name}: {count} (fold, seed) "
              f"pairs; {given.steps} steps of fine-tuning; kept in {given.out}")


if __name__ == "__main__":
    main()
