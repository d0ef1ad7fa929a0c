"""Peers that are stopped, or killed and started again, between real processes: all end together, with one model."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from relays import Relays
from trials import Trial

from p2pser.graph.spec import load

RING = load("ring", peers=5)
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0", "peer.checkpoint_every=5")
PACE = 0.15
"""Seconds of local work in a round: the run outlasts the disturbance, however fast the processor is."""
STRICT = ("training.momentum=0",)
WAITS = 20
"""After this round a peer waits, and the others for it, until those that were killed have found the run again."""
Furthest = Callable[[torch.Tensor], float]


def until_back(trial: Trial, *peers: int) -> None:
    """Wait until peers that were started again have found the run."""
    trial.until(lambda: all(any("run is in progress" in one for one in trial.story.sentences(i)) for i in peers), 60,
                f"peers {peers} find the run")


@pytest.mark.parametrize(("name", "settings"), [("dfedavg", ()), ("gradient-tracking", STRICT)])
def test_a_peer_stopped_longer_than_dead_after_ends_with_the_others(
        real: Any, furthest: Furthest, name: str, settings: tuple[str, ...]) -> None:
    config = real.config("out", "training.rounds=100", "training.local_steps=1", f"gossip.algorithm={name}", *settings,
                         *QUICK, peers=5)
    with Relays(RING) as relays, Trial(config, RING, relays, PACE) as trial:
        trial.start()
        trial.until_round(5)
        trial.kill(2, number=signal.SIGSTOP)
        trial.until_told("dead", RING.neighbours(2), peer=2)
        trial.kill(2, number=signal.SIGCONT)
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(5), 0), str(trial.story)
    assert furthest(real.rows(config, range(5))) < 1e-6, str(trial.story)


def test_of_two_neighbours_killed_together_one_returns(real: Any, furthest: Furthest) -> None:
    ring = load("ring", peers=4)
    config = real.config("out", "training.rounds=70", "training.local_steps=1", *QUICK, peers=4)
    with Relays(ring) as relays, Trial(config, ring, relays, PACE) as trial:
        trial.held[3] = WAITS
        trial.start()
        trial.until_round(8)
        trial.kill(0, 1)
        trial.until_told("dead", [2], peer=1)
        trial.start(1)
        until_back(trial, 1)
        trial.kill(3, number=signal.SIGCONT)
        codes = trial.until_end(peers=(1, 2, 3))
    assert codes == dict.fromkeys((1, 2, 3), 3), str(trial.story)
    assert furthest(real.rows(config, (1, 2, 3))) < 1e-6, str(trial.story)


@pytest.mark.parametrize(("name", "topology", "settings"), [
    ("choco", "ring", ()), ("relay", "chain", ()), ("k-gt", "ring", STRICT)])
def test_two_neighbours_killed_together_return_together(
        real: Any, furthest: Furthest, name: str, topology: str, settings: tuple[str, ...]) -> None:
    graph = load(topology, peers=5)
    config = real.config("out", "training.rounds=70", "training.local_steps=1", f"gossip.algorithm={name}", *settings,
                         *QUICK, peers=5)
    with Relays(graph) as relays, Trial(config, graph, relays, PACE) as trial:
        trial.held[0] = WAITS
        trial.start()
        trial.until_round(8)
        trial.kill(2, 3)
        trial.until_told("dead", [1], peer=2)
        trial.start(2, 3)
        until_back(trial, 2, 3)
        trial.kill(0, number=signal.SIGCONT)
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(5), 0), str(trial.story)
    assert furthest(real.rows(config, range(5))) < 1e-6, str(trial.story)
