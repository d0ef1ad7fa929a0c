"""The simulated clock beside real peers over shaped links in network namespaces: predicted and measured seconds.

Each peer is a process in a namespace of its own; a token bucket gives its line a rate, a relay the latency
(shaped_links.py). Local steps take a given time (a pause), so that the machine's load has little effect. The further
cost of a round is fitted on one setting only, a ring of 4 over unshaped links. Seconds are from the end of the first
round to the end of the last, of the peer that ends last. Needs root, ip, tc and TUN devices.

    python benchmarks/predicted_time.py [--rounds 12] [--only WORD] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "network" / "real"))

from lives import Life
from real_peers import Real, write_tones
from shaped_links import Shaped, lacking

from p2pser.features.federation import federate
from p2pser.graph.spec import Topology, load
from p2pser.peer.launch import LocalPeers
from p2pser.peer.telemetry import read
from p2pser.simulation.clock import Clock
from p2pser.simulation.engine import simulate
from p2pser.simulation.links import Line, Links
from p2pser.simulation.scenario import Scenario

PACE, STEPS = 0.3, 5
"""Seconds of the local work of a round, and its local steps."""
ENDLESS = 1e9


def line(mbit: float, milliseconds: float) -> Line:
    """Return a line of so many Mbit/s upwards and such a latency; downwards it has no limit."""
    return Line(milliseconds / 1000, mbit * 125_000, ENDLESS)


@dataclass(frozen=True)
class Setting:
    """What is run: topology, peers, links, algorithm, and factors of slow peers."""

    name: str
    topology: str
    peers: int
    links: Links
    algorithm: str = "dfedavg"
    slow: dict[int, float] = field(default_factory=dict)

    def graph(self) -> Topology:
        """Return its topology; of a star peer 0 is the hub where there is a server."""
        made = load(self.topology, self.peers)
        return replace(made, hub=0) if self.algorithm == "fedavg" else made


FITTED = Setting("ring of 4, unshaped (fitted)", "ring", 4, Links(Line(0.0001, ENDLESS, ENDLESS)))
SETTINGS = (
    Setting("ring of 6, 2 Mbit/s, 50 ms", "ring", 6, Links(line(2, 50))),
    Setting("exponential of 6, 2 Mbit/s, 50 ms", "exponential", 6, Links(line(2, 50))),
    Setting("ring of 6, 8 Mbit/s, 20 ms, a peer 4 times slower", "ring", 6, Links(line(8, 20)), slow={2: 4.0}),
    Setting("ring of 6, 8 Mbit/s, 20 ms, a line of 1 Mbit/s and 80 ms", "ring", 6,
            Links(line(8, 20), {1: line(1, 80)})),
    Setting("messages during local steps (overlap), ring of 6, 2 Mbit/s, 50 ms", "ring", 6, Links(line(2, 50)),
            "overlap"),
    Setting("secure sums (secure-average), ring of 6, 2 Mbit/s, 50 ms", "ring", 6, Links(line(2, 50)),
            "secure-average"),
    Setting("a server and 5 clients (fedavg), 2 Mbit/s, 50 ms", "star", 6, Links(line(2, 50)), "fedavg"),
)


def measure(setting: Setting, real: Real, rounds: int) -> tuple[float, Any]:
    """Return the seconds of the rounds after the first between real processes, and the settings."""
    config = real.config(setting.name.replace(" ", "-").replace("/", "-"), f"gossip.algorithm={setting.algorithm}",
                         f"training.rounds={rounds}", f"training.local_steps={STEPS}", "features.normalise=speaker",
                         "peer.checkpoint_every=1000", peers=setting.peers)
    graph = setting.graph()
    with Shaped(graph, setting.links) as wires, LocalPeers(config, graph, ()) as peers:
        for i in range(setting.peers):
            peers.start(i, work=Life(PACE * setting.slow.get(i, 1.0), wires.namespace(i)), run=wires.view(i, config))
        codes = {record["reporter"]: record["exit_code"] for record in peers.records() if record.get("kind") == "gone"}
    if set(codes.values()) != {0}:
        raise SystemExit(f"{setting.name}: peers ended with {codes}")
    folders = [real.peer_folder(config, i) for i in range(setting.peers)]
    times = [[datetime.fromisoformat(record["at"]).timestamp() for record in read(folder / "metrics.jsonl")]
             for folder in folders]
    return max(each[-1] for each in times) - max(each[0] for each in times), config


def predict(setting: Setting, config: Any, round_s: float) -> float:
    """Return the same seconds by the clock."""
    graph = setting.graph()
    clock = Clock(PACE / STEPS, setting.slow, 0.0, setting.links, round_s=round_s)
    run = simulate(config, graph, federate(config, setting.peers, hub=graph.hub, workers=1), Scenario(clock=clock),
                   exact=True, each_peer=False)
    ends = [float(mark.now.max()) for mark in run.marks[1:-1]]
    return ends[-1] - ends[0]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if why := lacking():
        print(f"left out: {why}", file=sys.stderr)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        real = Real(write_tones(Path(folder)), Path(folder))
        seconds, config = measure(FITTED, real, given.rounds)
        round_s = max(0.0, (seconds - predict(FITTED, config, 0.0)) / (given.rounds - 1))
        print(f"{FITTED.name}: {seconds:.2f} s; a round costs {round_s * 1000:.0f} ms beside its local steps",
              file=sys.stderr, flush=True)
        for setting in SETTINGS:
            if given.only not in setting.name:
                continue
            seconds, config = measure(setting, real, given.rounds)
            predicted = predict(setting, config, round_s)
            rows.append({"setting": setting.name, "predicted": predicted, "measured": seconds,
                         "ratio": predicted / seconds})
            print(f"{setting.name}: predicted {predicted:.2f} s, measured {seconds:.2f} s", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps({"round_s": round_s, "rounds": given.rounds, "settings": rows}))
        return
    print("| setting | predicted [s] | measured [s] | ratio |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['setting']} | {row['predicted']:.2f} | {row['measured']:.2f} | {row['ratio']:.2f} |")
    print(f"{given.rounds - 1} rounds; beside local steps a round costs {round_s * 1000:.0f} ms, fitted on a ring of 4")


if __name__ == "__main__":
    main()
