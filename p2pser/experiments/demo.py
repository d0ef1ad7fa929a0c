"""The demo: real peers on this machine, some killed on request, beside local-only and pooled training."""

from __future__ import annotations

import math
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2pser.base.atomic import write_json
from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.config import Config
from p2pser.evaluation.outputs import in_short
from p2pser.experiments.differences import mean_known
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.models.widths import widths
from p2pser.peer.launch import LocalPeers, among_own_peers, free_base_port
from p2pser.peer.sketch import consensus_distance

BASELINES = ("pooled", "local-only")

Watch = Callable[[Mapping[str, Any]], None]
"""Called with every record of every peer, for a live table."""


@dataclass(frozen=True)
class Kill:
    """Kill ``peer`` (SIGKILL) when it enters ``round``."""

    peer: int
    round: int

    @classmethod
    def parse(cls, text: str, topology: Topology, rounds: int) -> Kill:
        """Return the kill written ``PEER@ROUND``. Raises ConfigError where the run has no such peer or round."""
        match = re.fullmatch(r"(\d+)@(\d+)", text)
        if match is None:
            raise ConfigError(f"--kill {text!r}: write it as PEER@ROUND, such as 3@10")
        peer, round = int(match[1]), int(match[2])
        if peer >= topology.size or not 1 <= round < rounds:
            raise ConfigError(f"--kill {text}: the peers are 0 to {topology.size - 1} and the rounds 1 to {rounds - 1}")
        return cls(peer, round)


class Score(NamedTuple):
    """The UAR of a baseline on the held-out speakers, and its CCC of each dimension; None where not learned."""

    uar: float | None
    ccc: dict[str, float | None] | None


KEPT = 100
"""Rounds whose sketches are kept: a peer that lags further behind is not in their consensus distance."""


