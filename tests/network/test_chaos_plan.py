"""The plan of scripts/chaos is a function of the seed, and hits no process twice at a time."""

from __future__ import annotations

import chaos_plan
import pytest

from p2pser.graph.spec import load

RING = load("ring", peers=6)


def test_the_same_seed_gives_the_same_plan() -> None:
    first = chaos_plan.plan(RING, 3, 600, 10, 8.0)
    assert first == chaos_plan.plan(RING, 3, 600, 10, 8.0)
    assert first != chaos_plan.plan(RING, 4, 600, 10, 8.0)
    assert {one.kind for one in first} >= {"kill", "stop", "cut", "delay", "one-way"}
    assert all(0 <= one.at < 600 and 0 <= one.seconds <= 16 for one in first)


@pytest.mark.parametrize("seed", range(5))
def test_a_process_is_hit_by_one_fault_at_a_time(seed: int) -> None:
    faults = [one for one in chaos_plan.plan(RING, seed, 3600, 5, 8.0) if one.kind not in chaos_plan.LINKS]
    assert len(faults) > 50
    for at, earlier in enumerate(faults):
        for later in faults[at + 1:]:
            if later.peers == earlier.peers:
                assert later.at >= earlier.at + earlier.seconds, (earlier, later)
                assert earlier.kind != "hostile"


def test_only_the_faults_asked_for_are_drawn() -> None:
    faults = chaos_plan.plan(RING, 0, 600, 10, 8.0, ("cut", "hostile"))
    assert {one.kind for one in faults} == {"cut", "hostile"}
    assert sum(one.kind == "hostile" for one in faults) == 1
    for one in faults:
        assert one.kind != "cut" or 1 <= len(one.peers) <= 3
