"""Peers that were stopped lose their folders, or some of them: those that kept theirs lose nothing by it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lives import Life

from p2pser.graph.spec import load
from p2pser.peer.telemetry import read
from p2pser.run.checkpoint import available

STOP = 9
Furthest = Callable[[torch.Tensor], float]


def stopped(real: Any, config: Any, topology: Any) -> None:
    """Run all peers up to a round, and stop them there."""
    asked: set[int] = set()

    def interrupt(peers: Any, record: dict[str, Any]) -> None:
        me = record["reporter"]
        if "kind" not in record and record.get("round", 0) >= STOP - 1 and me not in asked:
            asked.add(me)
            peers.kill(me, signal.SIGINT)

    story = real.run(config, topology, interrupt,
                     lives=dict.fromkeys(range(topology.size), Life(held_after=STOP - 1)))
    assert story.exit_codes == dict.fromkeys(range(topology.size), 0), str(story)
    assert not story.summaries, str(story)


@pytest.mark.parametrize(("name", "peers", "lost"), [("ring", 5, [2]), ("chain", 4, [2, 3]), ("ring", 4, [0, 1, 2])])
def test_a_lost_folder_costs_its_own_peer_only(real: Any, furthest: Furthest, name: str, peers: int,
                                               lost: list[int]) -> None:
    topology, everybody = load(name, peers=peers), range(peers)
    config = real.config("out", "peer.checkpoint_every=2", "training.local_steps=10", "training.rounds=30", peers=peers)
    stopped(real, config, topology)
    kept = [i for i in everybody if i not in lost]
    common = max(set.intersection(*(set(available(real.peer_folder(config, i) / "checkpoint")) for i in kept)))
    assert common >= STOP - 3
    for i in lost:
        shutil.rmtree(real.peer_folder(config, i))
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(everybody, 0), str(story)
    assert sorted(story.summaries) == list(everybody), str(story)
    assert all(one["peers_dead"] == [] and one["consensus"] for one in story.summaries.values()), str(story)
    assert furthest(real.rows(config, everybody)) < 1e-6
    for i in kept:
        assert real.events(config, i, "resumed")[-1]["round"] == common
        assert real.events(config, i, "newcomers")[-1]["peers"] == lost
        assert min(one["round"] for one in read(real.peer_folder(config, i) / "metrics.jsonl")) == 0
    for i in lost:
        assert real.events(config, i, "joined")[0]["round"] >= common
        rounds = [one["round"] for one in read(real.peer_folder(config, i) / "metrics.jsonl")]
        assert min(rounds) >= common
        assert max(rounds) == 29
    for i in everybody:
        assert not list((real.peer_folder(config, i) / "checkpoint").glob("aside-*"))


def test_without_a_round_in_common_the_newest_that_most_have_counts(real: Any, furthest: Furthest) -> None:
    topology, everybody = load("ring", peers=4), range(4)
    config = real.config("out", "peer.checkpoint_every=2", "training.local_steps=10", "training.rounds=30", peers=4)
    stopped(real, config, topology)
    folders = {i: real.peer_folder(config, i) / "checkpoint" for i in everybody}
    common = max(set.intersection(*(set(available(folder)) for folder in folders.values())))
    for i, folder in folders.items():  # one has an older state, as from a backup; another one a state of later rounds
        kept = f"round-{common:06d}"  # or a later writing of it, with a suffix
        for path in sorted(folder.glob("round-*")):
            if i != 3 and not path.name.startswith(kept):
                shutil.rmtree(path)
            elif i == 1:
                path.rename(folder / "round-000002")
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(everybody, 0), str(story)
    assert furthest(real.rows(config, everybody)) < 1e-6
    assert real.events(config, 0, "newcomers")[-1] | {"at": 0} == {
        "kind": "newcomers", "peers": [1], "round": common, "at": 0}
    assert real.events(config, 0, "resumed")[-1]["round"] == common
