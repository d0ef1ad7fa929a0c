"""How a simulation grows with its peers: seconds and memory of the set-up, a round and the end.

Each point is a separate process with one thread, in processor seconds, on made-up features (8 clips per peer, one local
step, a batch of 8). Exponents are least-squares slopes of log seconds (or megabytes) against log peers, from --above
peers up.

    python benchmarks/growth.py [--topologies ring,torus,base-2] [--peers 256,1024,4096,16384] [--hidden 84]
        [--rounds 3] [--no-end] [--limit 600] [--at-once 128] [--json]

--hidden sets D: 84 gives 10,167 parameters (32 -> 84 -> 84 -> 3).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

FEATURES, CLIPS = 32, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topologies", default="ring,torus,base-2")
    parser.add_argument("--peers", default="16,64,256,1024,4096,16384")
    parser.add_argument("--hidden", type=int, default=84)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--end", action=argparse.BooleanOptionalAction, default=True, help="the final consensus too")
    parser.add_argument("--above", type=int, default=256)
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a point is given up")
    parser.add_argument("--at-once", type=int, default=128, help="training.at_once")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measured = point(given.topologies, int(given.peers), given.hidden, given.rounds, given.end, given.at_once)
        print(json.dumps(measured))
        return
    rows = [row for name in given.topologies.split(",") for row in grown(name, given)]
    if given.json:
        print(json.dumps(rows))
        return
    print(f"{'topology':10} {'peers':>6} {'set-up s':>9} {'round s':>8} {'end s':>8} {'exchanges':>9} {'MB':>7}")
    for row in rows:
        print(f"{row['topology']:10} {row['peers']:6d} {row['setup_s']:9.2f} {row['round_s']:8.3f} "
              f"{'-' if row['end_s'] is None else format(row['end_s'], '.2f'):>8} {row['exchanges'] or '-':>9} "
              f"{row['mb']:7.0f}")
    for name in given.topologies.split(","):
        above = [row for row in rows if row["topology"] == name and row["peers"] >= given.above]
        print(f"{name}, exponents from {given.above} peers up: " + ", ".join(
            f"{what} {exponent(above, what):.2f}" for what in ("setup_s", "round_s", "end_s", "mb")))


def grown(name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the points of a topology, each measured in a process of its own."""
    rows = []
    for peers in given.peers.split(","):
        command = [sys.executable, __file__, "--one", "--topologies", name, "--peers", peers, "--hidden",
                   str(given.hidden), "--rounds", str(given.rounds), "--end" if given.end else "--no-end",
                   "--at-once", str(given.at_once)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=given.limit,
                                  env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        except subprocess.TimeoutExpired:
            print(f"{name}, {peers} peers: not done after {given.limit:g} s", file=sys.stderr)
            continue
        if done.returncode:
            print(f"{name}, {peers} peers: {done.stderr[-500:]}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    return rows


def exponent(rows: list[dict[str, Any]], what: str) -> float:
    """Return the slope of log ``what`` against log peers; NaN where fewer than two points are known."""
    points = [(math.log(row["peers"]), math.log(row[what])) for row in rows if row[what]]
    return statistics.linear_regression(*zip(*points)).slope if len(points) > 1 else math.nan


def point(name: str, peers: int, hidden: int, rounds: int, end: bool, at_once: int) -> dict[str, Any]:
    """Measure one run in this process."""
    import numpy as np
    import torch

    from p2pser.config import Config
    from p2pser.corpora.folds import Split
    from p2pser.corpora.manifest import Corpus
    from p2pser.features.federation import Examples, Federation
    from p2pser.graph import spec
    from p2pser.simulation.engine import simulate

    torch.set_num_threads(1)
    draw = np.random.default_rng(1)
    train = {i: Examples(draw.normal(size=(CLIPS, FEATURES)).astype(np.float32), draw.integers(0, 3, CLIPS),
                         (f"s{i}",) * CLIPS, tuple(f"{i}/{k}" for k in range(CLIPS))) for i in range(peers)}
    federation = Federation(("anger", "joy", "sadness"), train, None, Split("made-up", (), (), (), True),
                            Corpus("made-up", "1", (), (), default_split="none"), "none", [], 0, ((),) * peers)
    config = Config().with_settings([
        f"training.rounds={rounds}", "training.local_steps=1", "training.batch_size=8",
        f"training.at_once={at_once}", f"model.hidden={hidden},{hidden}",
        f"gossip.max_consensus_exchanges={2000 if end else 1}"])
    began, ends = time.process_time(), []
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    topology = spec.load(name, peers)
    run = simulate(config, topology, federation, observe=lambda round: ends.append(time.process_time()))
    over = time.process_time()
    each = [later - earlier for earlier, later in itertools.pairwise(ends)]
    return {"topology": name, "peers": peers, "parameters": run.schema.size,
            "setup_s": ends[0] - began - statistics.median(each), "round_s": statistics.median(each),
            "end_s": over - ends[-1] if end else None, "exchanges": run.final.exchanges if end else None,
            "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - start}


if __name__ == "__main__":
    main()
