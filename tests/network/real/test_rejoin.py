"""A peer that died is started again while the others go on: it takes part again, and all end with one model."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import Command, hold_rounds

from p2pser.config import Config
from p2pser.graph.spec import Topology, load
from p2pser.peer.telemetry import read

RING = load("ring", peers=5)
EXPONENTIAL = load("one-peer-exponential", peers=5)
DIRECTED = load("directed-ring", peers=5)
EVERYBODY = range(5)
ODD = 2
FIRST, SECOND = 6, 12
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0")
Furthest = Callable[[torch.Tensor], float]


class Site:
    """Peers as commands of their own, held in two rounds until ``go_on``."""

    def __init__(self, config: Config, folder: Path, topology: Topology = RING) -> None:
        self.folder, self.path, self.topology = folder, folder / "run.yaml", topology
        for round in (FIRST, SECOND):
            os.mkfifo(folder / f"hold-{round}")
        self.path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        self.running: dict[int, Command] = {}

    def start(self, me: int) -> None:
        if me in self.running:
            self.running[me].close()
        self.running[me] = Command("peer", "--id", str(me), "--topology", self.topology.name, "--peers",
                                   str(self.topology.size), "--run", str(self.path),
                                   change=functools.partial(hold_rounds, self.folder))

    def said(self, me: int, *words: str) -> None:
        """Read what a peer says until it has said each of these, in any order."""
        missing, lines = set(words), []
        for line in self.running[me].stderr:
            lines.append(line)
            missing -= {one for one in missing if one in line}
            if not missing:
                return
        pytest.fail(f"peer {me} did not say {missing}: {''.join(lines)}")

    def go_on(self, round: int) -> None:
        path = self.folder / f"hold-{round}"
        writer = os.open(path, os.O_RDWR)  # with O_WRONLY it would wait for somebody who is held
        path.unlink()
        os.close(writer)

    def close(self) -> None:
        for one in self.running.values():
            one.close()


ONE_STEP = ("training.local_steps=1",)
KINDS: dict[str, tuple[str, Topology, tuple[str, ...]]] = {
    "dfedavg": ("dfedavg", RING, ()),
    "late": ("d-psgd", RING, ("network.start_timeout=15", *ONE_STEP)),
    "trackers": ("gradient-tracking", RING, ONE_STEP),
    "copies": ("choco", RING, ()),
    "mass": ("push-sum", DIRECTED, ()),
    "schedule": ("overlap", EXPONENTIAL, ()),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_peer_that_died_or_comes_late_takes_part(real: Any, furthest: Furthest, tmp_path: Path, kind: str) -> None:
    name, topology, settings = KINDS[kind]
    late = kind == "late"
    config = real.config("out", "training.rounds=30", "training.momentum=0", f"gossip.algorithm={name}", *QUICK,
                         *settings, peers=topology.size)
    site = Site(config, tmp_path, topology)
    try:
        for me in EVERYBODY:
            if me != ODD or not late:
                site.start(me)
        if late:
            for neighbour in topology.neighbours(ODD):
                site.said(neighbour, "starts with round 0")
        else:
            site.said(ODD, "starts with round 0")
            site.running[ODD].send_signal(signal.SIGKILL)
            site.running[ODD].communicate()
            for neighbour in topology.neighbours(ODD):
                site.said(neighbour, f"peer {ODD} is DEAD")
        site.start(ODD)
        site.said(ODD, "the run is in progress")
        (tmp_path / "slowly").touch()
        site.go_on(FIRST)
        site.said(ODD, "joins the run in round")
        (tmp_path / "slowly").unlink()
        site.go_on(SECOND)
        said = {me: one.communicate()[1] for me, one in site.running.items()}
        assert {me: one.returncode for me, one in site.running.items()} == dict.fromkeys(EVERYBODY, 0), said
    finally:
        site.close()
    rows = real.rows(config, EVERYBODY)
    assert furthest(rows) < 1e-6
    summaries = {me: real.events(config, me, "finished")[0] for me in EVERYBODY}
    for one in summaries.values():
        assert (one["peers_dead"], one["consensus"], one["drift"]) == ([], True, 0), summaries
    # From its entry on it trains with the others, and its neighbours mix what it sends.
    rounds = [one["round"] for one in read(real.peer_folder(config, ODD) / "metrics.jsonl")]
    assert set(range(SECOND + 1, 30)) <= set(rounds)
    # (One that it never sends a row knows only in the end that it is back.)
    hearing = topology.neighbours(ODD) if topology.schedule is None else topology.receivers(ODD, 0)
    for neighbour in hearing:
        assert len(real.events(config, neighbour, "rejoined", peer=ODD)) == 1
        assert max(step[0] for step, peer, _ in summaries[neighbour]["left_out"] if peer == ODD) <= SECOND
