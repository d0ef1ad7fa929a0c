"""Robust mixing between real processes: the simulator's rows, and each peer ends with its own model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from p2pser.simulation.engine import simulate
from p2pser.speech.federation import federate
from p2pser.topology.spec import load

COMPLETE = load("complete", peers=6)
EVERYBODY = range(6)


@pytest.mark.parametrize("algorithm", ["self-centred-clipping", "krum"])
def test_network_and_simulator_end_with_the_same_models_without_a_consensus(real: Any, algorithm: str) -> None:
    config = real.config("out", f"gossip.algorithm={algorithm}")
    story = real.run(config, COMPLETE)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    for one in story.summaries.values():
        assert (one["consensus"], one["consensus_distance"], one["consensus_exchanges"]) == (False, None, 0)
        assert one["left_out"] == []
    assert not any("given up" in sentence for peer in EVERYBODY for sentence in story.sentences(peer))
    exact = simulate(config, COMPLETE, federate(config, 6, workers=1), exact=True)
    rows = real.rows(config, EVERYBODY)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    assert torch.equal(rows, exact.rows)
