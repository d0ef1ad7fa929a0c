"""What ``p2pser plan`` tells beforehand, beside what real peers report."""

from __future__ import annotations

from typing import Any

import pytest

from p2pser.experiments.costs import costs
from p2pser.graph.spec import load
from p2pser.peer.telemetry import read
from p2pser.simulation.clock import Clock

ROUNDS = 40
WHOLE = 0.15
"""The whole is within 15 %: how many exchanges the final consensus takes depends on the clips, and which of its last
rows still leave, on chance."""


@pytest.mark.parametrize("algorithm", ["dfedavg", "secure-average"])
def test_the_planned_bytes_are_those_that_peers_count(real: Any, algorithm: str) -> None:
    config = real.config("out", f"training.rounds={ROUNDS}", "features.normalise=global",
                         f"gossip.algorithm={algorithm}", peers=4)
    topology = load("ring", peers=4)
    story = real.run(config, topology)
    assert len(story.summaries) == 4, str(story)
    planned = costs(config, topology, [8] * 4, Clock(), emotions=2)
    for i, summary in story.summaries.items():
        counted = [one["bytes_sent"] for one in read(real.peer_folder(config, i) / "metrics.jsonl")]
        each = planned.sent.rounds[i] / ROUNDS
        # When a peer counts, its rows of this round may still wait to leave.
        assert (ROUNDS - 1) * each == pytest.approx(counted[-1] - counted[0], rel=0.01, abs=1.01 * each)
        assert planned.sent.whole[i] == pytest.approx(summary["bytes_sent"], rel=WHOLE), i
        assert planned.payload[i] == pytest.approx(summary["payload_sent"], rel=WHOLE), i
