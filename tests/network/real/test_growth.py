"""A new topology file while the peers train: it takes effect at one round everywhere, and no process is restarted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sites import QUICK, OneFile, Sites

from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.network.meeting import CHANGE_WAIT

Furthest = Callable[[torch.Tensor], float]
ROUNDS = "training.rounds=100"
DEAD_AFTER = 3.0
"""As QUICK has it [s]."""


def ring(peers: int, epoch: int = 0, **more: Any) -> dict[str, Any]:
    return {"graph": {"kind": "ring", "peers": peers}, "epoch": epoch, **more}


def complete(peers: int, epoch: int) -> dict[str, Any]:
    return {"graph": {"kind": "complete", "peers": peers}, "epoch": epoch}


@dataclass(frozen=True)
class WithAnotherSecret(OneFile):
    """One peer has another secret, and so other keys."""

    odd: int
    secret: Path

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        config, topology = super().view(me, config)
        return config.with_settings([f"network.secret={self.secret}"]) if me == self.odd else config, topology


def trained(sites: Sites, *peers: int) -> float:
    """Return when the last of these peers went on to train after the change [s]."""
    sites.until_said("resumes at round", *peers)
    return max(one["heard"] for one in sites.told("say") if one["reporter"] in peers
               and "resumes at round" in one["sentence"])


@pytest.mark.parametrize("when", ["before", "at", "after"])
def test_one_more_peer_joins_a_ring_while_it_trains(real: Any, furthest: Furthest, tmp_path: Path, when: str) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=5)
    with Sites.of(tmp_path, config, ring(4)) as sites:
        sites.start(0, 1, 2, 3)
        sites.until_round(2, peers=range(4))
        sites.write(ring(5, epoch=1))
        if when == "before":
            sites.start(4)
            sites.until_said("give it epoch 1 of the topology file", 4)
        sites.hangup(0, 1, 2, 3)
        if when != "before":
            sites.until_said("goes on with epoch 1", *((0,) if when == "at" else range(4)))
            if when == "after":
                trained(sites, *range(4))
            sites.start(4)
        sites.until_said("joins the run in", 4)
        sites.finish()
        assert sites.until_end(peers=range(5)) == dict.fromkeys(range(5), 0), str(sites.story)
        sites.until_said("5 of 5 peers agreed", *range(5))
    assert furthest(real.rows(config, range(5))) < 1e-6
    resumed = [[one["round"] for one in real.events(config, me, "resumed")] for me in range(4)]
    assert [len(rounds) for rounds in resumed] == [1] * 4
    assert len(set(map(tuple, resumed))) == 1, resumed


def test_files_that_cannot_take_effect_say_why_and_change_nothing(real: Any, furthest: Furthest, tmp_path: Path,
                                                                  ) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=3)
    with Sites.of(tmp_path, config, ring(3)) as sites:
        sites.start(0, 1, 2)
        sites.until_round(2, peers=range(3))
        for document, why in (("graph: [", "sites.yaml"), (ring(4), "write 'epoch: 1' into it"),
                              (ring(2, epoch=1), "has no peer 2")):
            sites.write(document)
            sites.hangup(2)
            sites.until_said(why, 2)
        sites.write(ring(4, epoch=1))
        sites.hangup(0, 1)
        sites.until_said("has read epoch 1", 0, 1)
        sites.write(complete(4, epoch=1))
        sites.hangup(2)
        sites.until_said("has another topology file of epoch 1", 0, 1, 2)
        sites.finish()
        assert sites.until_end(peers=range(3)) == dict.fromkeys(range(3), 0), str(sites.story)
        assert not [one for one in sites.told("say") if "goes on with epoch" in one["sentence"]]
    assert furthest(real.rows(config, range(3))) < 1e-6


def test_a_retired_peer_leaves_and_the_others_train_on(real: Any, furthest: Furthest, tmp_path: Path) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=4)
    with Sites.of(tmp_path, config, ring(4)) as sites:
        sites.start(0, 1, 2, 3)
        sites.until_round(2, peers=range(4))
        sites.write(ring(4, epoch=1, retired=[2]))
        sites.hangup(0, 1, 3)
        assert sites.until_end(peers=[2]) == {2: 0}
        sites.until_said("leaves the run for good", 2)
        trained(sites, 0, 1, 3)
        sites.finish()
        assert sites.until_end(peers=(0, 1, 3)) == dict.fromkeys((0, 1, 3), 0), str(sites.story)
        sites.until_said("3 of 3 peers agreed", 0, 1, 3)
    assert furthest(real.rows(config, (0, 1, 3))) < 1e-6


def test_a_restart_with_the_file_does_as_well_as_a_signal(real: Any, furthest: Furthest, tmp_path: Path) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=4)
    with Sites.of(tmp_path, config, ring(4)) as sites:
        sites.start(0, 1, 2, 3)
        sites.until_round(2, peers=range(4))
        sites.write(complete(4, epoch=1))
        sites.kill(1)
        sites.start(1)
        sites.hangup(0, 2, 3)
        sites.until_said("goes on with epoch 1", 0, 2, 3)
        sites.until_said("joins the run in", 1)
        sites.finish()
        assert sites.until_end(peers=range(4)) == dict.fromkeys(range(4), 0), str(sites.story)
        sites.until_said("4 of 4 peers agreed", *range(4))
    assert furthest(real.rows(config, range(4))) < 1e-6


def test_one_that_is_killed_at_the_change_is_waited_for_only_shortly(real: Any, furthest: Furthest, tmp_path: Path,
                                                                     ) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=4)
    with Sites.of(tmp_path, config, ring(4)) as sites:
        sites.start(0, 1, 2, 3)
        sites.until_round(2, peers=range(4))
        sites.write(complete(4, epoch=1))
        sites.hangup(0, 1, 2, 3)
        sites.until_said("goes on with epoch 1", 1)
        sites.kill(1)
        killed = sites.told("gone")[-1]["heard"]
        assert trained(sites, 0, 2, 3) <= killed + DEAD_AFTER + CHANGE_WAIT + 20.0  # a busy machine
        sites.finish()
        assert sites.until_end(peers=(0, 2, 3)) == dict.fromkeys((0, 2, 3), 3), str(sites.story)
    assert furthest(real.rows(config, (0, 2, 3))) < 1e-6


def test_a_newcomer_with_a_wrong_key_ends_and_one_that_is_early_waits(real: Any, tmp_path: Path) -> None:
    config = real.config("out", ROUNDS, *QUICK, peers=4)
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    with Sites.of(tmp_path, config, ring(3)) as sites:
        sites.start(0, 1, 2)
        sites.until_round(2, peers=range(3))
        sites.write(ring(4, epoch=1))
        right, sites.wires = sites.wires, WithAnotherSecret(sites.wires.file, 3, secret)
        sites.start(3)
        assert sites.until_end(peers=[3]) == {3: 2}
        assert "does not hold the key" in sites.story.failures[3]
        sites.wires = right
        sites.start(3)
        sites.until_said("give it epoch 1 of the topology file", 3)
        sites.hangup(0, 1, 2)
        sites.until_said("joins the run in", 3)
        sites.finish()
        assert sites.until_end(peers=range(4)) == dict.fromkeys(range(4), 0), str(sites.story)