@dataclass
class Course:
    """The records of all peers, collected."""

    uar: dict[int, dict[int, float]] = field(default_factory=dict)
    """UAR on the held-out speakers by round and peer."""
    ccc: dict[int, dict[int, dict[str, float | None]]] = field(default_factory=dict)
    """CCC of each dimension, likewise."""
    seconds: dict[int, dict[int, float]] = field(default_factory=dict)
    """Duration [s] by round and peer."""
    sketches: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """Of the last KEPT rounds, by round and peer."""
    earlier: dict[int, float | None] = field(default_factory=dict)
    """The consensus distance after each round before."""
    final_sketches: dict[int, dict[int, bytes]] = field(default_factory=dict)
    summaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    exit_codes: dict[int, int] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record of ``LocalPeers.records``."""
        peer, kind = record["peer"], record.get("kind", "metrics")
        if kind == "metrics":
            self.seconds.setdefault(record["round"], {})[peer] = record["seconds"]
            if record.get("uar") is not None:
                self.uar.setdefault(record["round"], {})[peer] = record["uar"]
            if record.get("ccc") is not None:
                self.ccc.setdefault(record["round"], {})[peer] = record["ccc"]
        elif kind == "sketch" and "round" in record:
            self._sketch(record["round"], peer, record["sketch"])
        elif kind == "sketch":
            self.final_sketches.setdefault(record["exchange"], {})[peer] = record["sketch"]
        elif kind == "ended" and record["finished"]:
            self.summaries[peer] = record["summary"]
        elif kind == "failed":
            self.failures[peer] = record["reason"]
        elif kind == "gone":
            self.exit_codes[peer] = record["exit_code"]

    def _sketch(self, round: int, peer: int, sketch: bytes) -> None:
        """Keep a sketch until all peers are rounds beyond it: those of ten thousand rounds would take 2 KB each."""
        if round in self.earlier:
            return
        self.sketches.setdefault(round, {})[peer] = sketch
        while len(self.sketches) > KEPT:
            first = min(self.sketches)
            self.earlier[first] = _spread(self.sketches.pop(first))

    def curve(self, of: Callable[[Sequence[float]], float], rounds: int) -> list[float | None]:
        """Return ``of`` the peers' UAR after each round, or of their mean CCC over the dimensions where they learn no
        emotions; None where no peer was evaluated.
        """
        rated = {r: {i: in_short(ccc) or 0.0 for i, ccc in by_peer.items()} for r, by_peer in self.ccc.items()}
        scores = self.uar or rated
        return [of(list(scores[r].values())) if r in scores else None for r in range(rounds)]

    def distances(self, rounds: int) -> list[float | None]:
        """Return the consensus distance after each round."""
        return [self.earlier[r] if r in self.earlier else _spread(self.sketches.get(r)) for r in range(rounds)]

    def final_distances(self) -> list[float | None]:
        """Return the consensus distance before each exchange of the final consensus in which all peers took part."""
        peers = max((len(sketches) for sketches in self.final_sketches.values()), default=0)
        whole = [k for k in sorted(self.final_sketches) if len(self.final_sketches[k]) == peers]
        return [_spread(self.final_sketches[k]) for k in whole]


def _spread(sketches: Mapping[int, bytes] | None) -> float | None:
    return consensus_distance([sketches[i] for i in sorted(sketches)]) if sketches else None


def run(config: Config, topology: Topology, federation: Federation, *, kills: Sequence[Kill] = (),
        watch: Watch = lambda record: None, say: Callable[[str], None] = lambda sentence: None) -> dict[str, Any]:
    """Run the demo and write ``OUT/NAME/``: a folder for each peer, ``run.png`` and ``result.json``. Return the
    document that ``p2pser demo --json`` prints.

    Parameters
    ----------
    config, topology : the run's; the peers listen on free ports of this machine.
    federation : all peers' clips. Each peer is given its own, and does not read the corpus again.
    kills : the peers to kill, and when.
    watch : called with every record of every peer.
    say : called with a sentence before a longer step.

    Raises P2PSERError where no peer finishes.
    """
    port = free_base_port(topology.size, config.network.host)
    config = among_own_peers(config).with_settings([f"network.base_port={port}"])
    out = config.peer.out / config.name
    course, started = Course(), time.monotonic()
    due = {kill.peer: kill.round for kill in kills}
    with LocalPeers(config, topology, fresh=True, federation=federation) as peers:
        for record in peers.records():
            course.add(record)
            watch(record)
            peer = record["peer"]
            if "round" in record and "kind" not in record and record["round"] + 1 == due.get(peer):
                peers.kill(peer)
    wall = time.monotonic() - started
    if not course.summaries:
        reasons = "; ".join(dict.fromkeys(course.failures.values())) or "they were interrupted"
        wrong_call = set(course.exit_codes.values()) == {ConfigError.exit_code}
        raise (ConfigError if wrong_call else P2PSERError)(f"no peer finished: {reasons}; their events are in {out}")
    say("training the baselines, pooled and local-only, on the same number of clips")
    baselines = _baselines(config, federation) if federation.test is not None else dict.fromkeys(BASELINES)
    result = _result(config, topology, course, baselines, wall, out)
    picture = out / "run.png"
    clips = {i: len(examples) for i, examples in federation.train.items()}
    _picture(picture, config, topology, course, baselines, result["peers_dead"], clips)
    result["picture"] = str(picture)
    write_json(out / "result.json", result)
    return result


def _baselines(config: Config, federation: Federation) -> dict[str, Score | None]:
    """Train both baselines side by side, in processes of their own."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(len(BASELINES), mp_context=context) as pool:
        futures = {name: pool.submit(_baseline, name, config, federation) for name in BASELINES}
        return {name: future.result() for name, future in futures.items()}


def _baseline(name: str, config: Config, federation: Federation) -> Score:
    import torch

    from p2pser.experiments import baselines

    torch.set_num_threads(1)
    train = {"pooled": baselines.pooled, "local-only": baselines.local_only}[name]
    baseline = train(config, federation)
    return Score(baseline.uar, baseline.ccc)


