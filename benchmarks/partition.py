"""A network of real peers that is cut in two for minutes and healed, and a peer that is stopped for a minute.

No peer is restarted. Printed: which peers agreed at the end, the difference of their models, the time until the network
was together again, and drift. The picture shows the consensus distance over time, of all peers and of each part, from
the sketches of their rows that the peers send to their launcher after each round.

    python benchmarks/partition.py [--topology random-regular] [--peers 12] [--part 5] [--apart 180] [--stopped 60]
        [--quiet 60] [--seed 0] [--picture partition.png] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "network" / "real"))

import networkx as nx
import numpy as np
from real_peers import Real, furthest, write_tones
from relays import Relays
from trials import Trial, between

from p2pser.features.federation import federate
from p2pser.graph.spec import Topology, load
from p2pser.peer.sketch import consensus_distance

PACE = 1.0
"""Seconds of local work in a round at least."""
EVERY = 0.5
"""Seconds between two points of the picture."""
TOGETHER = 2.0
"""The network is together again when its consensus distance is at most this multiple of its median before the fault."""

EXPLAINS = ("dead", "apart", "rejoined", "bye", "paused", "struck", "banned", "refused", "up")
"""The events that are printed where not all peers end with exit code 0."""


@dataclass
class Course:
    """The consensus distance over time. faults : (what, began, ended) [s]."""

    parts: dict[str, tuple[int, ...]]
    seconds: list[float] = field(default_factory=list)
    distances: dict[str, list[float]] = field(default_factory=dict)
    faults: list[tuple[str, float, float]] = field(default_factory=list)
    rounds: dict[int, int] = field(default_factory=dict)
    """The round of each peer when the cut was healed."""
    began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    def watch(self, trial: Trial) -> None:
        """Receive the peers' records, and add a point where one is due."""
        trial.hear(0.1)
        if len(trial.sketches) < trial.topology.size or (self.seconds and self.now < self.seconds[-1] + EVERY):
            return
        self.seconds.append(self.now)
        for name, peers in self.parts.items():
            self.distances.setdefault(name, []).append(consensus_distance([trial.sketches[i] for i in peers]))

    def wait(self, trial: Trial, seconds: float) -> None:
        """Watch for a time."""
        until = self.now + seconds
        while self.now < until:
            self.watch(trial)

    @contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """The time of a fault."""
        began = self.now
        yield
        self.faults.append((what, began, self.now))

    def healing(self) -> dict[str, float | None]:
        """Return how long after each fault the network was together again [s]; None where it never was."""
        name = next(iter(self.parts))
        times, distances, durations = np.array(self.seconds), np.array(self.distances[name]), {}
        usual = float(np.median(distances[times < self.faults[0][1]][2:]))
        for at, (what, _, ended) in enumerate(self.faults):
            until = self.faults[at + 1][1] if at + 1 < len(self.faults) else np.inf
            near = times[(times >= ended) & (times < until) & (distances <= TOGETHER * usual)]
            durations[what] = float(near[0] - ended) if len(near) else None
        return durations


