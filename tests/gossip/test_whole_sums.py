"""Exact sums of whole numbers by a consensus or a secure sum, and none where a peer's part is lost."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.gossip.agreement.whole_sums import LARGEST, gossiped, secured
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import load
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets

PEERS, ROUND = 5, 1000


def rows(most: int) -> dict[int, np.ndarray]:
    draws = np.random.default_rng(most)
    return {i: draws.integers(0, most, 20) for i in range(PEERS)}


@pytest.mark.parametrize("graph", ["ring", "exponential", "star"])
@pytest.mark.parametrize("most", [1, 2**20, 2**40])
def test_the_sum_is_exact_and_the_same_at_all_peers(graph: str, most: int) -> None:
    topology, own = load(graph, peers=PEERS), rows(most)
    mixer = SimulatedMixer(topology, secrets=SeedSecrets(0, lambda *said: None))
    whole = np.sum(list(own.values()), axis=0)
    for found in (gossiped(mixer, own, ROUND, topology, peer=0), secured(mixer, own, ROUND, topology.graph, least=3)):
        assert found.keys() == own.keys()
        for total in found.values():
            assert total is not None
            assert total.dtype == np.int64
            assert np.array_equal(total, whole)


def test_of_a_peer_that_is_lost_before_nothing_counts_and_later_there_is_no_sum() -> None:
    topology, own = load("ring", peers=PEERS), rows(2**30)
    for slot, expected in ((0, np.sum([own[i] for i in own if i != 4], axis=0)), (4, None)):
        found = gossiped(SimulatedMixer(topology, dead={4: Step(ROUND, slot)}), own, ROUND, topology, peer=0)
        for i in set(own) - {4}:
            assert (found[i] is None) == (expected is None)
            assert expected is None or np.array_equal(found[i], expected)


def test_numbers_that_are_too_large_have_no_sum() -> None:
    topology = load("ring", peers=3)
    own = {i: np.full(2, LARGEST if i == 1 else 1) for i in range(3)}
    found = gossiped(SimulatedMixer(topology), own, ROUND, topology, peer=0)
    assert found == dict.fromkeys(range(3))
