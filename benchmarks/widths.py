"""Peers of different width: the gain of each width by training with all peers instead of peers of its width only.

Simulated: 8 peers on a ring, 4 of a quarter, 2 of half and 2 of the whole width, share the training speakers. UAR (a)
is that of each width's model on the held-out speakers; differences are paired means over seeds, with 95 % intervals by
resampling of speakers. Finished (fold, seed) pairs are kept in --out. The default corpus is the synthetic one.

    python benchmarks/widths.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/widths] [--json]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import pairs
import peer_widths as widths

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph import spec


def main() -> None:
    parser = pairs.options(__doc__, "widths")
    parser.add_argument("--topology", default="ring")
    parser.add_argument("--widths", default="0.25*4,0.5*2,1*2")
    given = parser.parse_args()
    base = pairs.settings(given, f"model.width={given.widths}", "peer.evaluate_every=1000000")
    topology = spec.load(given.topology, len(base.model.width))

    def measure(config: Config) -> Any:
        return widths.measure(config, topology, federate(config, topology.size, hub=topology.hub), lambda what: print(
            f"fold {config.corpus.fold}, seed {config.seed}: {what}", file=sys.stderr))

    results: list[dict[str, Any]] = [
        pairs.kept(given.out, config, partial(measure, config), topology=topology.digest())
        for config in pairs.each(base, given)]
    rows = widths.tabulate(results)
    if given.json:
        print(json.dumps(rows))
    else:
        print(widths.table(rows), end="")
        print(f"{given.corpus}, {base.model.name}: {len(results)} (fold, seed) pairs; all {topology.size} with whole "
              f"models {rows[0]['all_whole']:.3f}; kept in {given.out}")


if __name__ == "__main__":
    main()
