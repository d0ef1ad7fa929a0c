"""Links that fail and heal between real peers: all end together, with one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from relays import Relays
from trials import Trial, between

from p2pser.graph.spec import load

RING = load("ring", peers=6)
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0")
PACE = 0.2
"""Seconds of local work in a round: the run outlasts the disturbance, however fast the processor is."""
Furthest = Callable[[torch.Tensor], float]


def test_a_cut_shorter_than_dead_after_changes_nothing(real: Any, furthest: Furthest) -> None:
    config = real.config("out", "training.rounds=30", "training.local_steps=1", *QUICK, "network.dead_after=60")
    with Relays(RING) as relays, Trial(config, RING, relays, PACE) as trial:
        trial.start()
        trial.until_round(3)
        relays.set(between(RING, (0, 1, 2)), cut=True)
        trial.until_told("suspect", (0, 2, 3, 5))
        relays.heal()
        trial.until_told("alive", (0, 2, 3, 5))
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(6), 0), str(trial.story)
    assert furthest(real.rows(config, range(6))) < 1e-6
    assert not trial.told("dead")
    assert all(one["left_out"] == [] for one in trial.story.summaries.values())


def test_a_link_that_carries_one_way_only_is_lost_at_one_end(real: Any, furthest: Furthest) -> None:
    config = real.config("out", "training.rounds=30", "training.local_steps=1", *QUICK)
    with Relays(RING) as relays, Trial(config, RING, relays, PACE) as trial:
        trial.start()
        trial.until_round(3)
        relays.set([(0, 1)], cut=True)
        trial.until_told("dead", [1], peer=0)
        codes = trial.until_end()
    assert set(codes.values()) <= {0, 3}, str(trial.story)
    assert furthest(real.rows(config, range(6))) < 1e-6, str(trial.story)


def test_a_cut_longer_than_dead_after_heals_and_ends_with_one_model(real: Any, furthest: Furthest) -> None:
    config = real.config("out", "training.rounds=100", "training.local_steps=1", *QUICK)
    half = (0, 1, 2)
    with Relays(RING) as relays, Trial(config, RING, relays, PACE) as trial:
        trial.start()
        trial.until_round(5)
        relays.set(between(RING, half), cut=True)
        trial.until_told("dead", (0, 2, 3, 5))
        cut = len(trial.story.records)
        relays.heal()
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(6), 0), str(trial.story)
    assert furthest(real.rows(config, range(6))) < 1e-6
    assert all(one["peers_dead"] == [] and one["consensus"] for one in trial.story.summaries.values())
    # Both ends of each healed link say that it is used again: p2pser status shows no neighbour as away for good.
    assert set(between(RING, half)) <= {(one["reporter"], one["peer"]) for one in trial.story.records[cut:]
                                        if one.get("kind") == "alive"}, str(trial.story)


def test_eight_peers_cut_into_five_and_three_end_with_one_model(real: Any, furthest: Furthest) -> None:
    topology = load("random-regular", peers=8, seed=0)
    part = (0, 2, 6)
    config = real.config("out", "training.rounds=60", "training.local_steps=1", *QUICK, "network.dead_after=4", peers=8)
    cut = between(topology, part)
    with Relays(topology) as relays, Trial(config, topology, relays, 0.3) as trial:
        trial.start()
        trial.until_round(4)
        relays.set(cut, cut=True)
        trial.until_told("dead", {i for i, _ in cut})
        relays.heal()
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(8), 0), str(trial.story)
    assert furthest(real.rows(config, range(8))) < 1e-6
    assert not {(one["reporter"], one["peer"]) for one in trial.told("dead")} - set(cut)
