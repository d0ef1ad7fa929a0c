"""Real peers on graphs that change or go one way: a death (the simulator's bits: test_algorithms)."""

from __future__ import annotations

from typing import Any

import pytest
from lives import Life

from p2pser.graph.spec import parse

EVERYBODY = range(6)
RUNS = {
    "one-peer-exponential": ({"graph": {"kind": "one-peer-exponential", "peers": 6}}, ()),
    "push-sum by clips": ({"graph": {"kind": "random-digraph", "peers": 6, "seed": 3}},
                          ("gossip.algorithm=push-sum", "gossip.weighting=clips")),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_peer_is_left_out_and_the_others_end_together(real: Any, furthest: Any, name: str) -> None:
    document, settings = RUNS[name]
    topology = parse(document, "test")
    config = real.config("out", *settings, "network.ping_after=0.3", "network.suspect_after=1.0",
                         "network.dead_after=3.0")

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == 2 and "kind" not in record and record["round"] == 3:
            peers.kill(2)

    story = real.run(config, topology, kill, lives={2: Life(held_after=3)})
    living = [i for i in EVERYBODY if i != 2]
    assert {i: story.exit_codes[i] for i in living} == dict.fromkeys(living, 3), str(story)
    assert all(one["peers_dead"] == [2] for one in story.summaries.values())
    assert {peer for one in story.summaries.values() for _, peer, _ in one["left_out"]} == {2}
    assert furthest(real.rows(config, living)) < 1e-6
