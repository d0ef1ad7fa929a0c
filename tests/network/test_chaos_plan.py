"""scripts/chaos: its plan is a function of the seed, and hits no process twice at a time; the waits that it reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import chaos_plan
import chaos_trial
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


def test_faults_elsewhere_do_not_hide_a_peer_that_stands() -> None:
    """Peer 0 ends no round for 30 s, peer 1 is killed in the middle and back at once; a fault every ten seconds."""
    def chaos(*faults: tuple[str, int, float]) -> Any:
        ends = [(0, 1.0), (1, 1.5), (0, 2.0), (1, 3.0), (1, 33.0), (0, 32.0), (0, 33.0)]
        records = [{"reporter": peer, "round": number, "heard": when} for number, (peer, when) in enumerate(ends)]
        happened = [chaos_trial.Happened(chaos_plan.Fault(0.0, kind, (peer,)), began, began + 1.0)
                    for kind, peer, began in faults]
        return SimpleNamespace(honest=[0, 1], happened=happened, trial=SimpleNamespace(story=SimpleNamespace(
            records=records)))

    elsewhere = chaos(("kill", 3, 5.0), ("kill", 1, 15.0), ("delay", 0, 25.0))
    assert chaos_trial.waits(elsewhere, 8.0) == ((7.0, "peer 0 in round 5"), (30.0, "peer 0 in round 5"))
    assert chaos_trial.waits(chaos(("stop", 0, 5.0), ("kill", 1, 15.0)), 8.0) == (
        (1.5, "peer 1 in round 3"), (1.5, "peer 1 in round 3"))