def _result(config: Config, topology: Topology, course: Course, baselines: Mapping[str, Score | None], wall: float,
            out: Path) -> dict[str, Any]:
    from p2pser.evaluation.outputs import ccc_of_several

    ended = [course.summaries[i] for i in sorted(course.summaries)]
    last = course.uar.get(config.training.rounds - 1, {})
    survivors = [last[i] for i in sorted(course.summaries) if i in last]
    rated = course.ccc.get(config.training.rounds - 1, {})
    ccc_mean, ccc_worst = ccc_of_several([rated[i] for i in sorted(course.summaries) if i in rated])
    ccc_agreed = ccc_of_several([summary.get("ccc") for summary in ended])[0]
    unfinished = set(range(topology.size)) - set(course.summaries)
    agreed = [summary["agreed"] for summary in ended]
    dead = sorted(unfinished.union(*(set(summary["peers_dead"]) - set(course.summaries) for summary in ended)))
    took_part = min(topology.size - len(unfinished), *(summary["took_part"] for summary in ended))
    return {
        "peers": topology.size,
        "rounds": config.training.rounds,
        "uar": {
            "consensus": mean_known(summary["uar"] for summary in ended),
            "mean_peer": mean_known(survivors),
            "worst_peer": min(survivors) if survivors else None,
            **({"fine_tuned": mean_known(summary["uar_personal"] for summary in ended)}
               if config.training.fine_tune else {}),
            **{name.replace("-", "_"): score and score.uar for name, score in baselines.items()},
        },
        "ccc": None if ccc_agreed is None else {
            "consensus": ccc_agreed, "mean_peer": ccc_mean, "worst_peer": ccc_worst,
            **{name.replace("-", "_"): score and score.ccc for name, score in baselines.items()},
        },
        "uar_by_width": _by_width(config, topology, ended),
        "consensus_distance": _distance(config, ended),
        "bytes_per_peer": round(float(np.mean([summary["bytes_sent"] for summary in ended]))),
        "messages_late": sum(summary["messages_late"] for summary in ended),
        **calibrated(ended),
        "took_part": took_part,
        "agreed": None if None in agreed else min(took_part, *agreed),
        "privacy": max((summary["privacy"] for summary in ended if "privacy" in summary),
                       key=lambda report: report["epsilon_neighbour"] or math.inf, default=None),
        "peers_dead": dead,
        "wall_s": wall,
        "out": str(out),
        "bytes_per_peer_consensus": round(float(np.mean([summary["consensus_bytes"] for summary in ended]))),
        "consensus_exchanges": max(summary["consensus_exchanges"] for summary in ended),
        "left_out": [[summary["peer"], *missed] for summary in ended for missed in summary["left_out"]
                     if missed[1] not in dead],
        "drift": sum(summary["drift"] for summary in ended),
        "longest_round_s": max((max(by_peer.values()) for by_peer in course.seconds.values()), default=None),
        "failures": {str(i): reason for i, reason in sorted(course.failures.items())},
    }


def calibrated(ended: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the calibration of the peers' model (``Calibrated.to_dict``), of a peer that has one if any does."""
    known = sorted(ended, key=lambda summary: summary["temperature"] is None)[0]
    return {key: known[key] for key in ("calibration", "temperature", "heard", "sets")}


def _by_width(config: Config, topology: Topology, ended: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The UAR of each size's consensus model, where there are several sizes."""
    sizes = widths(config.model, topology.size)
    uars: dict[float, list[float]] = {}
    for summary in ended:
        if summary["uar"] is not None:
            uars.setdefault(sizes[summary["peer"]], []).append(summary["uar"])
    return {f"{width:g}": float(np.mean(uars[width])) for width in sorted(uars)} if len(set(sizes)) > 1 else {}


def _distance(config: Config, ended: Sequence[Mapping[str, Any]]) -> float:
    """The consensus distance of the peers' models; where they keep parameters to themselves, a bound for the others."""
    if config.gossip.share != ("all",):
        distances = [summary["consensus_distance"] for summary in ended]
        return max(math.nan if distance is None else distance for distance in distances)
    return model_distance([Path(summary["model"]) for summary in ended])


def model_distance(models: Sequence[Path]) -> float:
    """Return sqrt(mean_i ||x_i - mean||^2) / ||mean|| over the parameters of model directories; of several sizes the
    largest.
    """
    by_size: dict[int, list[np.ndarray]] = {}
    for path in models:
        row = np.concatenate([*_parameters(path)])
        by_size.setdefault(len(row), []).append(row)
    distances = []
    for rows in map(np.stack, by_size.values()):
        mean = rows.mean(axis=0)
        distances.append(float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean()) / np.linalg.norm(mean)))
    return max(distances)


def _parameters(path: Path) -> Iterator[np.ndarray]:
    from safetensors.numpy import load_file

    from p2pser.models.directory import WEIGHTS

    for _, values in sorted(load_file(path / WEIGHTS).items()):
        yield values.astype(np.float64).ravel()


def _picture(path: Path, config: Config, topology: Topology, course: Course,
             baselines: Mapping[str, Score | None], dead: Sequence[int], clips: Mapping[int, int]) -> None:
    from p2pser.experiments.report.runs import MEAN_CCC, UAR, run_picture
    from p2pser.gossip.agreement.consensus import living_slem
    from p2pser.gossip.agreement.flood import edges_of
    from p2pser.run.setup import counts_for

    rounds = config.training.rounds
    alive = next(i for i in range(topology.size) if i not in dead)
    run_picture(
        path, topology=topology, dead=dead, rounds=rounds,
        uar={"mean peer": course.curve(lambda values: float(np.mean(values)), rounds),
             "worst peer": course.curve(min, rounds)},
        score=MEAN_CCC if course.ccc and not course.uar else UAR,
        baselines={name: score and (score.uar if course.uar else in_short(score.ccc))
                   for name, score in baselines.items()},
        distance=course.distances(rounds), final_distance=course.final_distances(),
        slem=living_slem(topology, counts_for(config.gossip, topology, clips),
                         edges_of(topology.graph, dead), alive))
