"""Outsiders hold every connection that a peer with few descriptors can take: the run goes on as without them."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from crowds import HALF_A_GREETING, crowd
from relays import Relays
from trials import Trial

from p2pser.graph.spec import load

RING = load("ring", peers=4)
DESCRIPTORS = 256
Furthest = Callable[[torch.Tensor], float]


@pytest.mark.parametrize("says", [b"", HALF_A_GREETING], ids=["silent", "slow"])
def test_a_crowd_of_outsiders_stops_no_run(real: Any, furthest: Furthest, says: bytes) -> None:
    config = real.config("out", "training.rounds=40", "training.local_steps=1", "peer.checkpoint_every=2")
    with Relays(RING) as relays, Trial(config, RING, relays, pace=0.1) as trial:
        trial.held[2] = 3  # the others wait for it until the crowd is noticed
        trial.start()
        trial.until_round(3)
        for i in trial.everybody:
            resource.prlimit(trial.peers.pid(i), resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        (listening,) = trial.told("listening", reporter=0)
        with crowd(int(listening["endpoint"].rpartition(":")[2]), 1500, says, slowly=True):
            trial.until_told("trouble", [0], peer=None)
            trial.kill(2, number=signal.SIGCONT)
            codes = trial.until_end()
    assert codes == dict.fromkeys(range(4), 0), str(trial.story)
    assert furthest(real.rows(config, range(4))) < 1e-6
    assert not trial.told("dead")
    assert all(one["left_out"] == [] for one in trial.story.summaries.values())
    lines = trial.events(0)
    assert len([one for one in lines if one["kind"] == "trouble"]) < 5
    assert not [one for one in lines if one["kind"] == "checkpoint_failed"]
