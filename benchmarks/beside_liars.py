"""Real peers beside a hostile peer: the UAR of the honest peers, and their UAR in a run without the hostile one.

Peers (random regular graph of degree 4, the synthetic corpus) run as processes; the last peer is hostile from round 5
on (``tests/network/real/liars.py``). In the run for comparison that peer never starts. A hostile peer that is banned
costs its own clips only; plausible but poisoned rows (marked *) are averaged by plain gossip: robust rules bound their
effect (``benchmarks/hostile.py``).

    python benchmarks/beside_liars.py [--lies wrong-size,nan,…] [--peers 8] [--seeds 3] [--algorithm dfedavg]
        [--set FIELD=VALUE] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "network" / "real"))

import numpy as np
import psutil
from liars import ALL, Liar
from real_peers import Record
from relays import Relays
from trials import Trial

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph.spec import parse
from p2pser.peer.launch import free_base_port

DEGREE = 4
SINCE = 5
LONGEST = 1200.0
"""Seconds of a run on a busy machine."""
ABSENT = "absent"
POISONED = ("equivocate", "replay", "one-number")
DEFAULT = ("wrong-size", "nan", "huge", "bytes-for-a-row", "garbage", "bomb", "future", "far-ahead", "at-the-end",
           "set-up", "everybody-dead", "in-turn", "silent", "pings", "replay", "equivocate")
QUICK = ("network.dead_after=6", "network.round_timeout=6", "network.serve_after=0.5")


def play(config: Config, peers: int, lie: str) -> dict[str, Any]:
    """Run the peers with or without the hostile one; return the honest peers' UAR, and which peers named it."""
    spec = {"graph": {"kind": "random-regular", "peers": peers, "degree": DEGREE}}
    topology, honest, liar = parse(spec, "the benchmark"), list(range(peers - 1)), peers - 1
    memory = dict.fromkeys(honest, 0)

    def heard(record: Record) -> None:
        i = record["reporter"]
        if i in memory and "kind" not in record and i not in trial.gone:
            memory[i] = max(memory[i], psutil.Process(trial.peers.pid(i)).memory_info().rss >> 20)

    with Relays(topology) as relays, Trial(config, topology, relays) as trial:
        trial.heard = heard
        if lie != ABSENT:
            trial.changes[liar] = Liar(lie, SINCE)
        trial.start(*(honest if lie == ABSENT else range(peers)))
        codes = trial.until_end(LONGEST, honest)
        named = {record["reporter"] for kind in ("struck", "banned", "refused", "dead", "trouble", "apart")
                 for record in trial.told(kind, peer=liar)}
        uars = [trial.story.summaries[i]["uar"] for i in honest]
    return {"uar": float(np.mean(uars)), "codes": sorted(set(codes.values())), "memory_mib": max(memory.values()),
            "named_by": sorted(named - {liar}), "neighbours": len(topology.neighbours(liar))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lies", type=lambda text: text.split(","), default=list(DEFAULT), help=f"of {', '.join(ALL)}")
    parser.add_argument("--peers", type=int, default=8, help="number of peers, the hostile one included (default 8)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--algorithm", default="dfedavg", help="default dfedavg")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the runs")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        for lie in (ABSENT, *options.lies):
            with tempfile.TemporaryDirectory(prefix="p2pser-liars-") as folder:
                os.environ["XDG_CONFIG_HOME"] = folder
                timeout = ["network.start_timeout=10"] if lie == ABSENT else []
                config = Config().with_settings([
                    f"seed={seed}", f"corpus.fold={seed}", f"gossip.algorithm={options.algorithm}",
                    "training.rounds=30", "training.local_steps=10", "peer.evaluate_every=1000",
                    f"peer.out={folder}/out", f"network.base_port={free_base_port(options.peers)}", *QUICK, *timeout,
                    *options.set])
                federate(config, options.peers, workers=1)  # the features are made once, not by each peer
                results.setdefault(lie, []).append(play(config, options.peers, lie))
                print(f"seed {seed}, {lie}: {results[lie][-1]}", file=sys.stderr)
    if options.json:
        print(json.dumps(results))
        return
    print("| hostile peer | honest UAR | less than without it [points] | named by neighbours | exit codes | memory |")
    print("|---|---|---|---|---|---|")
    for lie, runs in results.items():
        less = np.array([100 * (alone["uar"] - run["uar"]) for alone, run in zip(results[ABSENT], runs)])
        star = " *" if lie in POISONED else ""
        named = f"{min(len(run['named_by']) for run in runs)} of {runs[0]['neighbours']}"
        codes = ", ".join(map(str, sorted({code for run in runs for code in run["codes"]})))
        print(f"| {lie}{star} | {np.mean([run['uar'] for run in runs]):.3f} | {less.mean():+.1f} ({less.min():+.1f} to "
              f"{less.max():+.1f}) | {named} | {codes} | {max(run['memory_mib'] for run in runs)} MiB |")


if __name__ == "__main__":
    main()
