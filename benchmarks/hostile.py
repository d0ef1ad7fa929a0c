"""Hostile peers: the UAR that honest peers keep under each attack, by plain averaging and by each robust rule.

Simulated: 3 of 16 peers on a random regular graph of degree 6 send rows by the attack; they are placed so that no
honest peer has more than 2 hostile neighbours, and robust rules have this number as their setting. The UAR is that of
the honest peers' own models on the held-out speakers, the mean over peers, folds and seeds. Finished (fold, seed) pairs
are kept in --out.

    python benchmarks/hostile.py --corpus ravdess --data FOLDER [--folds all] [--seeds 3] [--out runs/hostile] [--json]
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import hostile_peers as hostile
import numpy as np
import pairs

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph import spec

DEGREE = 6


def pair(config: Config, peers: int, count: int, most: int) -> list[dict[str, Any]]:
    """Return the outcomes of one (fold, seed) as plain data."""
    topology = _topology(peers)
    chosen = hostile.place(topology.graph, count, most, config.seed)
    return [asdict(outcome) for outcome in hostile.measure(
        config, topology, federate(config, peers), chosen, observe=lambda outcome: print(
            f"fold {config.corpus.fold}, seed {config.seed}: {outcome}", file=sys.stderr))]


def _topology(peers: int) -> spec.Topology:
    graph = {"kind": "random-regular", "peers": peers, "degree": DEGREE}
    return spec.parse({"name": "random-regular", "graph": graph}, "the benchmark")


def mean(several: list[list[hostile.Outcome]]) -> list[hostile.Outcome]:
    """Return the outcomes' means over (fold, seed) pairs; a run that broke down counts as a UAR of 0."""
    def over(values: list[float | None]) -> float:
        return float(np.mean([0.0 if value is None else value for value in values]))

    return [hostile.Outcome(same[0].rule, same[0].attack, over([outcome.mean for outcome in same]),
                            over([outcome.worst for outcome in same]), None) for same in zip(*several)]


def main() -> None:
    parser = pairs.options(__doc__, "hostile")
    parser.add_argument("--peers", type=int, default=16)
    parser.add_argument("--count", type=int, default=3, help="hostile peers")
    parser.add_argument("--most", type=int, default=2, help="hostile neighbours that an honest peer has at most")
    given = parser.parse_args()
    sizes = {"peers": given.peers, "count": given.count, "most": given.most}
    several = [[hostile.Outcome(**outcome) for outcome in pairs.kept(given.out, config, partial(pair, config, **sizes),
                                                                     degree=DEGREE, **sizes)]
               for config in pairs.each(pairs.settings(given), given)]
    outcomes = mean(several)
    if given.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
    else:
        print(hostile.table(outcomes), end="")
        print(f"{given.corpus}: mean UAR of honest peers over {len(several)} (fold, seed) pairs; {given.count} of "
              f"{given.peers} peers hostile, at most {given.most} neighbours of an honest one; kept in {given.out}")


if __name__ == "__main__":
    main()
