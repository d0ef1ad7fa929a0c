"""What a run will cost each site, known before any recording is read: bytes, hours, memory, and what neighbours learn.

A few rounds are simulated on made-up clips, by the same algorithm and the same messages as between real peers; the
other rounds cost what the last ones did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pser.base import seeding
from p2pser.base.registries import FAMILIES
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.clip_features import shape
from p2pser.features.federation import Examples, Federation
from p2pser.gossip.mode import by_mode, what_neighbours_learn
from p2pser.gossip.registry import create
from p2pser.graph.exposure import ALL_OBSERVERS_UP_TO, Exposure, exposures
from p2pser.graph.sparse import Array
from p2pser.graph.spec import Topology
from p2pser.run.fitting import fitting
from p2pser.run.participant import size_of
from p2pser.simulation.clock import Clock
from p2pser.simulation.engine import simulate
from p2pser.simulation.memory import of_a_peer
from p2pser.simulation.scenario import Scenario

FEWEST_ROUNDS, MOST_ROUNDS = 3, 12
"""Rounds that are simulated: at least the first ones, which may differ, and a period of the schedule."""
LOCAL_STEPS = 2000
"""As many rounds are simulated as have so many local steps of all peers: a few seconds."""
EMOTIONS = ("anger", "boredom", "calm", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


@dataclass(frozen=True)
class Phases:
    """A figure of each peer in the set-up, in all rounds and in the end, each (N,)."""

    set_up: Array
    rounds: Array
    end: Array

    @property
    def whole(self) -> Array:
        """The sum of the phases."""
        return self.set_up + self.rounds + self.end

    @classmethod
    def of(cls, marks: Sequence[Array], rounds: int, period: int) -> Phases:
        """Return the phases of what has been counted after the set-up, after each simulated round and at the end."""
        begin, *after, end = marks
        last = after[-1] if after else begin
        more = (rounds - len(after)) / period * (last - after[-1 - period]) if len(after) < rounds else 0 * last
        return cls(begin, last - begin + more, end - last)


@dataclass(frozen=True)
class Costs:
    """What a run costs. ``clips`` are of each peer; ``sent`` and ``received`` in bytes; ``memory`` in bytes (N,)."""

    config: Config
    topology: Topology
    clips: tuple[int, ...]
    parameters: int
    simulated_rounds: int
    seconds: Phases
    sent: Phases
    received: Phases
    payload: Array
    memory: Array
    learns: Mapping[int, Exposure]
    """By observer: what it can solve for; of many peers only the one with the most neighbours."""
    privacy: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        config, topology = self.config, self.topology
        worst = max(self.learns.values(), key=lambda exposure: exposure.peers)
        return {
            "peers": topology.size, "topology": topology.name, "algorithm": config.gossip.algorithm,
            "rounds": config.training.rounds, "local_steps": config.training.local_steps,
            "parameters": self.parameters, "features": config.features.kind, "model": config.model.name,
            "simulated_rounds": self.simulated_rounds,
            "total": {
                "bytes_sent": int(self.sent.whole.sum()),
                "bytes_sent_per_peer": {"mean": float(self.sent.whole.mean()), "most": int(self.sent.whole.max())},
                "hours": {name: float(getattr(self.seconds, name).max()) / 3600
                          for name in ("set_up", "rounds", "end", "whole")},
                "memory_bytes": int(self.memory.sum()),
            },
            "exposure": {"privacy": self.privacy, "solves_for": worst.peers, "observer": worst.observer,
                         "exchanges": worst.exchanges},
            "each": [self._peer(i) for i in range(topology.size)],
        }

    def _peer(self, i: int) -> dict[str, Any]:
        return {
            "peer": i, "clips": self.clips[i], "neighbours": len(self.topology.neighbours(i)),
            "bytes_sent": int(self.sent.whole[i]), "bytes_received": int(self.received.whole[i]),
            "payload_sent": int(self.payload[i]),
            "hours": {name: float(getattr(self.seconds, name)[i]) / 3600
                      for name in ("set_up", "rounds", "end", "whole")},
            "memory_bytes": int(self.memory[i]),
            "solves_for": self.learns[i].peers if i in self.learns else None,
        }


def costs(config: Config, topology: Topology, clips: Sequence[int], clock: Clock, emotions: int = 7) -> Costs:
    """Return what a run costs.

    Parameters
    ----------
    config, topology : the run's.
    clips : of each peer; a hub's are not counted.
    clock : what local steps and messages cost.
    emotions : how many are learned, where ``corpus.labels`` does not fix them.

    Raises ConfigError or TopologyError where the algorithm or the model does not fit.
    """
    config, instead = by_mode(config, topology)
    if config.features.normalise == "auto":
        config = config.with_settings(["features.normalise=speaker"])
    fitting(config, topology)
    rounds, period = config.training.rounds, _period(topology)
    # The more rounds, the closer are the models from which the final consensus starts.
    affordable = LOCAL_STEPS // (topology.size * config.training.local_steps)
    played = rounds if FAMILIES[config.model.name].boosts else min(rounds, max(FEWEST_ROUNDS, period + 1, affordable))
    federation = made_up(config, topology, clips, emotions)
    algorithm = create(config.gossip.algorithm, config.gossip.parameters, config, topology)
    run = simulate(config.with_settings([f"training.rounds={played}"]), topology, federation,
                   Scenario(clock=clock), each_peer=False)

    def phases(name: str) -> Phases:
        return Phases.of([np.asarray(getattr(mark, name), dtype=np.float64) for mark in run.marks], rounds, period)

    parameters = size_of(config, federation, topology.size)
    return Costs(config, topology, tuple(len(federation.train[i]) for i in range(topology.size)), parameters, played,
                 phases("now"), phases("sent"), phases("received"), phases("payload_sent").whole,
                 of_a_peer(config, topology, parameters),
                 {i: Exposure(i, 0, 0) for i in _observers(topology)} if algorithm.sums else exposures(topology),
                 what_neighbours_learn(algorithm, topology, instead))


def _observers(topology: Topology) -> range:
    return range(topology.size if topology.size <= ALL_OBSERVERS_UP_TO else 1)


def _period(topology: Topology) -> int:
    """Return after how many rounds the messages repeat, as far as rounds are simulated."""
    return 1 if topology.schedule is None else min(topology.schedule.period or MOST_ROUNDS, MOST_ROUNDS)


def made_up(config: Config, topology: Topology, clips: Sequence[int], emotions: int) -> Federation:
    """Return a federation of drawn features in place of recordings, with the shapes of the run's."""
    labels, form = config.corpus.labels or EMOTIONS[:emotions], shape(config.features)
    draw = seeding.generator(config.seed, "made-up clips")
    centres = draw.normal(size=(len(labels), *form))  # emotions that can be learned, as recordings' can
    dimensions = config.training.task != "classes"

    def examples(peer: int) -> Examples:
        count = 0 if peer == topology.hub else clips[peer]
        emotion = draw.integers(0, len(labels), count)
        features = (centres[emotion] + draw.normal(size=(count, *form))).astype(np.float32)
        return Examples(features, emotion, (f"speaker {peer}",) * count,
                        tuple(f"{peer}/{k}" for k in range(count)),
                        dimensions=draw.uniform(-1, 1, (count, 3)).astype(np.float32) if dimensions else None)

    nothing = Corpus("made-up", "1", (), (), default_split="none")
    return Federation(tuple(labels), {i: examples(i) for i in range(topology.size)}, None,
                      Split("none", (), (), (), True), nothing, config.features.normalise, [], 0,
                      ((),) * topology.size)