def whole_parts(topology: Topology, part: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two connected parts of the peers, the second of ``part`` peers."""
    for root in topology.graph:
        small = list(nx.bfs_tree(topology.graph, root))[:part]
        large = sorted(set(topology.graph) - set(small))
        if nx.is_connected(topology.graph.subgraph(large)):
            return tuple(large), tuple(sorted(small))
    raise SystemExit(f"no {part} of the peers of {topology.name} can be cut off so that both parts stay connected")


def play(options: argparse.Namespace, real: Real, topology: Topology) -> tuple[Course, dict[str, Any]]:
    """Run the peers through both faults; return the course of the distance, and the figures."""
    large, small = whole_parts(topology, options.part)
    quiet = 3 if options.stopped else 2
    rounds = round((quiet * options.quiet + options.apart + options.stopped) / PACE)
    config = real.config("out", f"corpus.split=speakers:s{topology.size}", "training.local_steps=1",
                         f"training.rounds={rounds}", *options.set, peers=topology.size)
    federate(config, topology.size, workers=1)  # the features are made once, not by each peer
    course = Course({f"all {topology.size} peers": tuple(range(topology.size)), f"the {len(large)}": large,
                     f"the {len(small)}": small})
    with Relays(topology) as relays, Trial(config, topology, relays, PACE) as trial:
        trial.start()
        trial.until_round(2, 180)
        course.began = time.monotonic()
        course.wait(trial, options.quiet)
        with course.fault(f"cut into {len(large)} and {len(small)}"):
            relays.set(between(topology, small), cut=True)
            course.wait(trial, options.apart)
            course.rounds = dict(sorted(trial.rounds.items()))
            relays.heal()
        course.wait(trial, options.quiet)
        if options.stopped:
            with course.fault(f"peer {large[0]} stopped"):
                trial.kill(large[0], number=signal.SIGSTOP)
                course.wait(trial, options.stopped)
                trial.kill(large[0], number=signal.SIGCONT)
        until = course.now + 10 * options.quiet + 120
        while len(trial.gone) < topology.size and course.now < until:
            course.watch(trial)
        if set(trial.gone.values()) != {0}:
            for record in trial.story.records:
                if record.get("kind") in EXPLAINS:
                    print(f"{record['heard'] - course.began:8.1f} s, peer {record['reporter']}: {record['kind']} "
                          f"{record.get('peer')} {record.get('reason', '')}", file=sys.stderr)
        summaries = trial.story.summaries
        figures = {
            "topology": topology.name, "peers": topology.size, "rounds": rounds, "exit_codes": dict(trial.gone),
            "agreed": {i: summary["agreed"] for i, summary in sorted(summaries.items())},
            "difference": furthest(real.rows(config, sorted(summaries))) if len(summaries) > 1 else None,
            "together_after_s": course.healing(),
            "drift": max((summary["drift"] for summary in summaries.values()), default=None),
            "dead": {what: sum(began <= record["heard"] - course.began < ended + options.quiet for record in
                               trial.told("dead")) for what, began, ended in course.faults},
            "rounds_when_healed": course.rounds}
    return course, figures


def draw(course: Course, path: Path) -> None:
    """Draw the consensus distance over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, distances), colour, width in zip(course.distances.items(), ("black", "#1f77b4", "#d95f02"), (1.8, 1, 1)):
        axes.plot(course.seconds, distances, label=name, color=colour, linewidth=width)
    for what, began, ended in course.faults:
        axes.axvspan(began, ended, color="0.9")
        axes.text((began + ended) / 2, 1.01, what, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    axes.set(xlabel="time [s]", ylabel="consensus distance", yscale="log", xlim=(0, course.seconds[-1]))
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="random-regular", help="default random-regular")
    parser.add_argument("--peers", type=int, default=12, help="default 12")
    parser.add_argument("--part", type=int, default=5, help="peers that are cut off (default 5)")
    parser.add_argument("--apart", type=float, default=180.0, help="seconds of the cut (default 180)")
    parser.add_argument("--stopped", type=float, default=60.0, help="seconds of the stop; 0: none (default 60)")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds before and after each (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the topology (default 0)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the run")
    parser.add_argument("--picture", type=Path, help="where to draw the distance")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    topology = load(options.topology, peers=options.peers, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="p2pser-partition-") as folder:
        os.environ["P2PSER_CACHE"] = os.environ["XDG_CONFIG_HOME"] = str(Path(folder) / "home")
        real = Real(write_tones(Path(folder) / "tones", topology.size + 1), Path(folder))
        course, figures = play(options, real, topology)
    if options.picture is not None:
        draw(course, options.picture)
    for name, value in figures.items() if not options.json else ():
        print(f"  {name:18} {value}")
    if options.json:
        print(json.dumps({**figures, "seconds": course.seconds, "distances": course.distances,
                          "faults": course.faults}))
    one_model = figures["difference"] is not None and figures["difference"] <= 1e-6
    return 0 if one_model and set(figures["exit_codes"].values()) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
